//! The APIs' language, both ways: a message becomes a request, a response becomes outcomes. No SMTP code here, no I/O.

pub mod answer;
pub mod event;
pub mod nexuspromail;
mod payload;
pub mod sendgrid;
pub mod setup;
pub mod signature;
pub mod status;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::address::Address;
use crate::config::{Provider as Settings, ProviderKind};
use crate::controls::{Capacity, Controls};
use crate::feedback::{Feedback, Unverified};
use crate::message::{Mailbox, Message};
use crate::outcome::{Cause, Kind, Outcome};
use crate::secret::Secret;
use crate::suppression::Reason;
use signature::Scheme;

pub use payload::{Payload, Pieces};

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

    /// The questions whether the API itself has an address on one of its lists of suppressed ones; none: it cannot be
    /// asked.
    fn lists(&self, _recipient: &Address) -> Vec<(Reason, Request)> {
        Vec::new()
    }

    /// What the answer to one of [`Provider::lists`] says.
    ///
    /// # Errors
    /// It says nothing: its status and words.
    fn listed(&self, _recipient: &Address, _response: &Response) -> Result<Option<Listed>, Unanswered> {
        Ok(None)
    }

    /// Whether its mails carry [`Batch::marker`], and can be looked for by it.
    fn marks(&self) -> bool {
        false
    }

    /// The request that asks for a mail; `None`: this API cannot be asked.
    fn lookup(&self, _search: &Search<'_>) -> Option<Request> {
        None
    }

    /// What the answer to a question says: to that of [`Provider::lookup`], or to one of [`Found::Perhaps`].
    fn found(&self, _search: &Search<'_>, _response: &Response) -> Found {
        Found::Nothing
    }

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

/// An address on one of the API's own lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Since when, if the API says so.
    pub since: Option<SystemTime>,
    /// What it says about it.
    pub words: String,
}

/// A question that got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Status and words.
    pub why: String,
    /// How long the API asks to be left alone.
    pub pause: Option<Duration>,
}

/// A mail that an API may have taken.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// What it carries, as [`Batch::marker`].
    pub marker: &'a str,
    /// Whom it was for.
    pub group: &'a Personalization,
    /// What it said.
    pub message: &'a Message,
    /// What was asked for beside.
    pub controls: &'a Controls,
    /// It was not sent before this.
    pub since: SystemTime,
}

/// What an API says when it is asked for a mail.
#[derive(Debug, Clone)]
pub enum Found {
    /// It took it, under this id.
    Taken(String),
    /// The answers to these would tell: there are more pages, or mails that look like it, and their markers are not shown.
    Perhaps(Vec<Request>),
    /// It does not show it. That proves nothing: it may show it later.
    Nothing,
    /// The key may not ask; the API's words, which name the right that it lacks.
    Forbidden(String),
    /// No answer that says anything; why, and how long the API asks to be left alone.
    Failed(String, Option<Duration>),
}

/// The provider that an account's settings name.
pub fn build(settings: &Settings) -> Box<dyn Provider> {
    let url = send_url(settings);
    match settings.kind {
        ProviderKind::NexusProMail => Box::new(nexuspromail::NexusProMail::new(url)),
        ProviderKind::ScaiSend => {
            let lists = settings.ask_suppressions.then(|| call_url(settings, ""));
            let scaisend = sendgrid::SendGrid::new(url, sendgrid::Dialect::ScaiSend);
            Box::new(scaisend.with_lookup(settings.lookup).with_lists(lists))
        }
        ProviderKind::SendGrid => Box::new(sendgrid::SendGrid::new(url, sendgrid::Dialect::SendGrid)),
    }
}

/// Whether an account's `webhook_secrets` can verify anything.
///
/// # Errors
/// A sentence about the first that cannot, which does not show it.
pub fn check_secrets(name: &str, settings: &Settings) -> Result<(), String> {
    let scheme = build(settings).scheme();
    let wrong = settings.webhook_secrets.iter().find_map(|secret| scheme.check_secret(secret).err());
    wrong.map_or(Ok(()), |why| Err(format!("providers.{name}.webhook_secrets: one of them {why}")))
}

/// The address of the send call: base URL and path are two settings, because the vendors' own pages disagree about the
/// path (NexusProMail), and because others host the service themselves (ScaiSend).
pub fn send_url(settings: &Settings) -> String {
    let (_, path) = vendor_address(settings.kind);
    call_url(settings, if settings.send_path.is_empty() { path } else { &settings.send_path })
}

/// The address of the call at `path` below the account's base URL.
pub fn call_url(settings: &Settings, path: &str) -> String {
    let (base, _) = vendor_address(settings.kind);
    let base = if settings.base_url.is_empty() { base } else { &settings.base_url };
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
    /// What tells this mail from all others at the API, where it can be asked for a mail: so all of its tries carry the
    /// same. Recipients never see it.
    pub marker: Option<Arc<str>>,
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
    /// These groups, without a marker.
    pub fn of(personalizations: Vec<Personalization>) -> Self {
        Self { personalizations, marker: None }
    }

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

/// Serializes one of our own payload types. They hold strings, numbers and lists
/// only, so it cannot fail; should it ever, the API gets an empty object and refuses it.
fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut json = Vec::with_capacity(1024);
    match serde_json::to_writer(&mut json, value) {
        Ok(()) => json,
        Err(_) => b"{}".to_vec(),
    }
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
fn body_of(body: Option<&Arc<String>>) -> Option<&Arc<String>> {
    body.filter(|text| !text.is_empty())
}

/// The first From; the APIs take one. The sender policy has seen to it that there is one.
fn from_of(message: &Message) -> Result<&Mailbox, Cause> {
    message
        .from
        .first()
        .ok_or_else(|| Cause::new(Kind::BadSender, "the mail has no From address and no default is set"))
}
