//! The SendGrid v3 shape, `POST /v3/mail/send`: personalizations; dialects ScaiSend and SendGrid.

mod controls;
mod events;
mod lists;
pub(super) mod lookup;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use controls::Asked;
use http::{HeaderMap, Method};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::answer::{Complaint, Success, cause, complaints, for_all, kind_of_denial, kind_of_status, success_body};
use super::signature::Scheme;
use super::{
    Batch, Found, JsonMailbox, Limits, Listed, Pieces, Provider, Request, Response, Search, Unanswered, body_of,
    from_of, subject_of, to_json,
};
use crate::address::Address;
use crate::config::Lookup;
use crate::controls::{Control, Controls};
use crate::feedback::{Feedback, Unverified};
use crate::message::{Attachment, Mailbox, Message};
use crate::outcome::{Cause, Kind, Outcome};
use crate::suppression::Reason;

/// Where the two services differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ScaiSend: 202 with JSON, at most 10 attachments, 20 MB.
    ScaiSend,
    /// SendGrid: 202 without a body and the id in X-Message-Id, 30 MB.
    SendGrid,
}

/// Longest file name that ScaiSend takes, in characters.
const MAX_NAME: usize = 255;
/// Longest extension that a shortened name keeps, in characters.
const MAX_EXTENSION: usize = 16;

/// The API.
#[derive(Debug)]
pub struct SendGrid {
    url: String,
    dialect: Dialect,
    /// The base of the calls for lists, if they are to be made.
    lists: Option<String>,
    lookup: Lookup,
}

impl SendGrid {
    /// The API at the address of its send call; its mails cannot be looked for.
    pub fn new(url: String, dialect: Dialect) -> Self {
        Self { url, dialect, lookup: Lookup::Off, lists: None }
    }

    /// The same that is asked for its lists, below this address.
    #[must_use]
    pub fn with_lists(self, base: Option<String>) -> Self {
        Self { lists: base, ..self }
    }

    /// The same with mails that can be looked for in this way, if the address of that call can be told from the other's.
    #[must_use]
    pub fn with_lookup(self, lookup: Lookup) -> Self {
        let lookup = if lookup::messages_url(&self.url).is_some() { lookup } else { Lookup::Off };
        Self { lookup, ..self }
    }

    /// What the mails of a batch carry.
    fn marker<'a>(&self, batch: &'a Batch) -> Option<&'a str> {
        batch.marker.as_deref().filter(|_| self.marks())
    }
}

#[derive(Serialize)]
struct Body<'a> {
    personalizations: Vec<JsonPersonalization<'a>>,
    from: JsonMailbox<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<JsonMailbox<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to_list: Vec<JsonMailbox<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    headers: Vec<(&'a str, String)>,
    #[serde(flatten)]
    asked: Asked<'a>,
}

/// An object whose members keep their order: that of the mail's header.
fn as_object<S: Serializer>(fields: &[(&str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

#[derive(Serialize)]
struct JsonPersonalization<'a> {
    to: Vec<JsonMailbox<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<JsonMailbox<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_template_data: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    substitutions: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct JsonAttachment<'a> {
    filename: Cow<'a, str>,
    r#type: &'a str,
    disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

impl Provider for SendGrid {
    fn limits(&self) -> Limits {
        let (vendor, attachments, body) = match self.dialect {
            Dialect::ScaiSend => ("ScaiSend", 10, 20 << 20),
            Dialect::SendGrid => ("SendGrid", usize::MAX, 30 << 20),
        };
        Limits {
            vendor,
            recipients: 1000,
            shows_recipients: true,
            attachments,
            headers: true,
            reply_to: 1000,
            body,
            controls: controls::capacity(self.dialect),
        }
    }

    fn render(&self, message: &Message, controls: &Controls, batch: &Batch) -> Result<Request, Cause> {
        let (reply_to, reply_to_list) = match message.reply_to.as_slice() {
            [] => (None, Vec::new()),
            [one] => (Some(one.into()), Vec::new()),
            several => (None, several.iter().map(JsonMailbox::from).collect()),
        };
        let templated = controls.text(Control::Template).is_some();
        let body = Body {
            personalizations: batch
                .personalizations
                .iter()
                .map(|group| JsonPersonalization {
                    to: mailboxes(self.dialect, &group.to),
                    cc: mailboxes(self.dialect, &group.cc),
                    dynamic_template_data: controls.map(Control::TemplateData),
                    substitutions: controls.map(Control::Substitutions),
                })
                .collect(),
            from: from_of(message)?.into(),
            reply_to,
            reply_to_list,
            // A template has a subject of its own and excludes a body.
            subject: if templated { message.subject.as_deref() } else { Some(subject_of(message)) },
            headers: headers_of(message, self.dialect),
            asked: Asked::new(controls, self.marker(batch), self.lookup),
        };
        let mut pieces = Pieces::of(to_json(&body));
        if !templated {
            write_content(message, &mut pieces);
        }
        pieces.attachments(&message.attachments, |attachment| to_json(&describe(attachment, self.dialect)));
        let body = pieces.end();
        Ok(Request { api_key: None, method: Method::POST, url: self.url.clone(), headers: Vec::new(), body })
    }

    fn classify(&self, batch: &Batch, response: &Response) -> Vec<Outcome> {
        match response.status {
            200..=299 => success(batch, response),
            400 | 422 => refused_fields(batch, response),
            401 | 403 => for_all(batch, &Outcome::from_cause(cause(kind_of_denial(response), response))),
            status => for_all(batch, &Outcome::from_cause(cause(kind_of_status(status), response))),
        }
    }

    fn lists(&self, recipient: &Address) -> Vec<(Reason, Request)> {
        self.lists.as_ref().map(|base| lists::questions(base, recipient)).unwrap_or_default()
    }

    fn listed(&self, recipient: &Address, response: &Response) -> Result<Option<Listed>, Unanswered> {
        lists::read(recipient, response)
    }

    fn marks(&self) -> bool {
        self.lookup != Lookup::Off
    }

    fn lookup(&self, search: &Search<'_>) -> Option<Request> {
        self.marks().then(|| lookup::request(&self.url, self.lookup, search, 1)).flatten()
    }

    fn found(&self, search: &Search<'_>, response: &Response) -> Found {
        lookup::found(&self.url, self.lookup, search, response)
    }

    fn scheme(&self) -> &'static Scheme {
        events::scheme(self.dialect)
    }

    fn events(&self, headers: &HeaderMap, body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified> {
        events::read(self.dialect, headers, body, now)
    }
}

/// SendGrid refuses `;` and `,` in the names of recipients: they become blanks.
fn mailboxes(dialect: Dialect, list: &[Mailbox]) -> Vec<JsonMailbox<'_>> {
    let mut mailboxes: Vec<JsonMailbox> = list.iter().map(JsonMailbox::from).collect();
    for name in mailboxes.iter_mut().filter_map(|m| m.name.as_mut()) {
        if dialect == Dialect::SendGrid && name.contains([';', ',']) {
            let words = name.split([';', ',', ' ']).filter(|w| !w.is_empty());
            *name = Cow::Owned(words.collect::<Vec<_>>().join(" "));
        }
    }
    mailboxes
}

/// 202: the ids, one a personalization, in the order of the request.
fn success(batch: &Batch, response: &Response) -> Vec<Outcome> {
    let header = response.headers.get("x-message-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let json = match success_body(response) {
        Success::Foreign => return for_all(batch, &Outcome::from_cause(cause(Kind::Misconfigured, response))),
        Success::Bare => return for_all(batch, &Outcome::Accepted { id: header }),
        Success::Json(json) => json,
    };
    if json.get("errors").and_then(Value::as_array).is_some_and(|e| !e.is_empty()) {
        // Who was taken and who was not, nobody says: the client decides.
        return for_all(batch, &Outcome::from_cause(cause(Kind::Unexpected, response)));
    }
    let text = |id: Option<&Value>| id.and_then(Value::as_str).map(str::to_owned);
    let single = text(json.get("message_id")).or(header);
    let id_of = |n: usize| text(json.get("message_ids").and_then(|ids| ids.get(n))).or_else(|| single.clone());
    let groups = batch.personalizations.iter().enumerate();
    groups
        .flat_map(|(n, group)| group.mailboxes().map(move |_| n))
        .map(|n| Outcome::Accepted { id: id_of(n) })
        .collect()
}

/// text/plain first, then text/html. A mail without a body gets a blank: the API refuses an empty list and empty values.
fn write_content(message: &Message, pieces: &mut Pieces) {
    let text = body_of(message.text.as_ref()).map(|value| ("text/plain", value));
    let html = body_of(message.html.as_ref()).map(|value| ("text/html", value));
    let blank = Arc::new(" ".to_owned());
    let blank = (text.is_none() && html.is_none()).then_some(("text/plain", &blank));
    let mut before = ",\"content\":[";
    for (media, value) in text.into_iter().chain(html).chain(blank) {
        pieces.raw(before).raw("{\"type\":\"").raw(media).raw("\",\"value\":\"").text(value).raw("\"}");
        before = ",";
    }
    pieces.raw("]");
}

/// The header fields as an object, which has no repeated names: a field that occurs more than once is joined, lists of
/// message ids by a blank (RFC 5322 §3.6.4), the rest by a comma. None of them is a name that the API keeps for itself: those are in no
/// [`Message::headers`]. The mail's own id goes along where it may, so that replies and later mails refer to it. ScaiSend's
/// pages do not say that it may be set, and a second one would make the mail invalid (RFC 5322 §3.6).
fn headers_of(message: &Message, dialect: Dialect) -> Vec<(&str, String)> {
    let mut headers: Vec<(&str, String)> = Vec::new();
    let id = message.message_id.as_deref().filter(|id| dialect == Dialect::SendGrid && is_message_id(id));
    let others = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let fields = id.map(|id| ("Message-ID", id)).into_iter().chain(others);
    for (name, value) in fields.filter(|(_, value)| !value.is_empty()) {
        let Some((_, known)) = headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            headers.push((name, value.to_owned()));
            continue;
        };
        let ids = ["References", "In-Reply-To"].iter().any(|field| field.eq_ignore_ascii_case(name));
        known.push_str(if ids { " " } else { ", " });
        known.push_str(value);
    }
    headers
}

/// `<left@right>` without blanks (RFC 5322 §3.6.4); another is no id that a reply could name.
fn is_message_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or_default();
    let sides = inner.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty());
    sides && inner.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>'))
}

fn describe(attachment: &Attachment, dialect: Dialect) -> JsonAttachment<'_> {
    // `inline` needs a content id (ScaiSend); without one it can only be an attachment.
    let inline = attachment.inline && attachment.content_id.is_some();
    JsonAttachment {
        filename: match dialect {
            Dialect::ScaiSend => shortened(&attachment.filename),
            Dialect::SendGrid => (&*attachment.filename).into(),
        },
        r#type: &attachment.content_type,
        disposition: if inline { "inline" } else { "attachment" },
        content_id: attachment.content_id.as_deref(),
    }
}

/// A name that is longer than the API takes, without its middle: the extension stays.
fn shortened(name: &str) -> Cow<'_, str> {
    if name.chars().count() <= MAX_NAME {
        return name.into();
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let extension: String = extension.chars().take(MAX_EXTENSION).collect();
    let stem: String = name.chars().take(MAX_NAME - 1 - extension.chars().count()).collect();
    format!("{stem}.{extension}").into()
}

/// 400 and 422: whose fault it is stands in the fields' paths. Refused recipients spoil the request for the others, which
/// were not sent and can go without them.
fn refused_fields(batch: &Batch, response: &Response) -> Vec<Outcome> {
    let complaints = complaints(&response.body);
    let mut guilty: BTreeMap<usize, Outcome> = BTreeMap::new();
    for complaint in &complaints {
        for place in blamed(batch, complaint, complaints.len()) {
            let kind = if says_suppressed(complaint) { Kind::Suppressed } else { Kind::BadRecipient };
            let cause = Cause::new(kind, &complaint.words).with_status(response.status);
            guilty.entry(place).or_insert_with(|| Outcome::from_cause(cause));
        }
    }
    if guilty.is_empty() {
        let of_sender = |field: &String| field.starts_with("from");
        let is_sender = complaints.first().and_then(|first| first.field.as_ref()).is_some_and(of_sender);
        let kind = if is_sender { Kind::BadSender } else { Kind::BadContent };
        return for_all(batch, &Outcome::from_cause(cause(kind, response)));
    }
    let spared =
        Cause::new(Kind::Unsent, "another recipient of the same request was refused").with_status(response.status);
    let spared = Outcome::from_cause(spared);
    (0..batch.len()).map(|n| guilty.remove(&n).unwrap_or_else(|| spared.clone())).collect()
}

/// The places of the recipients that an error is about: by its field, or by its words where that names no other field. An
/// address that nobody names is told that it is suppressed only if it is the only one, and that the only error.
fn blamed(batch: &Batch, complaint: &Complaint, complaints: usize) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    if let Some(field) = &complaint.field {
        places.extend(place_of(batch, field));
    }
    if complaint.field.as_ref().is_none_or(|field| field.starts_with("personalizations")) {
        places.extend(named_in(batch, &complaint.words.to_ascii_lowercase()));
    }
    if places.is_empty()
        && complaint.field.is_none()
        && says_suppressed(complaint)
        && (batch.len(), complaints) == (1, 1)
    {
        places.insert(0);
    }
    places
}

/// A "suppression group" that does not exist is another matter.
fn says_suppressed(complaint: &Complaint) -> bool {
    let words = complaint.words.to_ascii_lowercase();
    words.contains("suppressed") || words.contains("suppression list")
}

/// The recipients that the API's words quote.
fn named_in<'a>(batch: &'a Batch, words: &'a str) -> impl Iterator<Item = usize> + 'a {
    let quotes = |recipient: &Address| {
        let address = recipient.as_str().to_ascii_lowercase();
        words.split([' ', '<', '>', '"', '\'', ',', ';', ':', '(', ')']).any(|w| w.trim_end_matches('.') == address)
    };
    batch.recipients().enumerate().filter(move |(_, recipient)| quotes(recipient)).map(|(n, _)| n)
}

/// The place in [`Batch::recipients`] that `personalizations.N.to.M.email` points at.
fn place_of(batch: &Batch, field: &str) -> Option<usize> {
    let field = field.replace('[', ".").replace(']', "");
    let mut path = field.split('.');
    if path.next() != Some("personalizations") {
        return None;
    }
    let group: usize = path.next()?.parse().ok()?;
    let list = path.next()?;
    let place: usize = path.next()?.parse().ok()?;
    let before: usize = batch.personalizations.iter().take(group).map(|g| g.mailboxes().count()).sum();
    let this = batch.personalizations.get(group)?;
    match list {
        "to" if place < this.to.len() => Some(before + place),
        "cc" if place < this.cc.len() => Some(before + this.to.len() + place),
        _ => None,
    }
}
