//! How each API words its answers.

use std::time::SystemTime;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use super::request_shape::Finding;
use crate::config::ProviderKind;

/// A call that is not taken, and why.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    /// NexusProMail's `error`.
    word: &'static str,
    message: String,
    findings: Vec<Finding>,
    retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, word: &'static str, message: impl Into<String>) -> Self {
        Self { status, word, message: message.into(), findings: Vec::new(), retry_after: None }
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// ScaiSend's answer to a key that may not do this.
    pub(super) fn missing_scope(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("Missing required scope: {scope}"))
    }

    /// ScaiSend's answer to values that it cannot use, away from its send call.
    pub(super) fn unusable(message: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn too_large(api: ProviderKind, limit: usize) -> Self {
        let limit = limit / 1024 / 1024;
        let message = format!("the request is larger than the {limit} MB that {} takes", api.name());
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn rate_limited(seconds: u32) -> Self {
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Rate limit exceeded");
        Self { retry_after: Some(seconds), ..refusal }
    }

    pub(super) fn suppressed(api: ProviderKind, recipient: &str) -> Self {
        let message = match api {
            ProviderKind::NexusProMail => format!("{recipient} is on the suppression list"),
            _ => format!("Recipient {recipient} is suppressed"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "suppressed", message)
    }

    /// The request does not have the documented shape.
    pub(super) fn shape(api: ProviderKind, findings: Vec<Finding>) -> Self {
        let status = match api {
            ProviderKind::NexusProMail => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        let words: Vec<_> = findings.iter().map(|one| format!("{} {}", one.field, one.message)).collect();
        Self { findings, ..Self::new(status, "validation", words.join("; ").trim_start()) }
    }

    /// What the page shows.
    pub(super) fn summary(&self) -> String {
        let retry_after = self.retry_after.map(|seconds| format!(" (Retry-After: {seconds})")).unwrap_or_default();
        format!("{}{retry_after}: {}", self.status, self.message)
    }

    pub(super) fn response(&self, api: ProviderKind) -> Response {
        let mut response = (self.status, Json(self.body(api))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// ScaiSend says `errors` where a field is at fault and `detail` elsewhere; SendGrid always says `errors`.
    fn body(&self, api: ProviderKind) -> Value {
        match api {
            ProviderKind::NexusProMail => json!({ "error": self.word, "message": self.message }),
            ProviderKind::ScaiSend if self.findings.is_empty() => json!({ "detail": self.message }),
            _ if self.findings.is_empty() => {
                json!({ "errors": [{ "message": self.message, "field": null, "help": null }] })
            }
            _ => {
                let errors = self.findings.iter().map(|one| {
                    json!({ "message": format!("{} {}", one.field, one.message).trim_start(), "field": one.field, "help": null })
                });
                json!({ "errors": errors.collect::<Vec<_>>() })
            }
        }
    }
}

/// A moment as the APIs write it.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The status of a taken call.
pub(super) fn taken_status(api: ProviderKind, test: bool) -> StatusCode {
    match api {
        ProviderKind::NexusProMail => StatusCode::OK,
        ProviderKind::SendGrid if test => StatusCode::OK,
        ProviderKind::ScaiSend | ProviderKind::SendGrid => StatusCode::ACCEPTED,
    }
}

/// The answer to a taken call with the ids of its mails.
pub(super) fn taken(api: ProviderKind, status: StatusCode, ids: &[String]) -> Response {
    match (api, ids) {
        (ProviderKind::SendGrid, ids) => {
            let id = ids.first().map(String::as_str).unwrap_or_default();
            (status, [("x-message-id", id)]).into_response()
        }
        (ProviderKind::NexusProMail, [id, ..]) | (ProviderKind::ScaiSend, [id]) => {
            (status, Json(json!({ "message_id": id }))).into_response()
        }
        (_, ids) => (status, Json(json!({ "message_ids": ids }))).into_response(),
    }
}

/// 200 with a page: what a wrong URL, a proxy or a captive portal answers.
pub(super) fn garbage() -> Response {
    Html("<!doctype html><title>Welcome</title><h1>It works!</h1><p>This is not the API you are looking for.")
        .into_response()
}
