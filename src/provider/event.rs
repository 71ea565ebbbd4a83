//! From the body of a verified webhook request to events: what all APIs' events have in common.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::address::{Address, Alphabet};
use crate::feedback::{EventKind, Feedback, Unverified};
use crate::outcome::printable;

/// Longest reason, in octets.
const MAX_REASON: usize = 300;
/// Longest of the provider's own words and ids.
const MAX_WORD: usize = 255;

/// One event as its provider words it, of which nothing is believed to be there.
pub struct Told {
    /// Its id.
    pub id: Option<String>,
    /// Which sort it is.
    pub kind: EventKind,
    /// Its word for that.
    pub word: String,
    /// When it happened.
    pub at: Option<SystemTime>,
    /// The message's id, as the send call gave it.
    pub message_id: Option<String>,
    /// Whom it is about.
    pub recipient: Option<String>,
    /// Codes and words.
    pub reason: Option<String>,
}

/// Reads one event.
pub trait Event: DeserializeOwned {
    /// What it says.
    ///
    /// # Errors
    /// What is wrong with it.
    fn tell(self, now: SystemTime) -> Result<Told, Unverified>;
}

/// The events of a body: one object, or a list of them. What of a list cannot be read is kept as an event of unknown kind:
/// the others must not be lost by it, and whoever looks finds it.
///
/// # Errors
/// [`Unverified::Unreadable`] if nothing can be read, and what [`Event::tell`] says.
pub fn read<E: Event>(body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified> {
    // Reads all of it once, so that nothing in it is nested deeper than serde_json's limit of 128.
    let list = match serde_json::from_slice::<Value>(body).map_err(|e| unreadable(&e))? {
        Value::Object(_) => return Ok(vec![one::<E>(body.clone(), now)?]),
        Value::Array(_) => serde_json::from_slice::<Vec<&RawValue>>(body).map_err(|e| unreadable(&e))?,
        _ => return Err(Unverified::Unreadable("it is neither an object nor a list".to_owned())),
    };
    let raw = list.iter().map(|event| body.slice_ref(event.get().as_bytes()));
    let mut wrong = None;
    let mut events = Vec::with_capacity(list.len());
    for raw in raw {
        events.push(match one::<E>(raw.clone(), now) {
            Err(Unverified::Unreadable(why)) => {
                wrong = Some(why.clone());
                feedback(unknown(why), raw, now)
            }
            known => known?,
        });
    }
    match wrong {
        Some(why) if events.iter().all(|event| event.word == UNREADABLE) => Err(Unverified::Unreadable(why)),
        _ => Ok(events),
    }
}

/// The word for an event that is none.
const UNREADABLE: &str = "(unreadable)";

fn unknown(why: String) -> Told {
    Told {
        id: None,
        kind: EventKind::Unknown,
        word: UNREADABLE.to_owned(),
        at: None,
        message_id: None,
        recipient: None,
        reason: Some(why),
    }
}

fn one<E: Event>(raw: Bytes, now: SystemTime) -> Result<Feedback, Unverified> {
    let event: E = serde_json::from_slice(&raw).map_err(|e| unreadable(&e))?;
    Ok(feedback(event.tell(now)?, raw, now))
}

fn feedback(told: Told, raw: Bytes, now: SystemTime) -> Feedback {
    let short = |text: &String| !text.is_empty() && text.len() <= MAX_WORD;
    Feedback {
        // The same octets are the same event.
        event_id: told.id.filter(short).unwrap_or_else(|| digest(&raw)),
        kind: told.kind,
        word: printable(&told.word, MAX_WORD),
        // Nothing is known before it happens; clocks differ.
        at: told.at.unwrap_or(now).min(now),
        message_id: told.message_id.filter(short),
        recipient: told.recipient.and_then(|text| Address::parse_in(Alphabet::Utf8, text.trim()).ok()),
        reason: told.reason.map(|reason| printable(&reason, MAX_REASON)).filter(|reason| !reason.is_empty()),
        raw,
    }
}

fn digest(raw: &[u8]) -> String {
    Sha256::digest(raw).iter().fold("sha256:".to_owned(), |hex, octet| hex + &format!("{octet:02x}"))
}

fn unreadable(error: &serde_json::Error) -> Unverified {
    Unverified::Unreadable(printable(&error.to_string(), MAX_REASON))
}

/// Words in a row, those that are there, none that the next ones begin with.
pub fn reason(words: [Option<String>; 2]) -> Option<String> {
    let [code, text] = words.map(|words| words.filter(|words| !words.is_empty()));
    match (code, text) {
        (Some(code), Some(text)) if !text.contains(&code) => Some(format!("{code} {text}")),
        (code, text) => text.or(code),
    }
}

/// A text or a number, as a text.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Unix seconds, as a number or a text.
///
/// # Errors
/// It is neither.
pub fn unix(value: &Value) -> Result<SystemTime, Unverified> {
    let seconds = scalar(value).and_then(|text| text.parse::<f64>().ok());
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let at = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    at.ok_or_else(|| Unverified::Unreadable(printable(&format!("timestamp {value} is no time"), MAX_REASON)))
}

/// A time as RFC 3339 writes it.
///
/// # Errors
/// It is none.
pub fn rfc3339(text: &str) -> Result<SystemTime, Unverified> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| Unverified::Unreadable(printable(&format!("{text:?} is no time"), MAX_REASON)))
}
