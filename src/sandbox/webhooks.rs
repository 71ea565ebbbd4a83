//! The registered webhooks and the calls that register them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::{Refusal, time};
use super::api::v3_dialect;
use super::messages::number;
use super::request_shape::Finding;
use super::{Sandbox, locked};
use crate::config::ProviderKind;
use crate::provider::setup;
use crate::secret::Secret;

/// Most webhooks; nobody needs more to try them out.
const MAX_WEBHOOKS: usize = 50;

/// The scopes of ScaiSend's keys for these calls.
const READ: &str = "webhooks.read";
const WRITE: &str = "webhooks.write";
/// Entries of a page, unless asked otherwise, and at most.
const PAGE_SIZE: (usize, usize) = (20, 100);
/// So many failures in a row switch ScaiSend's webhooks off.
const MAX_FAILURES: u32 = 10;

/// What ScaiSend's registration can have; the sandbox has no use for the last two.
const SCAISEND_FIELDS: &[&str] = &["url", "enabled_events", "oauth_client_id", "oauth_client_secret"];
/// What can be changed later.
const CHANGEABLE: &[&str] = &["url", "enabled_events", "enabled"];

/// A registered webhook; its clones are the same one, so that events on their way see what was changed.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) api: ProviderKind,
    created: SystemTime,
    now: Arc<Mutex<Now>>,
}

/// What can change about a webhook.
#[derive(Debug)]
struct Now {
    url: String,
    events: Vec<String>,
    secret: Secret,
    enabled: bool,
    failures: u32,
    last_success: Option<SystemTime>,
    last_failure: Option<SystemTime>,
}

impl Webhook {
    fn new(api: ProviderKind, url: String, events: Vec<String>) -> Self {
        Self::signed_with(fresh_secret(), api, url, events)
    }

    /// One that wants all events, signed with this secret.
    pub(super) fn of_everything(api: ProviderKind, url: String, secret: Secret) -> Self {
        Self::signed_with(secret, api, url, vec!["*".to_owned()])
    }

    fn signed_with(secret: Secret, api: ProviderKind, url: String, events: Vec<String>) -> Self {
        let id = format!("wh_{}", Uuid::now_v7().simple());
        let now = Now { url, events, secret, enabled: true, failures: 0, last_success: None, last_failure: None };
        Self { id, api, created: SystemTime::now(), now: Arc::new(Mutex::new(now)) }
    }

    /// Where an event goes and what it is signed with now; nowhere if the webhook is off or does not want it.
    pub(super) fn target(&self, event: &str) -> Option<(String, Secret)> {
        let now = locked(&self.now);
        let wanted = now.enabled && now.events.iter().any(|name| name == "*" || name == event);
        wanted.then(|| (now.url.clone(), now.secret.clone()))
    }

    /// Counts whether the receiver took an event. ScaiSend switches a webhook off that fails again and again.
    pub(super) fn sent(&self, taken: bool) {
        let mut now = locked(&self.now);
        if taken {
            (now.failures, now.last_success) = (0, Some(SystemTime::now()));
            return;
        }
        (now.failures, now.last_failure) = (now.failures.saturating_add(1), Some(SystemTime::now()));
        if self.api == ProviderKind::ScaiSend && now.failures >= MAX_FAILURES && now.enabled {
            now.enabled = false;
            tracing::warn!(id = self.id, "webhook switched off after {MAX_FAILURES} failures in a row");
        }
    }

    /// As it is shown; the secret only once.
    fn json(&self, with_secret: bool) -> Value {
        let now = locked(&self.now);
        let (events, _) = vocabulary(self.api);
        let mut fields = Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("url".to_owned(), json!(now.url)),
            ("enabled".to_owned(), json!(now.enabled)),
            (events.to_owned(), json!(now.events)),
            ("created_at".to_owned(), json!(time(self.created))),
        ]);
        if with_secret {
            let name = if self.api == ProviderKind::NexusProMail { "secret" } else { "signing_secret" };
            fields.insert(name.to_owned(), json!(now.secret.expose()));
        } else if self.api == ProviderKind::ScaiSend {
            fields.insert("failure_count".to_owned(), json!(now.failures));
            fields.insert("last_success_at".to_owned(), json!(now.last_success.map(time)));
            fields.insert("last_failure_at".to_owned(), json!(now.last_failure.map(time)));
            fields.insert("disabled_at".to_owned(), json!(now.last_failure.filter(|_| !now.enabled).map(time)));
        }
        fields.into()
    }

    /// Changes what a PATCH names.
    fn change(&self, fields: &Map<String, Value>) -> Result<(), Refusal> {
        let api = self.api;
        let url = fields.get("url").map(|url| url_of(api, Some(url))).transpose()?;
        let events = fields.get("enabled_events").map(|names| events_of(api, Some(names))).transpose()?;
        let flag =
            |value: &Value| value.as_bool().ok_or_else(|| refuse(api, "enabled", "must be true or false".into()));
        let enabled = fields.get("enabled").map(flag).transpose()?;
        let mut now = locked(&self.now);
        now.url = url.unwrap_or_else(|| now.url.clone());
        now.events = events.unwrap_or_else(|| now.events.clone());
        if let Some(enabled) = enabled {
            (now.enabled, now.failures) = (enabled, 0);
        }
        Ok(())
    }
}

fn fresh_secret() -> Secret {
    let random = || Uuid::new_v4().simple();
    Secret::new(format!("whsec_{}{}", random(), random()))
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
    answer(ProviderKind::NexusProMail, || list(&sandbox, ProviderKind::NexusProMail, &HashMap::new(), &headers))
}

/// `GET /v3/user/webhooks`.
pub(super) async fn list_scaisend(
    State(sandbox): State<Arc<Sandbox>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    answer(ProviderKind::ScaiSend, || list(&sandbox, ProviderKind::ScaiSend, &query, &headers))
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
        sandbox.permit(&headers, READ)?;
        Ok(Json(sandbox.webhook(api, &id)?.json(false)).into_response())
    })
}

/// `PATCH` of one of ScaiSend's.
pub(super) async fn change(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let api = ProviderKind::ScaiSend;
    answer(api, || {
        sandbox.permit(&headers, WRITE)?;
        let webhook = sandbox.webhook(api, &id)?;
        webhook.change(&fields_of(api, &body, CHANGEABLE)?)?;
        Ok(Json(webhook.json(false)).into_response())
    })
}

/// `POST …/{id}/signing_secret`: the old one is void at once.
pub(super) async fn rotate(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let api = ProviderKind::ScaiSend;
    answer(api, || {
        sandbox.permit(&headers, WRITE)?;
        let webhook = sandbox.webhook(api, &id)?;
        let secret = fresh_secret();
        let shown = Json(json!({ "signing_secret": secret.expose() })).into_response();
        locked(&webhook.now).secret = secret;
        Ok(shown)
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
        sandbox.permit(&headers, WRITE)?;
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
    sandbox.permit(headers, WRITE)?;
    if api != ProviderKind::NexusProMail && v3_dialect(headers) == ProviderKind::SendGrid {
        return Err(Refusal::not_found(
            "SendGrid's webhook is set up in its settings; `sidepost sandbox --provider sendgrid` has one already",
        ));
    }
    let (list, _) = vocabulary(api);
    let documented = if api == ProviderKind::NexusProMail { &["url", list] } else { SCAISEND_FIELDS };
    let fields = fields_of(api, body, documented)?;
    let webhook = Webhook::new(api, url_of(api, fields.get("url"))?, events_of(api, fields.get(list))?);
    let mut webhooks = sandbox.webhooks();
    if webhooks.len() >= MAX_WEBHOOKS {
        return Err(refuse(api, "url", format!("is one too many: {MAX_WEBHOOKS} webhooks are registered")));
    }
    let shown = webhook.json(true);
    webhooks.push(webhook);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// The fields of a body; only documented ones.
fn fields_of(api: ProviderKind, body: &[u8], documented: &[&str]) -> Result<Map<String, Value>, Refusal> {
    let asked: Value = serde_json::from_slice(body).map_err(|error| refuse(api, "", error.to_string()))?;
    let Value::Object(fields) = asked else { return Err(refuse(api, "", "must be an object".to_owned())) };
    match fields.keys().find(|name| !documented.contains(&name.as_str())) {
        Some(unknown) => Err(refuse(api, unknown, "is not a documented field".to_owned())),
        None => Ok(fields),
    }
}

/// As the real APIs: https anywhere. Without TLS to this machine alone, so that nobody's events cross a network in the clear.
fn url_of(api: ProviderKind, url: Option<&Value>) -> Result<String, Refusal> {
    let url = url.and_then(Value::as_str).and_then(|url| setup::webhook_url(url).ok());
    url.ok_or_else(|| refuse(api, "url", "must be https, or http to this machine".to_owned()))
}

fn events_of(api: ProviderKind, names: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let (list, more) = vocabulary(api);
    let known: Vec<&str> = setup::events(api).iter().chain(more).copied().collect();
    let names = names.and_then(Value::as_array).ok_or_else(|| refuse(api, list, "must be an array".to_owned()))?;
    let names = names.iter().map(|name| match name.as_str() {
        Some(name) if known.contains(&name) => Ok(name.to_owned()),
        _ => Err(refuse(api, list, format!("has an unknown name {name}; known are {}", known.join(", ")))),
    });
    names.collect()
}

fn refuse(api: ProviderKind, field: &str, message: String) -> Refusal {
    Refusal::shape(api, vec![Finding { field: field.to_owned(), message }])
}

/// What the list of events is called, and what can stand in it besides those that sidepost uses.
fn vocabulary(api: ProviderKind) -> (&'static str, &'static [&'static str]) {
    match api {
        ProviderKind::NexusProMail => ("events", &["sent"]),
        _ => ("enabled_events", &["*"]),
    }
}

fn list(
    sandbox: &Sandbox,
    api: ProviderKind,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    sandbox.permit(headers, READ)?;
    let (page, size) = (number(query, "page", 1)?, number(query, "page_size", PAGE_SIZE.0)?);
    if size > PAGE_SIZE.1 {
        return Err(Refusal::unusable(format!("page_size must be at most {}", PAGE_SIZE.1)));
    }
    let active = query.get("is_active").map(|flag| flag == "true");
    let webhooks = sandbox.webhooks();
    let of_api = webhooks.iter().filter(|one| one.api == api);
    let found: Vec<_> = of_api.filter(|one| active.is_none_or(|flag| locked(&one.now).enabled == flag)).collect();
    let shown = found.iter().skip((page - 1).saturating_mul(size)).take(size).map(|one| one.json(false));
    Ok(Json(json!({ "webhooks": shown.collect::<Vec<_>>(), "total": found.len() })).into_response())
}

impl Sandbox {
    fn webhook(&self, api: ProviderKind, id: &str) -> Result<Webhook, Refusal> {
        let webhooks = self.webhooks();
        let found = webhooks.iter().find(|one| one.api == api && one.id == id);
        found.cloned().ok_or_else(no_such_webhook)
    }
}
