//! ScaiSend's `GET /v3/stats`: the mailbox, counted by days. The vendor counts at night; here it is done at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Sandbox;
use super::answer::{Refusal, time};
use super::events;
use super::mailbox::Mail;
use super::steering;
use crate::config::ProviderKind;

/// The counter of an event (reference page on statistics).
const COUNTERS: &[(&str, &str)] = &[
    ("processed", "processed"),
    ("delivered", "delivered"),
    ("bounce", "bounces"),
    ("spam_report", "spam_reports"),
    ("unsubscribe", "unsubscribes"),
];

type Counts = BTreeMap<&'static str, u64>;

/// `GET /v3/stats`.
pub(super) async fn days(
    State(sandbox): State<Arc<Sandbox>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let counted = sandbox.permit(&headers, "stats.read").and_then(|()| count(&sandbox, &query));
    counted.map_or_else(|refusal| refusal.response(ProviderKind::ScaiSend), |json| Json(json).into_response())
}

fn count(sandbox: &Sandbox, query: &HashMap<String, String>) -> Result<Value, Refusal> {
    if let Some(unknown) = query.keys().find(|name| !["start_date", "end_date"].contains(&name.as_str())) {
        return Err(Refusal::unusable(format!("the sandbox does not know {unknown}; it counts by day")));
    }
    let start = day(query, "start_date")?.ok_or_else(|| Refusal::unusable("start_date is required".to_owned()))?;
    let end = day(query, "end_date")?;
    let mut days: BTreeMap<String, Counts> = BTreeMap::new();
    for mail in
        sandbox.mailbox().iter().filter(|mail| mail.taken && !mail.test && mail.provider == ProviderKind::ScaiSend)
    {
        let date: String = time(mail.time).chars().take(10).collect();
        if date >= start && end.as_ref().is_none_or(|end| date <= *end) {
            add(days.entry(date).or_insert_with(nothing), mail);
        }
    }
    let days = days.into_iter().map(|(date, metrics)| json!({ "date": date, "metrics": metrics }));
    Ok(json!({ "stats": days.collect::<Vec<_>>() }))
}

fn nothing() -> Counts {
    COUNTERS.iter().map(|(_, counter)| (*counter, 0)).chain([("requests", 0)]).collect()
}

/// Each recipient of a mail counts.
fn add(counts: &mut Counts, mail: &Mail) {
    for recipient in mail.summary.recipients() {
        *counts.entry("requests").or_default() += 1;
        for event in events::names(ProviderKind::ScaiSend, steering::fate(recipient)) {
            let counter = COUNTERS.iter().find(|(name, _)| name == event);
            if let Some((_, counter)) = counter {
                *counts.entry(counter).or_default() += 1;
            }
        }
    }
}

/// A day of the query, as `YYYY-MM-DD`.
fn day(query: &HashMap<String, String>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let right = text.len() == 10 && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok();
    if right { Ok(Some(text.clone())) } else { Err(Refusal::unusable(format!("{name} must be a day, YYYY-MM-DD"))) }
}
