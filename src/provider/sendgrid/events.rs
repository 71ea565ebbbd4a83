//! Events of the SendGrid v3 family: the same words in both dialects, in other members.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

use super::Dialect;
use crate::feedback::{EventKind, Feedback, Unverified};
use crate::provider::event::{self, Members, Told, reason};
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
        return event::read(tell_sendgrid, body, now);
    }
    let events = event::read(tell_scaisend, body, now)?;
    // The body counts, since it is signed and the field is not. One that says something else was put there by somebody
    // else, for a reader that goes by it.
    match (only(headers, SCAISEND_EVENT)?, events.as_slice()) {
        (Some(named), [event]) if named != event.word.as_bytes() => Err(Unverified::Contradicted(SCAISEND_EVENT)),
        _ => Ok(events),
    }
}

/// ScaiSend's: one a request, by its pages.
fn tell_scaisend(event: &Members<'_>, _now: SystemTime) -> Result<Told, Unverified> {
    let (word, about) = (event.needed("event_type")?, event.object("metadata"));
    Ok(Told {
        id: event.text("event_id"),
        kind: kind(&word, about.text("bounce_type").as_deref()),
        at: event.unix("timestamp"),
        message_id: event.text("message_id"),
        recipient: event.text("recipient_email"),
        reason: reason([about.text("smtp_response"), about.text("reason")]),
        word,
    })
}

/// SendGrid's. The members that it has not made itself are the mail's `custom_args`.
fn tell_sendgrid(event: &Members<'_>, _now: SystemTime) -> Result<Told, Unverified> {
    let word = event.needed("event")?;
    Ok(Told {
        id: event.text("sg_event_id"),
        kind: kind(&word, event.text("type").as_deref()),
        at: event.unix("timestamp"),
        message_id: event.text("sg_message_id").map(|id| api_id(&id).to_owned()),
        recipient: event.text("email"),
        reason: reason([event.text("status"), event.text("reason").or_else(|| event.text("response"))]),
        word,
    })
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
