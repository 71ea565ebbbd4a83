//! Setting a provider up, in its own language: webhooks, sender domains, keys and statistics as its guide walks them.

pub mod reading;
pub mod refusal;

use http::{Method, Uri};
use serde::Serialize;

use super::{Payload, Request, call_url, to_json};
use crate::config::{Provider as Settings, ProviderKind};
use crate::network::is_to_this_machine;

/// What an operator asks of the provider.
#[derive(Debug, Clone)]
pub enum Task {
    /// Events are to be sent to `url`.
    RegisterWebhook {
        /// Where to: https, see [`webhook_url`].
        url: String,
        /// The events, in the provider's words.
        events: Vec<String>,
    },
    /// Which webhooks there are.
    ListWebhooks,
    /// A webhook goes.
    DeleteWebhook(Id),
    /// A webhook gets a new signing secret; the old one is void at once.
    RotateSecret(Id),
    /// A webhook that was switched off after failures gets events again.
    EnableWebhook(Id),
    /// A domain to send from.
    AddDomain(NewDomain),
    /// Is what DNS says of the domain right?
    VerifyDomain(Id),
    /// Which domains there are.
    ListDomains,
    /// A new API key.
    CreateKey(NewKey),
    /// Daily numbers.
    Stats(Days),
}

/// A provider's id for something, as it may stand in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// Letters, digits, `-`, `_` and `.`: nothing that would lead to another call.
    ///
    /// # Errors
    /// A sentence that says what an id looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 200 || text.starts_with('.') || !text.chars().all(fits) {
            return Err("an id is letters and digits, like wh_01HXYZ; `list` shows those that there are".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The body of ScaiSend's `POST /api/admin/domains`.
#[derive(Debug, Clone, Serialize)]
pub struct NewDomain {
    /// The domain of From addresses.
    pub domain: String,
    /// `none`, `quarantine` or `reject` (RFC 7489 §6.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dmarc_policy: Option<String>,
    /// Who gets the aggregate reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dmarc_rua_email: Option<String>,
}

/// The body of ScaiSend's `POST /v3/api_keys`.
#[derive(Debug, Clone, Serialize)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// `live` or `test`: mail that is sent with a test key is never delivered.
    pub environment: String,
    /// What it may do; a key without scopes may do nothing.
    pub scopes: Vec<String>,
    /// Until when, RFC 3339; else for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Days from and to, both included, as `YYYY-MM-DD`.
#[derive(Debug, Clone)]
pub struct Days {
    /// The first one.
    pub start: String,
    /// The last one; today if there is none.
    pub end: Option<String>,
}

/// Which credential a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The account's API key.
    Key,
    /// A token of a person (a JWT), because keys may not.
    Token,
    /// Either of them.
    Either,
}

impl Task {
    /// The credential that the provider's guide makes this call with.
    pub fn credential(&self, kind: ProviderKind) -> Credential {
        match self {
            _ if kind != ProviderKind::ScaiSend => Credential::Key,
            Self::AddDomain(_) | Self::VerifyDomain(_) | Self::ListDomains | Self::CreateKey(_) => Credential::Token,
            _ => Credential::Either,
        }
    }

    /// ScaiSend's scope for it, which a key must have.
    pub fn scope(&self) -> &'static str {
        match self {
            Self::ListWebhooks => "webhooks.read",
            Self::RegisterWebhook { .. } | Self::DeleteWebhook(_) | Self::RotateSecret(_) | Self::EnableWebhook(_) => {
                "webhooks.write"
            }
            Self::AddDomain(_) | Self::VerifyDomain(_) => "domains.write",
            Self::ListDomains => "domains.read",
            Self::CreateKey(_) => "admin.api_keys",
            Self::Stats(_) => "stats.read",
        }
    }

    /// What it is about: its id, and the command that shows those that there are.
    pub fn subject(&self) -> Option<(&Id, &'static str)> {
        match self {
            Self::DeleteWebhook(id) | Self::RotateSecret(id) | Self::EnableWebhook(id) => {
                Some((id, "sidepost webhooks list"))
            }
            Self::VerifyDomain(id) => Some((id, "sidepost domains list")),
            _ => None,
        }
    }
}

/// The request for a task, without the credential.
///
/// # Errors
/// A sentence, when the provider documents no such call.
pub fn request(settings: &Settings, task: &Task) -> Result<Request, String> {
    let call = match settings.kind {
        ProviderKind::ScaiSend => scaisend(task),
        ProviderKind::NexusProMail => nexuspromail(task)?,
        ProviderKind::SendGrid => {
            return Err("sidepost does not set SendGrid up: use SendGrid's own pages or API for that".to_owned());
        }
    };
    let (method, path, body) = call;
    Ok(Request { api_key: None, method, url: call_url(settings, &path), headers: Vec::new(), body })
}

/// Whether a provider has a call for a task.
pub fn offers(kind: ProviderKind, task: &Task) -> bool {
    match kind {
        ProviderKind::ScaiSend => true,
        ProviderKind::NexusProMail => nexuspromail(task).is_ok(),
        ProviderKind::SendGrid => false,
    }
}

type Call = (Method, String, Payload);

const WEBHOOKS: &str = "/v3/user/webhooks";
const DOMAINS: &str = "/api/admin/domains";

fn json<T: Serialize>(body: &T) -> Payload {
    Payload::json(to_json(body))
}

fn scaisend(task: &Task) -> Call {
    let none = Payload::default;
    match task {
        Task::RegisterWebhook { url, events } => {
            (Method::POST, WEBHOOKS.to_owned(), json(&serde_json::json!({ "url": url, "enabled_events": events })))
        }
        // The most that a page can have.
        Task::ListWebhooks => (Method::GET, format!("{WEBHOOKS}?page_size=100"), none()),
        Task::DeleteWebhook(Id(id)) => (Method::DELETE, format!("{WEBHOOKS}/{id}"), none()),
        Task::RotateSecret(Id(id)) => (Method::POST, format!("{WEBHOOKS}/{id}/signing_secret"), none()),
        Task::EnableWebhook(Id(id)) => {
            (Method::PATCH, format!("{WEBHOOKS}/{id}"), json(&serde_json::json!({ "enabled": true })))
        }
        Task::AddDomain(domain) => (Method::POST, DOMAINS.to_owned(), json(domain)),
        Task::VerifyDomain(Id(id)) => (Method::POST, format!("{DOMAINS}/{id}/verify"), none()),
        Task::ListDomains => (Method::GET, DOMAINS.to_owned(), none()),
        Task::CreateKey(key) => (Method::POST, "/v3/api_keys".to_owned(), json(key)),
        Task::Stats(days) => {
            let end = days.end.as_ref().map(|end| format!("&end_date={end}")).unwrap_or_default();
            (Method::GET, format!("/v3/stats?start_date={}{end}", days.start), none())
        }
    }
}

/// Its webhook guide documents the registration, and nothing else.
fn nexuspromail(task: &Task) -> Result<Call, String> {
    let what = match task {
        Task::RegisterWebhook { url, events } => {
            let body = json(&serde_json::json!({ "url": url, "events": events }));
            return Ok((Method::POST, "/v1/api/webhooks".to_owned(), body));
        }
        Task::ListWebhooks => "that lists webhooks",
        Task::DeleteWebhook(_) => "that deletes a webhook",
        Task::RotateSecret(_) => "that changes a webhook's secret",
        Task::EnableWebhook(_) => "that switches a webhook on",
        Task::AddDomain(_) | Task::VerifyDomain(_) | Task::ListDomains => "for sender domains",
        Task::CreateKey(_) => "that makes an API key",
        Task::Stats(_) => "for statistics",
    };
    Err(format!("NexusProMail documents no call {what}: do it in its dashboard, or ask the vendor"))
}

/// The events that sidepost makes use of, in the provider's words; what a webhook is registered for unless others are named.
pub fn events(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::NexusProMail => {
            &["bounced.hard", "bounced.soft", "complained", "unsubscribed", "delivered", "opened", "clicked"]
        }
        ProviderKind::ScaiSend => &[
            "processed",
            "deferred",
            "delivered",
            "bounce",
            "blocked",
            "dropped",
            "spam_report",
            "unsubscribe",
            "group_unsubscribe",
            "group_resubscribe",
            "open",
            "click",
        ],
        ProviderKind::SendGrid => &[],
    }
}

/// The events to register for: those that were named, else [`events`].
///
/// # Errors
/// A sentence, for `*` where the provider does not know it.
pub fn events_or_default(kind: ProviderKind, named: &[String]) -> Result<Vec<String>, String> {
    if kind == ProviderKind::NexusProMail && named.iter().any(|name| name == "*") {
        let known = events(kind).join(",");
        return Err(format!(
            "NexusProMail documents no \"*\": leave --events out for all that sidepost uses ({known})"
        ));
    }
    let default = || events(kind).iter().map(|name| (*name).to_owned()).collect();
    Ok(if named.is_empty() { default() } else { named.to_vec() })
}

/// A URL that a provider can send events to: https, because events tell who gets mail; http to this machine for trying
/// out (the sandbox). ScaiSend takes no other in production.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn webhook_url(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL like https://mail.example.com/webhooks/main".to_owned())?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') || text.contains('#') {
        return Err("must hold neither a user nor a fragment: the signature says who sends".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => Ok(text.to_owned()),
        Some("http") if uri.host().is_some_and(is_to_this_machine) => Ok(text.to_owned()),
        Some("http") => Err("must be https: events tell who gets mail (http is for this machine only)".to_owned()),
        _ => Err("is not a URL like https://mail.example.com/webhooks/main".to_owned()),
    }
}
