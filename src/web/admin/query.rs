//! The parameters of a call: only those that it knows, each once, each read strictly.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use axum::http::Uri;
use sha2::{Digest, Sha256};

use super::Refusal;
use crate::address::Address;
use crate::message::unix_seconds;

/// Entries of a page, unless asked otherwise, and at most.
const LIMIT: (usize, usize) = (50, 500);

/// The parameters that came.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads them.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|e| Refusal::wrong(format!("the query cannot be read: {e}")))?;
        for (place, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Refusal::wrong(format!("there is no parameter {name:?} here; known are: {known}")));
            }
            if pairs.iter().take(place).any(|(earlier, _)| earlier == name) {
                return Err(Refusal::wrong(format!("{name} is given twice; give it once")));
            }
        }
        Ok(Self(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// A text; one that is empty is none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// A value that its type reads.
    pub(super) fn value<T: std::str::FromStr<Err = String>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let read = |text: String| text.parse().map_err(|e| Refusal::wrong(format!("{name}: {e}")));
        self.text(name).map(read).transpose()
    }

    /// A mail address.
    pub(super) fn address(&self, name: &str) -> Result<Option<Address>, Refusal> {
        self.text(name).map(|text| address(&text)).transpose()
    }

    /// A time that is over.
    pub(super) fn past(&self, name: &str) -> Result<Option<SystemTime>, Refusal> {
        let read = |text: String| past(&text, SystemTime::now()).map_err(|e| Refusal::wrong(format!("{name}: {e}")));
        self.text(name).map(read).transpose()
    }

    /// Where a page of this list begins.
    pub(super) fn after(&self, list: &str) -> Result<Option<String>, Refusal> {
        let wrong = || Refusal::wrong("after must be the `next` of the page before, as it came");
        self.text("after").map(|cursor| read_cursor(list, &cursor).ok_or_else(wrong)).transpose()
    }

    /// How many entries.
    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        let Some(text) = self.text("limit") else { return Ok(LIMIT.0) };
        let number = text.parse().ok().filter(|number| (1..=LIMIT.1).contains(number));
        number.ok_or_else(|| Refusal::wrong(format!("limit must be a whole number from 1 to {}", LIMIT.1)))
    }
}

/// A cursor of the store's as callers get it: in hexadecimal, and with a sum, so that a broken one, or one of another list,
/// is told from one that leads to nothing.
pub(super) fn next(list: &str, cursor: Option<String>) -> Option<String> {
    cursor.map(|cursor| format!("{:08x}{}", sum(list, &cursor), hex(cursor.as_bytes())))
}

fn read_cursor(list: &str, text: &str) -> Option<String> {
    let (sum_of, octets) = text.split_at_checked(8)?;
    let digits: Option<Vec<u8>> =
        octets.chars().map(|digit| digit.to_digit(16).and_then(|n| u8::try_from(n).ok())).collect();
    let octets = digits?.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect();
    let cursor = String::from_utf8(octets).ok()?;
    (u32::from_str_radix(sum_of, 16).ok()? == sum(list, &cursor)).then_some(cursor)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}

fn sum(list: &str, cursor: &str) -> u32 {
    Sha256::digest(format!("{list} {cursor}")).iter().take(4).fold(0, |sum, octet| sum << 8 | u32::from(*octet))
}

/// A mail address as a caller writes it.
pub(super) fn address(text: &str) -> Result<Address, Refusal> {
    Address::from_words(text)
        .map_err(|e| Refusal::wrong(format!("{text:?} is no mail address like ann@example.com: {e}")))
}

/// A time in the past: RFC 3339, a date (its beginning, UTC), or a duration: so long ago.
pub(super) fn past(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    match point(text) {
        Some(time) => Ok(time),
        None => span(text).map(|span| now.checked_sub(span).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)),
    }
}

/// A time to come: RFC 3339, a date, or a duration from now.
pub(super) fn future(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let time = match point(text) {
        Some(time) => time,
        None => now.checked_add(span(text)?).ok_or("is too far away")?,
    };
    if time <= now {
        return Err(format!("{text:?} is over already"));
    }
    Ok(time)
}

/// RFC 3339, or a date.
pub(super) fn point(text: &str) -> Option<SystemTime> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    unix_seconds(&whole).and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("{text:?} is no time; write 2026-11-22T09:00:00Z, 2026-11-22, or a duration like 2d, 12h or 30m")
    })
}
