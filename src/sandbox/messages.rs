//! ScaiSend's `GET /v3/messages`: what became of a mail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Sandbox;
use super::answer::{Refusal, time};
use super::api::authorize;
use super::events;
use super::mailbox::Mail;
use crate::config::ProviderKind;

/// Entries of a page, unless asked otherwise, and at most.
const PAGE_SIZE: (usize, usize) = (25, 100);
/// The filters that the sandbox knows.
const FILTERS: &[&str] =
    &["to_email", "from_email", "subject", "status", "category", "start_date", "end_date", "page", "page_size"];

/// `GET /v3/messages/{id}`.
pub(super) async fn show(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let shown = may_read(&sandbox, &headers).and_then(|()| {
        let mailbox = sandbox.mailbox();
        let mail = mailbox.get(&id).filter(|mail| is_message(mail));
        mail.map(whole).ok_or_else(|| Refusal::not_found("Message not found"))
    });
    answer(shown)
}

/// `GET /v3/messages`.
pub(super) async fn list(
    State(sandbox): State<Arc<Sandbox>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    answer(may_read(&sandbox, &headers).and_then(|()| page(&sandbox, &query)))
}

/// The vendor advises a key for sending alone; such a one may not read. The scope's name is not in its pages.
fn may_read(sandbox: &Sandbox, headers: &HeaderMap) -> Result<(), Refusal> {
    const SCOPE: &str = "messages.read";
    sandbox.permit(headers, SCOPE)?;
    if authorize(headers)?.contains("sendonly") { Err(Refusal::missing_scope(SCOPE)) } else { Ok(()) }
}

fn answer(shown: Result<Value, Refusal>) -> Response {
    shown.map_or_else(|refusal| refusal.response(ProviderKind::ScaiSend), |json| Json(json).into_response())
}

fn page(sandbox: &Sandbox, query: &HashMap<String, String>) -> Result<Value, Refusal> {
    if let Some(unknown) = query.keys().find(|name| !FILTERS.contains(&name.as_str())) {
        return Err(Refusal::unusable(format!("the sandbox does not know the filter {unknown}")));
    }
    let page = number(query, "page", 1)?;
    let page_size = number(query, "page_size", PAGE_SIZE.0)?;
    if page_size > PAGE_SIZE.1 {
        return Err(Refusal::unusable(format!("page_size must be at most {}", PAGE_SIZE.1)));
    }
    let (start, end) = (date(query, "start_date")?, date(query, "end_date")?);
    let in_time = |mail: &Mail| start.is_none_or(|start| mail.time >= start) && end.is_none_or(|end| mail.time <= end);
    let mailbox = sandbox.mailbox();
    let found = mailbox.iter().filter(|mail| is_message(mail) && in_time(mail) && matches(mail, query));
    let found: Vec<&Mail> = found.collect();
    let messages: Vec<_> = found.iter().skip((page - 1).saturating_mul(page_size)).take(page_size).collect();
    Ok(json!({
        "messages": messages.into_iter().map(|mail| brief(mail)).collect::<Vec<_>>(),
        "total": found.len(), "page": page, "page_size": page_size, "total_pages": found.len().div_ceil(page_size),
    }))
}

pub(super) fn number(query: &HashMap<String, String>, name: &str, default: usize) -> Result<usize, Refusal> {
    let Some(text) = query.get(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Refusal::unusable(format!("{name} must be a whole number from 1")))
}

/// A date, or a date and a time: which of them the API takes, its pages do not tell.
fn date(query: &HashMap<String, String>, name: &str) -> Result<Option<SystemTime>, Refusal> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.clone() };
    let time = humantime::parse_rfc3339_weak(&whole);
    time.map(Some).map_err(|_| Refusal::unusable(format!("{name} must be a date: 2026-11-22 or 2026-11-22T10:00:00Z")))
}

/// NexusProMail has no such call, and what was not taken is not there.
fn is_message(mail: &Mail) -> bool {
    mail.taken && mail.provider != ProviderKind::NexusProMail
}

fn matches(mail: &Mail, query: &HashMap<String, String>) -> bool {
    let asks = |name: &str, holds: &dyn Fn(&str) -> bool| query.get(name).is_none_or(|value| holds(value));
    let summary = &mail.summary;
    asks("to_email", &|value| summary.to.iter().any(|party| party.email.eq_ignore_ascii_case(value)))
        && asks("from_email", &|value| summary.from.email.eq_ignore_ascii_case(value))
        && asks("subject", &|value| summary.subject.contains(value))
        && asks("status", &|value| mail.status() == value)
        && asks("category", &|value| summary.categories.iter().any(|category| category == value))
}

fn brief(mail: &Mail) -> Value {
    let to: Vec<_> = mail.summary.to.iter().map(|party| &party.email).collect();
    json!({
        "id": mail.id, "status": mail.status(), "from_email": mail.summary.from.email, "to_emails": to,
        "subject": mail.summary.subject, "categories": mail.summary.categories,
        "custom_args": mail.summary.custom_args,
        "created_at": time(mail.time),
    })
}

fn whole(mail: &Mail) -> Value {
    let timestamp = time(mail.time);
    let names = if mail.test { &[] } else { events::names(ProviderKind::ScaiSend, mail.fate()) };
    let events = names.iter().map(|name| json!({ "timestamp": timestamp, "event_type": name }));
    let mut json = brief(mail);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("events".to_owned(), events.collect());
    }
    json
}
