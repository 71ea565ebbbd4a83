//! From the body of a verified webhook request to events: what all APIs' events have in common.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::feedback::{EventKind, Feedback, Unverified};
use crate::message::rfc3339;
use crate::outcome::printable;

/// Longest reason, in octets.
const MAX_REASON: usize = 300;
/// Longest of the provider's own words and ids.
const MAX_WORD: usize = 255;
/// Deepest nesting; the providers' events have three levels.
const DEEPEST: usize = 100;

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

/// The members of an object, each read when it is asked for. What is missing, of another sort than it should be, or not to
/// be read (half of a surrogate pair, 1e400) is not there: an odd member must not lose an event, whose raw body is kept for
/// whoever looks.
#[derive(Default)]
pub struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    fn of(object: &'a RawValue) -> Result<Self, Unverified> {
        serde_json::from_str(object.get()).map(Self).map_err(|e| unreadable(&e))
    }

    fn value(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// A text, or a number as a text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text),
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
        self.0.get(name).and_then(|object| Self::of(object).ok()).unwrap_or_default()
    }

    /// Unix seconds, as a number or a text.
    pub fn unix(&self, name: &str) -> Option<SystemTime> {
        let seconds: f64 = self.text(name)?.parse().ok()?;
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// A time as RFC 3339 writes it.
    pub fn rfc3339(&self, name: &str) -> Option<SystemTime> {
        rfc3339(&self.text(name)?)
    }
}

/// The events of a body: one object, or a list of them. What of a list cannot be read is kept as an event of unknown kind:
/// the others must not be lost by it, and whoever looks finds it.
///
/// # Errors
/// [`Unverified::Unreadable`] if nothing can be read, and what `tell` says.
pub fn read(tell: Tell, body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified> {
    if depth(body) > DEEPEST {
        return Err(Unverified::Unreadable("it is nested too deeply".to_owned()));
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(|e| unreadable(&e))?;
    let list: Vec<&RawValue> = match whole.get().as_bytes().first() {
        Some(b'{') => return Ok(vec![feedback(tell(&Members::of(whole)?, now)?, body.clone(), now)]),
        Some(b'[') => serde_json::from_str(whole.get()).map_err(|e| unreadable(&e))?,
        _ => return Err(Unverified::Unreadable("it is neither an object nor a list".to_owned())),
    };
    let mut wrong = None;
    let mut events = Vec::with_capacity(list.len());
    for event in list {
        let told = match Members::of(event).and_then(|members| tell(&members, now)) {
            Err(Unverified::Unreadable(why)) => {
                wrong = Some(why.clone());
                unknown(why)
            }
            told => told?,
        };
        events.push(feedback(told, body.slice_ref(event.get().as_bytes()), now));
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

/// How deeply objects and lists are nested in what may be JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for octet in json {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
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
        recipient: told.recipient.and_then(|text| Address::from_words(&text).ok()),
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
