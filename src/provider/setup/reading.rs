//! What the set-up calls answer, as types. The vendor shows some of these answers and only describes others, so that
//! each is looked for under every name that its pages or its peers use.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::Response;
use crate::outcome::steers;
use crate::secret::Secret;

/// Under which names the secret of a new webhook may come (NexusProMail's guide does not show it).
const WEBHOOK_SECRETS: &[&str] = &["signing_secret", "webhook_secret", "secret"];
/// Under which names a new key may come.
const API_KEYS: &[&str] = &["api_key", "key", "token"];
/// Under which names lists may come; ScaiSend's admin calls wrap theirs in `data`.
const LISTS: &[&str] = &["webhooks", "domains", "stats", "data", "items", "results", "result"];

/// What was just made and has a secret, which is shown this once.
#[derive(Debug, Clone)]
pub struct Made {
    /// The provider's id for it.
    pub id: Option<String>,
    /// The secret; `None` if the answer has it nowhere that anybody would look.
    pub secret: Option<Secret>,
    /// The whole answer, for when it is not understood.
    pub answer: String,
}

/// A registered webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The provider's id.
    pub id: String,
    /// Where the events go.
    pub url: String,
    /// Which ones.
    pub events: Vec<String>,
    /// Whether they are sent.
    pub enabled: Option<bool>,
    /// Failures in a row; ScaiSend switches a webhook off at ten.
    pub failures: Option<u64>,
    /// When an event was last taken by the receiver.
    pub last_success_at: Option<String>,
    /// When one was last not.
    pub last_failure_at: Option<String>,
}

/// A page of a list, and how many there are in all.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// Those of this page.
    pub items: Vec<T>,
    /// All of them, as far as the provider says.
    pub total: Option<u64>,
}

/// A sender domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// The provider's id.
    pub id: String,
    /// The domain.
    pub domain: String,
    /// Whether mail from it may be sent.
    pub verified: Option<bool>,
    /// What DNS is to say.
    pub dns_records: Vec<DnsRecord>,
}

/// One line for a DNS panel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsRecord {
    /// `TXT`, `CNAME`, `MX`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole name.
    pub name: String,
    /// What it says; an MX record's priority stands before it.
    pub value: String,
}

/// What a check of a domain's DNS found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether mail from the domain may be sent now.
    pub verified: bool,
    /// What is missing or wrong, in the provider's words.
    pub errors: Vec<String>,
}

/// The numbers of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// `YYYY-MM-DD`.
    pub date: String,
    /// The provider's counters by its names.
    pub metrics: BTreeMap<String, u64>,
}

/// The JSON of an answer.
///
/// # Errors
/// A sentence, when it is none or was cut off.
pub fn json(response: &Response) -> Result<Value, String> {
    if !response.complete {
        return Err("the answer broke off, or is longer than sidepost reads: look whether it was done before you ask again, or ask for less".to_owned());
    }
    let wrong = |_| {
        let status = response.status;
        format!("the answer ({status}) is not the API's JSON: does base_url lead to the API, and not to a page?")
    };
    serde_json::from_slice(&response.body).map_err(wrong)
}

/// The answer to a registration, and to the change of a secret.
pub fn webhook_secret(answer: &Value) -> Made {
    made(answer, WEBHOOK_SECRETS)
}

/// The answer to making a key.
pub fn api_key(answer: &Value) -> Made {
    made(answer, API_KEYS)
}

fn made(answer: &Value, names: &[&str]) -> Made {
    let secret = find(answer, names, 3).and_then(Value::as_str).filter(|text| !text.is_empty());
    Made {
        id: find(answer, &["id", "webhook_id", "api_key_id", "key_id"], 3).and_then(scalar),
        secret: secret.map(Secret::new),
        answer: answer.to_string(),
    }
}

/// The first text or number under one of these names, at the top before inside of its objects.
fn find<'a>(value: &'a Value, names: &[&str], depth: usize) -> Option<&'a Value> {
    let object = value.as_object()?;
    let here = names.iter().find_map(|name| object.get(*name).filter(|found| scalar(found).is_some()));
    here.or_else(|| object.values().filter(|_| depth > 1).find_map(|inner| find(inner, names, depth - 1)))
}

/// The answer to a list of webhooks.
pub fn webhooks(answer: &Value) -> Listed<Webhook> {
    let webhook = |entry: &Map<String, Value>| Webhook {
        id: text(entry, &["id"]),
        url: text(entry, &["url"]),
        events: texts(entry.get("enabled_events").or_else(|| entry.get("events"))),
        enabled: entry.get("enabled").or_else(|| entry.get("is_active")).and_then(Value::as_bool),
        failures: entry.get("failure_count").and_then(Value::as_u64),
        last_success_at: some_text(entry, "last_success_at"),
        last_failure_at: some_text(entry, "last_failure_at"),
    };
    listed(answer, webhook)
}

/// The answer to a list of domains.
pub fn domains(answer: &Value) -> Listed<Domain> {
    listed(answer, domain_of)
}

/// The answer to a new domain, or to the question for one.
pub fn domain(answer: &Value) -> Domain {
    domain_of(&unwrapped(answer))
}

fn domain_of(entry: &Map<String, Value>) -> Domain {
    let verified = entry.get("verified").or_else(|| entry.get("is_verified")).and_then(Value::as_bool);
    let says = || Some(entry.get("status")?.as_str()? == "verified");
    Domain {
        id: text(entry, &["id", "domain_id"]),
        domain: text(entry, &["domain", "name"]),
        verified: verified.or_else(says),
        dns_records: entry.get("dns_records").or_else(|| entry.get("records")).map(records).unwrap_or_default(),
    }
}

/// A list of records, or an object of them (SendGrid's way).
fn records(value: &Value) -> Vec<DnsRecord> {
    let entries: Vec<&Value> = match value {
        Value::Array(entries) => entries.iter().collect(),
        Value::Object(entries) => entries.values().collect(),
        _ => Vec::new(),
    };
    let record = |entry: &Map<String, Value>| {
        let priority = entry.get("priority").and_then(Value::as_u64).map(|n| format!("{n} ")).unwrap_or_default();
        DnsRecord {
            kind: text(entry, &["type", "record_type"]).to_ascii_uppercase(),
            name: text(entry, &["name", "host", "hostname"]),
            value: priority + &text(entry, &["value", "data", "content"]),
        }
    };
    entries.into_iter().filter_map(Value::as_object).map(record).filter(|one| !one.value.is_empty()).collect()
}

/// The answer to the check of a domain.
pub fn verification(answer: &Value) -> Verification {
    let entry = unwrapped(answer);
    let errors = entry.get("errors").and_then(Value::as_array).into_iter().flatten().map(error_words).collect();
    Verification { verified: domain_of(&entry).verified == Some(true), errors }
}

/// An error is a text, or an object with the record that it is about.
fn error_words(error: &Value) -> String {
    let Some(entry) = error.as_object() else {
        return clean(error.as_str().map_or_else(|| error.to_string(), str::to_owned).as_str());
    };
    let about = text(entry, &["record", "type", "check", "field", "name"]);
    let words = text(entry, &["message", "error", "detail", "reason"]);
    match (about.is_empty(), words.is_empty()) {
        (_, true) => clean(&error.to_string()),
        (true, false) => words,
        (false, false) => format!("{about}: {words}"),
    }
}

/// The answer to a question for numbers: `{"stats": [{"date", "metrics": {…}}]}`, or SendGrid's list of days with `stats`
/// in them.
pub fn days(answer: &Value) -> Vec<Day> {
    let day = |entry: &Map<String, Value>| {
        let inner = entry.get("stats").and_then(|stats| stats.get(0)?.get("metrics"));
        let metrics = entry.get("metrics").or(inner).and_then(Value::as_object).unwrap_or(entry);
        let counters = metrics.iter().filter_map(|(name, value)| Some((clean(name), value.as_u64()?)));
        Day { date: text(entry, &["date"]), metrics: counters.collect() }
    };
    let mut days = listed(answer, day).items;
    days.sort_by(|one, other| one.date.cmp(&other.date));
    days
}

/// The object that the answer is, or that it wraps in `data`.
fn unwrapped(answer: &Value) -> Map<String, Value> {
    answer.get("data").unwrap_or(answer).as_object().cloned().unwrap_or_default()
}

fn listed<T>(answer: &Value, read: impl Fn(&Map<String, Value>) -> T) -> Listed<T> {
    let list = answer.as_array().or_else(|| LISTS.iter().find_map(|name| answer.get(*name)?.as_array()));
    let items = list.into_iter().flatten().filter_map(Value::as_object).map(read).collect();
    Listed { items, total: answer.get("total").and_then(Value::as_u64) }
}

fn text(entry: &Map<String, Value>, names: &[&str]) -> String {
    names.iter().find_map(|name| some_text(entry, name)).unwrap_or_default()
}

fn some_text(entry: &Map<String, Value>, name: &str) -> Option<String> {
    scalar(entry.get(name)?)
}

/// A text, or a number as a text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(clean(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(clean).collect()
}

/// Without what steers: what an API says is printed on a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !steers(*c)).collect()
}
