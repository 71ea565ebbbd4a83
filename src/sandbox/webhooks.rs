//! The registered webhooks and the calls that register them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::answer::Refusal;
use super::api::{authorize, v3_dialect};
use super::request_shape::Finding;
use crate::config::ProviderKind;
use crate::secret::Secret;

/// Most webhooks; nobody needs more to try them out.
const MAX_WEBHOOKS: usize = 50;

const NEXUSPROMAIL_EVENTS: &[&str] =
    &["bounced.hard", "bounced.soft", "complained", "unsubscribed", "delivered", "opened", "clicked", "sent"];

const SCAISEND_EVENTS: &[&str] = &[
    "*",
    "processed",
    "deferred",
    "delivered",
    "bounce",
    "blocked",
    "dropped",
    "open",
    "click",
    "spam_report",
    "unsubscribe",
    "group_unsubscribe",
    "group_resubscribe",
];

/// What ScaiSend's registration can have; the sandbox has no use for the last two.
const SCAISEND_FIELDS: &[&str] = &["url", "enabled_events", "oauth_client_id", "oauth_client_secret"];

/// A registered webhook.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) api: ProviderKind,
    pub(super) url: String,
    pub(super) secret: Secret,
    events: Vec<String>,
}

impl Webhook {
    /// One that wants all events.
    pub(super) fn of_everything(api: ProviderKind, url: String, secret: Secret) -> Self {
        Self { id: "wh_own".to_owned(), api, url, secret, events: vec!["*".to_owned()] }
    }

    pub(super) fn wants(&self, event: &str) -> bool {
        self.events.iter().any(|name| name == "*" || name == event)
    }

    /// As it is shown; the secret only once.
    fn json(&self, with_secret: bool) -> Value {
        let (events, _) = vocabulary(self.api);
        let secret = if self.api == ProviderKind::NexusProMail { "secret" } else { "signing_secret" };
        let mut fields = Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("url".to_owned(), json!(self.url)),
            ("enabled".to_owned(), json!(true)),
            (events.to_owned(), json!(self.events)),
        ]);
        if with_secret {
            fields.insert(secret.to_owned(), json!(self.secret.expose()));
        }
        fields.into()
    }
}

/// `POST /v1/api/webhooks`.
pub(super) async fn register_nexuspromail(
    State(sandbox): State<Arc<Sandbox>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(ProviderKind::NexusProMail, || register(&sandbox, ProviderKind::NexusProMail, &headers, &body))
}

/// `POST /v3/user/webhooks`.
pub(super) async fn register_scaisend(
    State(sandbox): State<Arc<Sandbox>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(ProviderKind::ScaiSend, || register(&sandbox, ProviderKind::ScaiSend, &headers, &body))
}

/// `GET /v1/api/webhooks`.
pub(super) async fn list_nexuspromail(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap) -> Response {
    answer(ProviderKind::NexusProMail, || list(&sandbox, ProviderKind::NexusProMail, &headers))
}

/// `GET /v3/user/webhooks`.
pub(super) async fn list_scaisend(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap) -> Response {
    answer(ProviderKind::ScaiSend, || list(&sandbox, ProviderKind::ScaiSend, &headers))
}

/// `GET` of one webhook.
pub(super) async fn show(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let api = api_of(&uri);
    answer(api, || {
        authorize(&headers)?;
        let webhooks = sandbox.webhooks();
        let webhook = webhooks.iter().find(|one| one.api == api && one.id == id).ok_or_else(no_such_webhook)?;
        Ok(Json(webhook.json(false)).into_response())
    })
}

/// `DELETE` of one webhook.
pub(super) async fn remove(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let api = api_of(&uri);
    answer(api, || {
        authorize(&headers)?;
        let mut webhooks = sandbox.webhooks();
        let place = webhooks.iter().position(|one| one.api == api && one.id == id).ok_or_else(no_such_webhook)?;
        webhooks.remove(place);
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

fn answer(api: ProviderKind, call: impl FnOnce() -> Result<Response, Refusal>) -> Response {
    call().unwrap_or_else(|refusal| refusal.response(api))
}

fn api_of(uri: &Uri) -> ProviderKind {
    if uri.path().starts_with("/v1") { ProviderKind::NexusProMail } else { ProviderKind::ScaiSend }
}

fn no_such_webhook() -> Refusal {
    Refusal::not_found("Webhook not found")
}

fn register(sandbox: &Sandbox, api: ProviderKind, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
    authorize(headers)?;
    if api != ProviderKind::NexusProMail && v3_dialect(headers) == ProviderKind::SendGrid {
        return Err(Refusal::not_found(
            "The sandbox does not send SendGrid's events; use a key of ScaiSend for its own",
        ));
    }
    let (url, events) = registration(api, body)?;
    let random = || Uuid::now_v7().simple();
    let webhook = Webhook {
        id: format!("wh_{}", random()),
        api,
        url,
        secret: Secret::new(format!("whsec_{}{}", random(), random())),
        events,
    };
    let mut webhooks = sandbox.webhooks();
    if webhooks.len() >= MAX_WEBHOOKS {
        return Err(refuse(api, "url", format!("is one too many: {MAX_WEBHOOKS} webhooks are registered")));
    }
    let shown = webhook.json(true);
    webhooks.push(webhook);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// The URL and the event names that a registration asks for.
fn registration(api: ProviderKind, body: &[u8]) -> Result<(String, Vec<String>), Refusal> {
    let refuse = |field: &str, message: String| refuse(api, field, message);
    let asked: Value = serde_json::from_slice(body).map_err(|error| refuse("", error.to_string()))?;
    let (list, known) = vocabulary(api);
    let fields = asked.as_object().ok_or_else(|| refuse("", "must be an object".to_owned()))?;
    let documented = if api == ProviderKind::NexusProMail { &["url", list] } else { SCAISEND_FIELDS };
    if let Some(unknown) = fields.keys().find(|name| !documented.contains(&name.as_str())) {
        return Err(refuse(unknown, "is not a documented field".to_owned()));
    }
    let url = fields.get("url").and_then(Value::as_str).filter(|url| is_safe(url));
    let url = url.ok_or_else(|| refuse("url", "must be https, or http to this machine".to_owned()))?;
    let names =
        fields.get(list).and_then(Value::as_array).ok_or_else(|| refuse(list, "must be an array".to_owned()))?;
    let names = names.iter().map(|name| match name.as_str() {
        Some(name) if known.contains(&name) => Ok(name.to_owned()),
        _ => Err(refuse(list, format!("has an unknown name {name}; known are {}", known.join(", ")))),
    });
    Ok((url.to_owned(), names.collect::<Result<_, _>>()?))
}

fn refuse(api: ProviderKind, field: &str, message: String) -> Refusal {
    Refusal::shape(api, vec![Finding { field: field.to_owned(), message }])
}

/// What the list of events is called, and what can stand in it.
fn vocabulary(api: ProviderKind) -> (&'static str, &'static [&'static str]) {
    match api {
        ProviderKind::NexusProMail => ("events", NEXUSPROMAIL_EVENTS),
        _ => ("enabled_events", SCAISEND_EVENTS),
    }
}

fn list(sandbox: &Sandbox, api: ProviderKind, headers: &HeaderMap) -> Result<Response, Refusal> {
    authorize(headers)?;
    let webhooks = sandbox.webhooks();
    let shown: Vec<_> = webhooks.iter().filter(|one| one.api == api).map(|one| one.json(false)).collect();
    Ok(Json(json!({ "webhooks": shown })).into_response())
}

/// Whether events may go there: whoever can reach the sandbox must not be able to make it post into the network.
fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    let scheme = uri.scheme_str();
    !authority.as_str().contains('@') && (scheme == Some("https") || scheme == Some("http") && loopback)
}
