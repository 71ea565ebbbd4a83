//! Events of the SendGrid v3 family: the same words in both dialects, in other members.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Dialect;
use crate::feedback::{EventKind, Feedback, Unverified};
use crate::provider::event::{self, Event, Told, reason, scalar, unix};
use crate::provider::signature::{Encoding, Key, Part, Scheme, Timestamp, only};

/// The events' names; `spam_report` is ScaiSend's, `spamreport` SendGrid's.
const WORDS: &[(&str, EventKind)] = &[
    ("processed", EventKind::Queued),
    ("deferred", EventKind::Deferred),
    ("delivered", EventKind::Delivered),
    ("bounce", EventKind::BouncedHard),
    ("blocked", EventKind::Blocked),
    ("dropped", EventKind::Dropped),
    ("open", EventKind::Opened),
    ("click", EventKind::Clicked),
    ("spam_report", EventKind::Complained),
    ("spamreport", EventKind::Complained),
    ("unsubscribe", EventKind::Unsubscribed),
    ("group_unsubscribe", EventKind::Unsubscribed),
    ("group_resubscribe", EventKind::Resubscribed),
];

/// What a bounce is in truth if its type says so; both vendors put what is not for good under the same name.
const TYPES: &[(&str, EventKind)] =
    &[("blocked", EventKind::Blocked), ("block", EventKind::Blocked), ("soft", EventKind::BouncedSoft)];

/// The reference's five minutes, both ways.
const SCAISEND: Scheme = Scheme {
    signature: "x-scaisend-signature",
    timestamp: Some(Timestamp {
        field: "x-scaisend-timestamp",
        past: Duration::from_mins(5),
        future: Duration::from_mins(5),
    }),
    signed: &[Part::Timestamp, Part::Text("."), Part::Body],
    encoding: Encoding::Hex,
    key: Key::Shared,
};

/// SendGrid tries for a day, and nothing says that it signs anew each time: within five minutes, what came late because we
/// were away for an hour would be refused for good. What is sent again within that day is known by its events' ids.
const SENDGRID: Scheme = Scheme {
    signature: "x-twilio-email-event-webhook-signature",
    timestamp: Some(Timestamp {
        field: "x-twilio-email-event-webhook-timestamp",
        past: Duration::from_hours(25),
        future: Duration::from_mins(5),
    }),
    signed: &[Part::Timestamp, Part::Body],
    encoding: Encoding::Base64,
    key: Key::PublicP256,
};

/// Names the event, outside of what is signed.
const SCAISEND_EVENT: &str = "x-scaisend-event";

/// How the dialect's requests are signed.
pub(super) fn scheme(dialect: Dialect) -> &'static Scheme {
    match dialect {
        Dialect::ScaiSend => &SCAISEND,
        Dialect::SendGrid => &SENDGRID,
    }
}

/// The events of a request whose signature is good.
pub(super) fn read(
    dialect: Dialect,
    headers: &HeaderMap,
    body: &Bytes,
    now: SystemTime,
) -> Result<Vec<Feedback>, Unverified> {
    if dialect == Dialect::SendGrid {
        return event::read::<SendGridEvent>(body, now);
    }
    let events = event::read::<ScaiSendEvent>(body, now)?;
    // The body counts, since it is signed and the field is not. One that says something else was put there by somebody
    // else, for a reader that goes by it.
    match (only(headers, SCAISEND_EVENT)?, events.as_slice()) {
        (Some(named), [event]) if named != event.word.as_bytes() => Err(Unverified::Contradicted(SCAISEND_EVENT)),
        _ => Ok(events),
    }
}

/// ScaiSend's: one a request, by its pages.
#[derive(Deserialize)]
struct ScaiSendEvent {
    event_id: Option<String>,
    event_type: String,
    timestamp: Option<Value>,
    message_id: Option<String>,
    recipient_email: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Event for ScaiSendEvent {
    fn tell(self, _now: SystemTime) -> Result<Told, Unverified> {
        let about = |name: &str| self.metadata.get(name).and_then(scalar);
        Ok(Told {
            id: self.event_id,
            kind: kind(&self.event_type, about("bounce_type").as_deref()),
            at: self.timestamp.as_ref().map(unix).transpose()?,
            message_id: self.message_id,
            recipient: self.recipient_email,
            reason: reason([about("smtp_response"), about("reason")]),
            word: self.event_type,
        })
    }
}

/// SendGrid's. The members that it has not made itself are the mail's `custom_args`: any of the optional ones may be such.
#[derive(Deserialize)]
struct SendGridEvent {
    sg_event_id: Option<String>,
    event: String,
    timestamp: Option<Value>,
    sg_message_id: Option<String>,
    email: Option<String>,
    r#type: Option<Value>,
    status: Option<Value>,
    reason: Option<Value>,
    response: Option<Value>,
}

impl Event for SendGridEvent {
    fn tell(self, _now: SystemTime) -> Result<Told, Unverified> {
        let text = |value: &Option<Value>| value.as_ref().and_then(scalar);
        Ok(Told {
            id: self.sg_event_id,
            kind: kind(&self.event, text(&self.r#type).as_deref()),
            at: self.timestamp.as_ref().map(unix).transpose()?,
            message_id: self.sg_message_id.map(|id| api_id(&id).to_owned()),
            recipient: self.email,
            reason: reason([text(&self.status), text(&self.reason).or_else(|| text(&self.response))]),
            word: self.event,
        })
    }
}

fn kind(word: &str, of_type: Option<&str>) -> EventKind {
    let find = |table: &[(&str, EventKind)], word: &str| table.iter().find(|row| row.0 == word).map(|row| row.1);
    let kind = find(WORDS, word).unwrap_or(EventKind::Unknown);
    let of_type = of_type.and_then(|of_type| find(TYPES, of_type));
    of_type.filter(|_| kind == EventKind::BouncedHard).unwrap_or(kind)
}

/// The id that the send call gave (X-Message-Id): the beginning of the event's, up to the host that took it. The ids of
/// older accounts have dots of their own.
fn api_id(id: &str) -> &str {
    let ends = [".filter", ".recv"].iter().filter_map(|host| id.find(host)).min();
    ends.and_then(|end| id.get(..end)).unwrap_or(id)
}
