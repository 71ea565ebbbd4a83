//! From the body of a verified webhook request to events: what all APIs' events have in common.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
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

/// What one event says, or what is wrong with it.
pub type Tell = fn(&Members<'_>, SystemTime) -> Result<Told, Unverified>;

/// The members of an object. What is missing or of another sort than it should be is not there: an odd member must not
/// lose an event, whose raw body is kept for whoever looks.
pub struct Members<'a>(Option<&'a Map<String, Value>>);

impl Members<'_> {
    /// A text, or a number as a text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.0?.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The same of a member that has to be there.
    ///
    /// # Errors
    /// It is not.
    pub fn needed(&self, name: &str) -> Result<String, Unverified> {
        self.text(name).ok_or_else(|| Unverified::Unreadable(format!("it has no {name:?}")))
    }

    /// An object; without members where there is none.
    #[must_use]
    pub fn object(&self, name: &str) -> Self {
        Self(self.0.and_then(|members| members.get(name)?.as_object()))
    }

    /// Unix seconds, as a number or a text.
    pub fn unix(&self, name: &str) -> Option<SystemTime> {
        let seconds: f64 = self.text(name)?.parse().ok()?;
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// A time as RFC 3339 writes it.
    pub fn rfc3339(&self, name: &str) -> Option<SystemTime> {
        humantime::parse_rfc3339_weak(&self.text(name)?).ok()
    }
}

/// The events of a body: one object, or a list of them. What of a list cannot be read is kept as an event of unknown kind:
/// the others must not be lost by it, and whoever looks finds it.
///
/// # Errors
/// [`Unverified::Unreadable`] if nothing can be read, and what `tell` says.
pub fn read(tell: Tell, body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified> {
    // Reads all of it once, so that nothing in it is nested deeper than serde_json's limit of 128.
    let list = match serde_json::from_slice::<Value>(body).map_err(|e| unreadable(&e))? {
        Value::Object(members) => return Ok(vec![feedback(tell(&Members(Some(&members)), now)?, body.clone(), now)]),
        Value::Array(_) => serde_json::from_slice::<Vec<&RawValue>>(body).map_err(|e| unreadable(&e))?,
        _ => return Err(Unverified::Unreadable("it is neither an object nor a list".to_owned())),
    };
    let mut wrong = None;
    let mut events = Vec::with_capacity(list.len());
    for raw in list.iter().map(|event| body.slice_ref(event.get().as_bytes())) {
        let told = match one(tell, &raw, now) {
            Err(Unverified::Unreadable(why)) => {
                wrong = Some(why.clone());
                unknown(why)
            }
            told => told?,
        };
        events.push(feedback(told, raw, now));
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

fn one(tell: Tell, raw: &Bytes, now: SystemTime) -> Result<Told, Unverified> {
    let members: Map<String, Value> = serde_json::from_slice(raw).map_err(|e| unreadable(&e))?;
    tell(&Members(Some(&members)), now)
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
