//! The mailbox page and the JSON behind it.
//!
//! - `GET /sandbox/mails`: `{"revision": N, "mails": [...]}`, newest first; the revision changes with the content.
//! - `GET /sandbox/mails/{id}`: the same mail with `"payload"`, the request's JSON exactly as it came.
//! - `GET /sandbox/mails/{id}/html`: its HTML part as a document that can load and run nothing.
//! - `DELETE /sandbox/mails`: starts over: no mails, no tries counted. 204.
//! - `GET /sandbox/steering`: `{"smtp": "host:port", "rules": [{"address", "does"}]}`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::request_shape::is_canonical_base64;
use super::{Sandbox, steering};
use crate::network::is_for_this_machine;

const INDEX: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/app.js");
const STYLE: &str = include_str!("page/style.css");
const ICON: &str = include_str!("page/icon.svg");

/// The page loads its own files only, and nobody may frame it.
const PAGE_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// A mail's HTML may be styled and show the pictures it carries; it can run nothing, load nothing and leads nowhere.
const MAIL_POLICY: &str =
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'";

/// Largest HTML with its pictures, in octets.
const MAX_SHOWN: usize = 64 * 1024 * 1024;

/// The page's routes.
pub(super) fn routes(sandbox: Arc<Sandbox>) -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/", get(index))
        .route("/app.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .route("/sandbox/mails", get(list).delete(clear))
        .route("/sandbox/mails/{id}", get(show))
        .route("/sandbox/mails/{id}/html", get(html))
        .route("/sandbox/steering", get(help))
        .route_layer(middleware::from_fn_with_state(sandbox, guard))
}

/// The calls of the APIs want a key; the mails that were captured are open to whoever asks from here. A web page that got
/// its name to point to this machine is not meant.
async fn guard(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if sandbox.is_local && !host.is_some_and(is_for_this_machine) {
        let why = "the sandbox's mails are for this machine only (web.listen), and Host is no name of it; ask for localhost\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// People get the page, programs a pointer.
async fn index(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        return asset("text/html; charset=utf-8", INDEX);
    }
    Json(json!({
        "name": "sidepost sandbox", "mails": "/sandbox/mails", "steering": "/sandbox/steering",
        "send": ["/v1/transactional/send", "/v3/mail/send"],
    }))
    .into_response()
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type)], guarded(PAGE_POLICY), text).into_response()
}

/// The headers that keep a document where it belongs. `no-cache`: a new version of sidepost is seen at once.
fn guarded(policy: &'static str) -> [(HeaderName, &'static str); 4] {
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

async fn list(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let mailbox = sandbox.mailbox();
    let mails: Vec<_> = mailbox.iter().collect();
    Json(json!({ "revision": mailbox.revision(), "mails": mails })).into_response()
}

async fn clear(State(sandbox): State<Arc<Sandbox>>) -> StatusCode {
    sandbox.clear();
    StatusCode::NO_CONTENT
}

async fn show(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    let Some(mail) = sandbox.mailbox().get(&id).cloned() else { return gone() };
    // The payload goes in as it came: parsing and printing it again would lose the order of its fields.
    let mut text = serde_json::to_vec(&mail).unwrap_or_default();
    text.pop();
    text.extend_from_slice(b",\"payload\":");
    text.extend_from_slice(&mail.payload);
    text.push(b'}');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn html(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    let Some(mail) = sandbox.mailbox().get(&id).cloned() else { return gone() };
    let payload = serde_json::from_slice(&mail.payload).unwrap_or_default();
    let html = html_of(&payload).unwrap_or("<!doctype html><p>This mail has no HTML part.");
    (guarded(MAIL_POLICY), Html(with_pictures(html, &payload))).into_response()
}

async fn help(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(json!({ "smtp": sandbox.smtp, "rules": steering::RULES })).into_response()
}

fn gone() -> Response {
    (StatusCode::NOT_FOUND, "The mail is not there any more.\n").into_response()
}

/// The HTML of either API's request.
fn html_of(payload: &Value) -> Option<&str> {
    let content = payload.get("content").and_then(Value::as_array).into_iter().flatten();
    let mut parts = content.filter(|part| part.get("type").and_then(Value::as_str) == Some("text/html"));
    payload.get("html").or_else(|| parts.next()?.get("value"))?.as_str()
}

/// The HTML with `cid:` references replaced by the pictures themselves.
fn with_pictures(html: &str, payload: &Value) -> String {
    let mut html = html.to_owned();
    for attachment in payload.get("attachments").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| attachment.get(name).and_then(Value::as_str);
        let (Some(id), Some(content)) = (field("content_id"), field("content")) else { continue };
        let media_type = field("type").unwrap_or_default();
        let plain = media_type.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+.-".contains(&b));
        let reference = format!("cid:{id}");
        // A picture that is shown often would make a small mail a large page.
        let fits = html.len() + html.matches(&reference).count().saturating_mul(content.len()) <= MAX_SHOWN;
        if fits && !id.is_empty() && plain && media_type.starts_with("image/") && is_canonical_base64(content) {
            html = html.replace(&reference, &format!("data:{media_type};base64,{content}"));
        }
    }
    html
}
