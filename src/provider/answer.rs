//! What the APIs' answers have in common: statuses, error bodies in both shapes, Retry-After.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Batch, Response};
use crate::outcome::{Cause, Kind, Outcome};

/// The kind that a status stands for where the provider has no rule of its own (provider reference §3.2, rows 6–30).
/// Success is not decided here.
pub fn kind_of_status(status: u16) -> Kind {
    match status {
        429 => Kind::Throttled,
        408 | 421 | 425 | 503 => Kind::Unavailable,
        401 | 403 => Kind::Credentials,
        402 | 420 => Kind::Quota,
        300..=399 | 404 | 405 | 406 | 410 | 415 => Kind::Misconfigured,
        // 409 and 423: an earlier attempt is alive. No repeat without a key; the client's next try will tell.
        409 | 423 => Kind::Unexpected,
        413 => Kind::TooLarge,
        400 | 422 => Kind::BadContent,
        502 | 504 => Kind::Gateway,
        500..=599 => Kind::ServerError,
        400..=499 => Kind::Refused,
        _ => Kind::Unexpected,
    }
}

/// 401 and 403 are told apart by their words: an unverified sender domain or identity is the sender's, credits are the
/// account's, the rest is the key's.
pub fn kind_of_denial(response: &Response) -> Kind {
    let words = error_text(&response.body).unwrap_or_default().to_ascii_lowercase();
    if words.contains("credit") {
        Kind::Quota
    } else if words.contains("mail.schedule") {
        // The key may send and not schedule: this mail asks for too much, and others are not held up for it.
        Kind::BadContent
    } else if response.status == 403
        && words.contains("verif")
        && (words.contains("domain") || words.contains("sender"))
    {
        Kind::BadSender
    } else {
        Kind::Credentials
    }
}

/// A cause made from a response: its kind, the API's own words, the pause it asks for.
pub fn cause(kind: Kind, response: &Response) -> Cause {
    let mut detail = error_text(&response.body).unwrap_or_default();
    if kind == Kind::Misconfigured && detail.is_empty() {
        detail.push_str("check base_url and send_path");
    }
    // A pause asked for with a permanent refusal (413, RFC 9110 §15.5.14) is about this mail, not about the account.
    let pause = if kind.row().code < 500 { retry_after(response) } else { None };
    Cause::new(kind, detail).with_status(response.status).with_retry_after(pause)
}

/// The same outcome for every recipient of the batch.
pub fn for_all(batch: &Batch, outcome: &Outcome) -> Vec<Outcome> {
    vec![outcome.clone(); batch.len()]
}

/// One error of an answer.
pub struct Complaint {
    /// The path of the field that it is about.
    pub field: Option<String>,
    /// What it says.
    pub words: String,
}

/// The errors of an error body. All documented shapes are tried on every answer, since the vendors use either on any path:
/// `{"errors":[{"message","field"}]}`, `{"detail": "…" | [{"loc","msg"}]}`, and `{"error","message"}`.
pub fn complaints(body: &[u8]) -> Vec<Complaint> {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let list = |key: &str| json.get(key).and_then(Value::as_array).into_iter().flatten();
    let errors = list("errors").map(|error| Complaint { field: text(error, "field"), words: words(error, "message") });
    let details = list("detail").map(|item| {
        let field = item.get("loc").map(path_of);
        let words = format!("{} {}", field.as_deref().unwrap_or_default(), words(item, "msg"));
        Complaint { field, words: words.trim().to_owned() }
    });
    let named: Vec<Complaint> = errors.chain(details).collect();
    if !named.is_empty() {
        return named;
    }
    let words = match (text(&json, "detail"), text(&json, "error"), text(&json, "message")) {
        (Some(detail), ..) => Some(detail),
        (None, Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (None, one, other) => one.or(other),
    };
    words.map(|words| Complaint { field: None, words }).into_iter().collect()
}

/// The human words of an error body: those of its first error.
pub fn error_text(body: &[u8]) -> Option<String> {
    complaints(body).into_iter().next().map(|first| first.words).filter(|words| !words.is_empty())
}

fn text(json: &Value, member: &str) -> Option<String> {
    json.get(member)?.as_str().map(str::to_owned)
}

fn words(json: &Value, member: &str) -> String {
    text(json, member).unwrap_or_default()
}

/// The `error` code of the NexusProMail shape, in lower case.
pub fn error_code(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    json.get("error")?.as_str().map(str::to_ascii_lowercase)
}

/// `["body", "personalizations", 0, "to"]` as `personalizations.0.to`.
fn path_of(loc: &Value) -> String {
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let words: Vec<String> = loc.as_array().into_iter().flatten().map(word).filter(|w| w != "body").collect();
    words.join(".")
}

/// The longest that is told to a client.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// How long the API asks to be left alone: Retry-After as seconds or date (RFC 9110 §10.2.3), else X-RateLimit-Reset as
/// Unix time (ScaiSend, SendGrid) when the answer is a 429. Nonsense is no pause at all; what is longer than a day is one.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let value = |name: &str| response.headers.get(name)?.to_str().ok().map(str::trim);
    let until = |then: SystemTime| then.duration_since(response.received).unwrap_or_default();
    let pause = match value("retry-after") {
        Some(text) => match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(text).ok().map(until),
        },
        None if response.status == 429 => {
            let reset = value("x-ratelimit-reset")?.parse().ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(reset)).map(until)
        }
        None => None,
    };
    pause.map(|pause| pause.min(LONGEST_PAUSE))
}

/// How the body of a 2xx reads (provider reference §3.4).
pub enum Success {
    /// A JSON object: look for the id, or for an error inside.
    Json(Value),
    /// Nothing, or cut off: the status has said that it was accepted.
    Bare,
    /// Something else: a login page, a proxy; almost certainly not the send call.
    Foreign,
}

/// Reads the body of a 2xx. One that broke off counts as bare only if what there is looks like the API's JSON: a portal's
/// page may break off as well, or be longer than anybody reads.
pub fn success_body(response: &Response) -> Success {
    let body = response.body.trim_ascii();
    match serde_json::from_slice::<Value>(body) {
        Ok(json) if json.is_object() => Success::Json(json),
        _ if body.is_empty() || (!response.complete && body.starts_with(b"{")) => Success::Bare,
        _ => Success::Foreign,
    }
}
