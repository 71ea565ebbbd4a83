//! `#[serde(with = "span")]`: how long something is kept, in words: `"7d"`, `"30days"`, `"12h"`; never 0.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Longer than anything is meant to be kept.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 10);

/// Reads it.
///
/// # Errors
/// Not such a text, nothing at all, or more than ten years.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(span) if span.is_zero() => Err(serde::de::Error::custom("0 keeps nothing")),
        Ok(span) if span > LONGEST => Err(serde::de::Error::custom("more than ten years must be a slip")),
        Ok(span) => Ok(span),
        Err(_) => Err(serde::de::Error::custom(format!("{text:?} is not a time like \"7d\" or \"12h\""))),
    }
}
