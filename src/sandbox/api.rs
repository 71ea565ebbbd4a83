//! The two send calls: receive, judge, record, answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Sandbox;
use super::answer::{self, Refusal};
use super::mailbox::Mail;
use super::request_shape::{self, Finding};
use super::steering::{self, Fault};
use super::summary::{Summary, summaries};
use crate::config::ProviderKind;

/// Longest wait for a whole request body.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// `POST /v1/transactional/send`.
pub(super) async fn nexuspromail(State(sandbox): State<Arc<Sandbox>>, request: Request) -> Response {
    send(&sandbox, ProviderKind::NexusProMail, request).await
}

/// `POST /v3/mail/send`.
pub(super) async fn v3(State(sandbox): State<Arc<Sandbox>>, request: Request) -> Response {
    let api = v3_dialect(request.headers());
    send(&sandbox, api, request).await
}

/// Which of the two vendors of `/v3` the caller means: SendGrid's keys begin with `SG.`.
pub(super) fn v3_dialect(headers: &HeaderMap) -> ProviderKind {
    match bearer(headers) {
        Some(key) if key.starts_with("SG.") => ProviderKind::SendGrid,
        _ => ProviderKind::ScaiSend,
    }
}

/// The key of a call. Any is right, but one that contains `wrong`.
pub(super) fn authorize(headers: &HeaderMap) -> Result<&str, Refusal> {
    match bearer(headers) {
        None => Err(Refusal::unauthorized("Missing bearer token in the Authorization header")),
        Some(key) if key.contains("wrong") => Err(Refusal::unauthorized("Invalid or revoked API key")),
        Some(key) => Ok(key),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// The largest body that an API takes. NexusProMail names no limit.
fn limit(api: ProviderKind) -> usize {
    match api {
        ProviderKind::NexusProMail | ProviderKind::ScaiSend => 20 * 1024 * 1024,
        ProviderKind::SendGrid => 30 * 1024 * 1024,
    }
}

/// A request that is authorized, small enough and JSON.
struct Call {
    api: ProviderKind,
    body: Bytes,
    test: bool,
    mails: Vec<Summary>,
    findings: Vec<Finding>,
}

/// What to do with a call.
enum Verdict {
    Take { delay: Duration, status: Option<StatusCode> },
    TakeAndHangUp,
    Refuse(Refusal),
    Garbage,
    Hang,
    HangUp,
}

async fn send(sandbox: &Sandbox, api: ProviderKind, request: Request) -> Response {
    let hang_up = request.extensions().get::<CancellationToken>().cloned();
    let call = match receive(sandbox, api, request).await {
        Ok(call) => call,
        Err(refusal) => return refusal.response(api),
    };
    let verdict = judge(sandbox, &call);
    let ids = record(sandbox, &call, &verdict);
    let test = call.test;
    // A call that hangs must not hold its body.
    drop(call);
    match verdict {
        Verdict::Take { delay, status } => {
            tokio::time::sleep(delay).await;
            answer::taken(api, status.unwrap_or_else(|| answer::taken_status(api, test)), &ids)
        }
        Verdict::Refuse(refusal) => refusal.response(api),
        Verdict::Garbage => answer::garbage(),
        Verdict::Hang => std::future::pending().await,
        Verdict::HangUp | Verdict::TakeAndHangUp => close(hang_up).await,
    }
}

/// Ends the connection without an answer; cancelling the token drops this future with it.
async fn close(hang_up: Option<CancellationToken>) -> Response {
    match hang_up {
        Some(hang_up) => {
            hang_up.cancel();
            std::future::pending().await
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "this server cannot close connections on demand").into_response(),
    }
}

/// The order of these checks is the sandbox's own; the vendors do not tell theirs. The body is read before anything is
/// refused, so that a client that is still sending gets the answer rather than a broken pipe.
async fn receive(sandbox: &Sandbox, api: ProviderKind, request: Request) -> Result<Call, Refusal> {
    let (head, body) = request.into_parts();
    let room = sandbox.room(limit(api)).await;
    let body = tokio::time::timeout(BODY_TIMEOUT, read(body, limit(api))).await;
    let key = authorize(&head.headers)?;
    if api == ProviderKind::ScaiSend {
        sandbox.permit(&head.headers, "mail.send")?;
    }
    let body = body
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not arrive in time"))?
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "bad_request", error.to_string()))?
        .ok_or_else(|| Refusal::too_large(api, limit(api)))?;
    if !is_json(&head.headers) {
        let message = "Content-Type must be application/json, without Content-Encoding";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let payload: Value = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("is not JSON: {error}");
        match api {
            ProviderKind::NexusProMail => Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message),
            _ => Refusal::shape(api, vec![Finding { field: String::new(), message }]),
        }
    })?;
    drop(room);
    if api == ProviderKind::ScaiSend && payload.get("send_at").is_some() {
        sandbox.permit(&head.headers, "mail.schedule")?;
    }
    Ok(Call {
        api,
        test: is_test(api, key, &payload),
        mails: summaries(api, &payload),
        findings: request_shape::check(api, sandbox.alphabet, &payload),
        body,
    })
}

/// The whole body; `None` if it is larger than `limit`. Somewhat larger ones are read to their end and thrown away.
async fn read(body: Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    let mut octets = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        octets += chunk.len();
        if octets <= limit {
            whole.extend_from_slice(&chunk);
        } else if octets <= 3 * limit {
            whole = Vec::new();
        } else {
            break;
        }
    }
    Ok((octets <= limit).then(|| whole.into()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING)
}

/// ScaiSend's test keys, and the sandbox mode of both /v3 dialects: same answer, never delivered, no events.
fn is_test(api: ProviderKind, key: &str, payload: &Value) -> bool {
    let asked = payload.pointer("/mail_settings/sandbox_mode/enable").and_then(Value::as_bool) == Some(true);
    match api {
        ProviderKind::NexusProMail => false,
        ProviderKind::ScaiSend => asked || key.starts_with("sg_test_"),
        ProviderKind::SendGrid => asked,
    }
}

/// The shape first, then the first recipient whose address asks for something.
fn judge(sandbox: &Sandbox, call: &Call) -> Verdict {
    if !call.findings.is_empty() {
        return Verdict::Refuse(Refusal::shape(call.api, call.findings.clone()));
    }
    let places = call.mails.iter().enumerate().flat_map(|(group, mail)| mail.places().map(move |place| (group, place)));
    let mut recipients = places.map(|(group, (list, number, address))| match call.api {
        ProviderKind::NexusProMail => ("to.email".to_owned(), address),
        _ => (format!("personalizations.{group}.{list}.{number}.email"), address),
    });
    let steered =
        recipients.find_map(|(field, address)| verdict(sandbox, call.api, &field, address, steering::fault(address)?));
    steered.unwrap_or(Verdict::Take { delay: Duration::ZERO, status: None })
}

/// What a fault of the recipient at `field` means now; `None` if it is spent.
fn verdict(sandbox: &Sandbox, api: ProviderKind, field: &str, address: &str, fault: Fault) -> Option<Verdict> {
    let refuse = |status, word, message: &str| Verdict::Refuse(Refusal::new(status, word, message));
    let unavailable = || refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service temporarily unavailable");
    Some(match fault {
        Fault::Suppressed => Verdict::Refuse(Refusal::suppressed(api, address)),
        Fault::Invalid => Verdict::Refuse(Refusal::shape(api, vec![invalid_recipient(field, address)])),
        Fault::RateLimited { tries, retry_after } => {
            sandbox.another_try(address, tries).then(|| Verdict::Refuse(Refusal::rate_limited(retry_after)))?
        }
        Fault::Unavailable(None) => unavailable(),
        Fault::Unavailable(Some(tries)) => sandbox.another_try(address, tries).then(unavailable)?,
        Fault::Slow(delay) => Verdict::Take { delay, status: None },
        Fault::Hang => Verdict::Hang,
        Fault::Reset => Verdict::HangUp,
        Fault::AcceptReset => Verdict::TakeAndHangUp,
        Fault::Garbage => Verdict::Garbage,
        Fault::Unauthorized => Verdict::Refuse(Refusal::unauthorized("Invalid or revoked API key")),
        Fault::TooLarge => Verdict::Refuse(Refusal::too_large(api, limit(api))),
        Fault::Status(code) => match StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR) {
            status if status.is_success() => Verdict::Take { delay: Duration::ZERO, status: Some(status) },
            status => refuse(status, "status", "the recipient's address asked for this status"),
        },
    })
}

fn invalid_recipient(field: &str, address: &str) -> Finding {
    Finding { field: field.to_owned(), message: format!("is not a valid address: {address}") }
}

/// Puts the call's mails into the mailbox and sends the events of taken ones. Returns their ids.
fn record(sandbox: &Sandbox, call: &Call, verdict: &Verdict) -> Vec<String> {
    let taken = matches!(verdict, Verdict::Take { .. } | Verdict::TakeAndHangUp);
    let answer = describe(call, verdict);
    let share = call.body.len() / call.mails.len().max(1) + 1;
    let mails = call.mails.iter().enumerate().map(|(personalization, summary)| Mail {
        id: Mail::fresh_id(),
        time: SystemTime::now(),
        provider: call.api,
        taken,
        answer: answer.clone(),
        personalization,
        test: call.test,
        summary: summary.clone(),
        payload: call.body.clone(),
        share,
    });
    let mails: Vec<_> = mails.collect();
    let ids = mails.iter().map(|mail| mail.id.clone()).collect();
    sandbox.keep(mails);
    ids
}

fn describe(call: &Call, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Take { delay, status } => {
            let status = status.unwrap_or_else(|| answer::taken_status(call.api, call.test));
            if delay.is_zero() { status.to_string() } else { format!("{status} after {} ms", delay.as_millis()) }
        }
        Verdict::TakeAndHangUp => "taken, closed without an answer".to_owned(),
        Verdict::Refuse(refusal) => refusal.summary(),
        Verdict::Garbage => "200 OK with HTML".to_owned(),
        Verdict::Hang => "never answered".to_owned(),
        Verdict::HangUp => "closed without an answer".to_owned(),
    }
}
