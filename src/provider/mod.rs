//! The APIs' language, both ways: a message becomes a request, a response becomes outcomes. No SMTP code here, no I/O.

pub mod answer;
pub mod event;
pub mod nexuspromail;
pub mod sendgrid;
pub mod signature;

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::address::Address;
use crate::config::{Provider as Settings, ProviderKind};
use crate::controls::{Capacity, Controls};
use crate::feedback::{Feedback, Unverified};
use crate::message::{Attachment, Content, Mailbox, Message};
use crate::outcome::{Cause, Kind, Outcome};
use crate::secret::Secret;
use signature::Scheme;

/// One API, as an account uses it.
pub trait Provider: Send + Sync {
    /// What a call can carry.
    fn limits(&self) -> Limits;

    /// The request that sends `message` to a batch as `controls` ask, without the credential: the transport adds that.
    ///
    /// # Errors
    /// A cause when the API's schema has no place for what the message needs.
    fn render(&self, message: &Message, controls: &Controls, batch: &Batch) -> Result<Request, Cause>;

    /// [`Provider::render`], held to the API's size limit.
    ///
    /// # Errors
    /// As `render`, and `TooLarge`.
    fn request(&self, message: &Message, controls: &Controls, batch: &Batch) -> Result<Request, Cause> {
        let (request, limits) = (self.render(message, controls, batch)?, self.limits());
        let octets = request.body.len();
        if octets > limits.body {
            let (have, most) = (octets.div_ceil(1 << 20), limits.body >> 20);
            let detail = format!("the request would have {have} MiB, {} takes {most} MiB", limits.vendor);
            return Err(Cause::new(Kind::TooLarge, detail));
        }
        Ok(request)
    }

    /// What the answer means for each recipient of the batch, in the order of [`Batch::recipients`].
    fn classify(&self, batch: &Batch, response: &Response) -> Vec<Outcome>;

    /// How its webhook requests are signed.
    fn scheme(&self) -> &'static Scheme;

    /// The events of a webhook request whose signature is good.
    ///
    /// # Errors
    /// It is no event of its, or one from too long ago.
    fn events(&self, headers: &HeaderMap, body: &Bytes, now: SystemTime) -> Result<Vec<Feedback>, Unverified>;

    /// The events of a webhook request, once it has been verified: nothing in it is read before.
    ///
    /// # Errors
    /// Why it is not believed.
    fn feedback(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        secrets: &[Secret],
        now: SystemTime,
    ) -> Result<Vec<Feedback>, Unverified> {
        self.scheme().verify(headers, body, secrets, now)?;
        self.events(headers, body, now)
    }
}

/// The provider that an account's settings name.
pub fn build(settings: &Settings) -> Box<dyn Provider> {
    let url = send_url(settings);
    match settings.kind {
        ProviderKind::NexusProMail => Box::new(nexuspromail::NexusProMail::new(url)),
        ProviderKind::ScaiSend => Box::new(sendgrid::SendGrid::new(url, sendgrid::Dialect::ScaiSend)),
        ProviderKind::SendGrid => Box::new(sendgrid::SendGrid::new(url, sendgrid::Dialect::SendGrid)),
    }
}

/// The address of the send call: base URL and path are two settings, because the vendors' own pages disagree about the
/// path (NexusProMail), and because others host the service themselves (ScaiSend).
pub fn send_url(settings: &Settings) -> String {
    let (base, path) = vendor_address(settings.kind);
    let pick = |given: &str, vendor: &'static str| if given.is_empty() { vendor.to_owned() } else { given.to_owned() };
    let (base, path) = (pick(&settings.base_url, base), pick(&settings.send_path, path));
    format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
}

/// The vendor's base URL and send path.
fn vendor_address(kind: ProviderKind) -> (&'static str, &'static str) {
    match kind {
        ProviderKind::NexusProMail => ("https://app.nexuspromail.com/api", "/v1/transactional/send"),
        ProviderKind::ScaiSend => ("https://scaisend.scailabs.ai", "/v3/mail/send"),
        ProviderKind::SendGrid => ("https://api.sendgrid.com", "/v3/mail/send"),
    }
}

/// What one call of an API can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The vendor's name, for replies and logs.
    pub vendor: &'static str,
    /// Most recipients in one call.
    pub recipients: usize,
    /// Whether recipients of one call can see each other in To and Cc.
    pub shows_recipients: bool,
    /// Most attachments; 0: there is no field for them.
    pub attachments: usize,
    /// Whether there is a field for header fields of the sender's choice.
    pub headers: bool,
    /// Most Reply-To mailboxes.
    pub reply_to: usize,
    /// Largest request body in octets.
    pub body: usize,
    /// Which controls there are fields for.
    pub controls: Capacity,
}

/// Recipients that share one API request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The groups; each becomes a message of its own.
    pub personalizations: Vec<Personalization>,
}

/// One recipient group: all of its members see each other and nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Personalization {
    /// Shown as To; never empty in a finished plan.
    pub to: Vec<Mailbox>,
    /// Shown as Cc.
    pub cc: Vec<Mailbox>,
}

impl Personalization {
    /// A group of one.
    pub fn alone(mailbox: Mailbox) -> Self {
        Self { to: vec![mailbox], cc: Vec::new() }
    }

    /// To, then Cc.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        self.to.iter().chain(&self.cc)
    }
}

impl Batch {
    /// Every recipient once, group by group, To before Cc: the order of [`Provider::classify`].
    pub fn recipients(&self) -> impl Iterator<Item = &Address> {
        self.personalizations.iter().flat_map(Personalization::mailboxes).map(|mailbox| &mailbox.address)
    }

    /// How many recipients there are.
    pub fn len(&self) -> usize {
        self.recipients().count()
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.personalizations.is_empty()
    }

    /// The same for the recipients that `keep` wants only. A group that loses its last To shows its first Cc as To,
    /// because the APIs want a To in each.
    pub fn retain(&mut self, keep: impl Fn(&Address) -> bool) {
        for group in &mut self.personalizations {
            group.to.retain(|m| keep(&m.address));
            group.cc.retain(|m| keep(&m.address));
            if group.to.is_empty() && !group.cc.is_empty() {
                let first = group.cc.remove(0);
                group.to.push(first);
            }
        }
        self.personalizations.retain(|group| !group.to.is_empty());
    }
}

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The key to send it with, if it is not the account's own.
    pub api_key: Option<Secret>,
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: String,
    /// Header fields besides Authorization, Content-Type (always JSON) and Content-Length.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON body.
    pub body: Payload,
}

/// A JSON text in pieces: what was serialized, and attachments that are turned into base64 while the request is sent.
/// It can be produced again for each attempt without keeping a copy.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    segments: Vec<Segment>,
}

/// A piece of a [`Payload`].
#[derive(Debug, Clone)]
enum Segment {
    Json(Bytes),
    Base64(Content),
}

impl Payload {
    /// A payload that is serialized whole.
    pub fn json(text: Vec<u8>) -> Self {
        Self { segments: vec![Segment::Json(text.into())] }
    }

    /// Its length in octets, exactly.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether it has no octet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets from the start, in chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
        self.segments.clone().into_iter().flat_map(Segment::chunks)
    }

    /// The octets in one piece, for printing and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks().fold(Vec::with_capacity(self.len()), |mut all, chunk| {
            all.extend_from_slice(&chunk);
            all
        })
    }

    /// The payload `object` with a member `"attachments"` added at its end; each attachment is the JSON object that
    /// `describe` gives, with a member `"content"` of base64 added. The base64 is never serialized: a serializer would
    /// scan every octet of it for escapes.
    pub fn with_attachments(
        mut object: Vec<u8>,
        attachments: &[Attachment],
        describe: impl Fn(&Attachment) -> Vec<u8>,
    ) -> Self {
        if attachments.is_empty() {
            return Self::json(object);
        }
        let mut segments = Vec::with_capacity(attachments.len() * 2 + 1);
        object.pop();
        object.extend_from_slice(b",\"attachments\":[");
        for (i, attachment) in attachments.iter().enumerate() {
            if i > 0 {
                object.push(b',');
            }
            object.append(&mut describe(attachment));
            object.pop();
            object.extend_from_slice(b",\"content\":\"");
            segments.push(Segment::Json(std::mem::take(&mut object).into()));
            segments.push(Segment::Base64(attachment.content.clone()));
            object.extend_from_slice(b"\"}");
        }
        object.extend_from_slice(b"]}");
        segments.push(Segment::Json(object.into()));
        Self { segments }
    }
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Base64(content) => content.base64_len(),
        }
    }

    fn chunks(self) -> Box<dyn Iterator<Item = Bytes> + Send + Sync> {
        match self {
            Self::Json(text) => Box::new(std::iter::once(text)),
            Self::Base64(content) => Box::new(content.base64_chunks()),
        }
    }
}

/// Serializes one of our own payload types into a buffer of about the right size. They hold strings, numbers and lists
/// only, so it cannot fail; should it ever, the API gets an empty object and refuses it.
fn to_json<T: serde::Serialize>(value: &T, about: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(about);
    match serde_json::to_writer(&mut json, value) {
        Ok(()) => json,
        Err(_) => b"{}".to_vec(),
    }
}

/// About how long the payload of a message gets, attachments apart.
fn about_len(message: &Message) -> usize {
    let bodies = [&message.text, &message.html].into_iter().flatten().map(String::len).sum::<usize>();
    bodies + bodies / 16 + 1024
}

/// An HTTP answer, as far as it was read.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, cut at a limit of the transport.
    pub body: Bytes,
    /// Whether the whole body was read.
    pub complete: bool,
    /// When it came, for Retry-After dates.
    pub received: SystemTime,
}

/// An address as the APIs write it.
#[derive(Debug, serde::Serialize)]
struct JsonMailbox<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Mailbox> for JsonMailbox<'a> {
    fn from(mailbox: &'a Mailbox) -> Self {
        Self { email: mailbox.address.as_str(), name: mailbox.name.as_deref().map(Cow::Borrowed) }
    }
}

/// What stands in for a missing subject: every API wants one that is not empty.
const NO_SUBJECT: &str = "(no subject)";

fn subject_of(message: &Message) -> &str {
    message.subject.as_deref().filter(|subject| !subject.trim().is_empty()).unwrap_or(NO_SUBJECT)
}

/// A body that is there: the APIs refuse an empty one.
fn body_of(body: Option<&String>) -> Option<&str> {
    body.map(String::as_str).filter(|text| !text.is_empty())
}

/// The first From; the APIs take one. The sender policy has seen to it that there is one.
fn from_of(message: &Message) -> Result<&Mailbox, Cause> {
    message
        .from
        .first()
        .ok_or_else(|| Cause::new(Kind::BadSender, "the mail has no From address and no default is set"))
}
