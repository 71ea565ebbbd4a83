//! NexusProMail: `POST /v1/transactional/send`, flat, one recipient a call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Serialize;

use super::answer::{self, Success, cause, error_code, for_all, kind_of_denial, kind_of_status, success_body};
use super::event::{self, Members, Told, reason};
use super::signature::{Encoding, Key, Part, Scheme, is_recent};
use super::{Batch, JsonMailbox, Limits, Pieces, Provider, Request, Response, body_of, from_of, subject_of, to_json};
use crate::controls::{Capacity, Controls};
use crate::feedback::{EventKind, Feedback, Unverified};
use crate::message::{Message, html_from_text};
use crate::outcome::{Cause, Kind, Outcome};

/// The pause when a 429 names none (the vendor's own sample: 60 s).
const DEFAULT_RETRY_AFTER: Duration = Duration::from_mins(1);

/// The signature is over the body alone, so nothing in it says when it was sent.
const SCHEME: Scheme = Scheme {
    signature: "x-nexuspromail-signature",
    timestamp: None,
    signed: &[Part::Body],
    encoding: Encoding::Hex,
    key: Key::Shared,
};
/// How old an event may be: for so long its id is known, and what somebody has read and sends again is a duplicate.
const OLDEST: Duration = Duration::from_hours(7 * 24);
/// How far ahead, because clocks differ. (If it is ours that is late, the vendor's next try comes in time.)
const AHEAD: Duration = Duration::from_mins(5);

/// The API. Its documented fields are `to` (one object), `from`, `subject`, `html`, `text` and `reply_to`; nothing is
/// known of attachments, Cc, header fields, controls or a raw form, so none of these is ever sent.
#[derive(Debug)]
pub struct NexusProMail {
    url: String,
}

impl NexusProMail {
    /// The API at the address of its send call.
    pub fn new(url: String) -> Self {
        Self { url }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    to: JsonMailbox<'a>,
    from: JsonMailbox<'a>,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<JsonMailbox<'a>>,
}

impl Provider for NexusProMail {
    fn limits(&self) -> Limits {
        Limits {
            vendor: "NexusProMail",
            recipients: 1,
            shows_recipients: false,
            attachments: 0,
            headers: false,
            reply_to: 1,
            // Not documented; what its peers take.
            body: 20 << 20,
            // Nor does any page name a field for tags, metadata, templates or tracking.
            controls: Capacity::NONE,
        }
    }

    fn render(&self, message: &Message, _controls: &Controls, batch: &Batch) -> Result<Request, Cause> {
        let recipient =
            batch.recipients().next().ok_or_else(|| Cause::new(Kind::Unexpected, "a batch without a recipient"))?;
        let body = Body {
            // The samples give `to` no name.
            to: JsonMailbox { email: recipient.as_str(), name: None },
            from: from_of(message)?.into(),
            subject: subject_of(message),
            reply_to: message.reply_to.first().map(|m| JsonMailbox { email: m.address.as_str(), name: None }),
        };
        let mut pieces = Pieces::of(to_json(&body));
        let text = body_of(message.text.as_ref());
        // Every sample of the vendor sends `html`; whether a mail may do without is not documented.
        let made = || Arc::new(html_from_text(text.map(|text| text.as_str()).unwrap_or_default()));
        let html = body_of(message.html.as_ref()).cloned().unwrap_or_else(made);
        pieces.raw(",\"html\":\"").text(&html).raw("\"");
        if let Some(text) = text {
            pieces.raw(",\"text\":\"").text(text).raw("\"");
        }
        let body = pieces.end();
        Ok(Request { api_key: None, method: Method::POST, url: self.url.clone(), headers: Vec::new(), body })
    }

    fn classify(&self, batch: &Batch, response: &Response) -> Vec<Outcome> {
        for_all(batch, &outcome_of(response))
    }

    fn scheme(&self) -> &'static Scheme {
        &SCHEME
    }

    fn events(&self, _headers: &HeaderMap, body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified> {
        event::read(tell, body, now)
    }
}

/// An event; its `created_at` is signed, and stands for the timestamp that the scheme has not.
fn tell(event: &Members<'_>, now: SystemTime) -> Result<Told, Unverified> {
    let no_time = || Unverified::Unreadable("it has no \"created_at\" that is a time".to_owned());
    let created = event.rfc3339("created_at").ok_or_else(no_time)?;
    if !is_recent(created, now, OLDEST, AHEAD) {
        return Err(Unverified::Stale);
    }
    let (word, data) = (event.needed("type")?, event.object("data"));
    Ok(Told {
        id: event.text("id"),
        // Its names are ours.
        kind: word.parse().unwrap_or(EventKind::Unknown),
        word,
        at: data.rfc3339("timestamp").or(Some(created)),
        message_id: data.text("message_id"),
        recipient: data.text("email"),
        reason: reason([data.text("bounce_code"), data.text("bounce_reason")]),
    })
}

fn outcome_of(response: &Response) -> Outcome {
    match response.status {
        200..=299 => success(response),
        422 if error_code(&response.body).as_deref() == Some("suppressed") => {
            Outcome::from_cause(cause(Kind::Suppressed, response))
        }
        422 if is_about_recipient(response) => Outcome::from_cause(cause(Kind::BadRecipient, response)),
        401 | 403 => Outcome::from_cause(cause(kind_of_denial(response), response)),
        429 => {
            let mut cause = cause(Kind::Throttled, response);
            cause.retry_after = cause.retry_after.or(Some(DEFAULT_RETRY_AFTER));
            Outcome::from_cause(cause)
        }
        404 | 405 => Outcome::from_cause(
            // The vendor's pages know two send paths.
            Cause::new(Kind::Misconfigured, "no send call here; send_path is /v1/transactional/send or /v1/api/send")
                .with_status(response.status),
        ),
        status => Outcome::from_cause(cause(kind_of_status(status), response)),
    }
}

/// Whether a validation error names `to.email`, and not `reply_to.email`.
fn is_about_recipient(response: &Response) -> bool {
    let words = answer::error_text(&response.body).unwrap_or_default();
    words.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').any(|word| word == "to.email")
}

/// A 2xx: the status is not the result where the body says otherwise. An id says that the mail was taken.
fn success(response: &Response) -> Outcome {
    let json = match success_body(response) {
        Success::Bare => return Outcome::Accepted { id: None },
        Success::Foreign => return Outcome::from_cause(cause(Kind::Misconfigured, response)),
        Success::Json(json) => json,
    };
    let id = json.get("message_id").and_then(|id| id.as_str()).map(str::to_owned);
    match error_code(&response.body).as_deref() {
        _ if id.is_some() => Outcome::Accepted { id },
        Some("suppressed") => Outcome::from_cause(cause(Kind::Suppressed, response)),
        Some(error) if !error.is_empty() => Outcome::from_cause(cause(Kind::Unexpected, response)),
        _ if json.get("success") == Some(&false.into()) => Outcome::from_cause(cause(Kind::Unexpected, response)),
        _ => Outcome::Accepted { id: None },
    }
}
