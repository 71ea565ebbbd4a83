//! ScaiSend's own lists of suppressed addresses: how they are asked for one address, and what they answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::address::Address;
use crate::message::rfc3339;
use crate::provider::{Listed, Payload, Request, Response, Unanswered, answer};
use crate::suppression::Reason;

/// The lists (providers/scaisend, "Suppression is asynchronous"); each is filtered by `email`.
const LISTS: [(Reason, &str); 3] = [
    (Reason::Complaint, "/v3/suppression/spam_reports"),
    (Reason::Bounce, "/v3/suppression/bounces"),
    (Reason::Unsubscribe, "/v3/asm/suppressions/global"),
];

/// One question for each list.
pub(super) fn questions(base: &str, recipient: &Address) -> Vec<(Reason, Request)> {
    let email = utf8_percent_encode(recipient.as_str(), NON_ALPHANUMERIC);
    let question = |(reason, path): (Reason, &str)| {
        let url = format!("{}{path}?email={email}&limit=10", base.trim_end_matches('/'));
        let request =
            Request { api_key: None, method: Method::GET, url, headers: Vec::new(), body: Payload::default() };
        (reason, request)
    };
    LISTS.into_iter().map(question).collect()
}

/// Whether the address is in the answer. A server may not know the filter, and give others, too.
pub(super) fn read(recipient: &Address, response: &Response) -> Result<Option<Listed>, Unanswered> {
    // 404: the vendor's way to say that there is no such entry, or that there is no such list.
    if response.status == 404 {
        return Ok(None);
    }
    if !(200..300).contains(&response.status) {
        let words = answer::error_text(&response.body).unwrap_or_default();
        let why = format!("{} {words}", response.status).trim().to_owned();
        return Err(Unanswered { why, pause: answer::retry_after(response) });
    }
    let no_json = |_| Unanswered { why: "an answer that is no JSON".to_owned(), pause: None };
    let json: Value = serde_json::from_slice(&response.body).map_err(no_json)?;
    let lists = match &json {
        Value::Array(items) => vec![items],
        Value::Object(members) => members.values().filter_map(Value::as_array).collect(),
        _ => Vec::new(),
    };
    let is_meant = |item: &&Value| {
        let email = item.get("email").and_then(Value::as_str).unwrap_or_default();
        email.eq_ignore_ascii_case(recipient.as_str())
    };
    Ok(lists.into_iter().flatten().find(is_meant).map(|item| Listed { since: since(item), words: words(item) }))
}

/// `created`: Unix seconds, or RFC 3339.
fn since(item: &Value) -> Option<SystemTime> {
    let created = item.get("created").or_else(|| item.get("created_at"))?;
    match created {
        Value::Number(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds.as_u64()?)),
        Value::String(text) => rfc3339(text),
        _ => None,
    }
}

fn words(item: &Value) -> String {
    let member = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", member("status"), member("reason")).trim().to_owned()
}
