//! ScaiSend's `POST /v3/api_keys`, and what the keys that it made may do.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::answer::{Refusal, time};
use super::api::authorize;
use super::{Sandbox, locked};
use crate::config::ProviderKind;
use crate::secret::Secret;

/// Most keys.
const MAX_KEYS: usize = 200;
/// What stays visible of a key, in characters.
const PREFIX: usize = 12;

/// A key that was made here.
pub(super) struct Key {
    secret: Secret,
    scopes: Vec<String>,
    expires_at: Option<SystemTime>,
}

/// What can be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: String,
    environment: String,
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<String>,
}

/// `POST /v3/api_keys`.
pub(super) async fn create(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, body: Bytes) -> Response {
    made(&sandbox, &headers, &body).unwrap_or_else(|refusal| refusal.response(ProviderKind::ScaiSend))
}

fn made(sandbox: &Sandbox, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
    sandbox.permit_person(headers, "admin.api_keys")?;
    let asked: Asked = serde_json::from_slice(body).map_err(|error| Refusal::unusable(error.to_string()))?;
    if asked.name.trim().is_empty() || !["live", "test"].contains(&asked.environment.as_str()) {
        return Err(Refusal::unusable("name must not be empty, environment is live or test".to_owned()));
    }
    let moment = |text: &String| humantime::parse_rfc3339(text);
    let expires_at = asked.expires_at.as_ref().map(moment).transpose();
    let expires_at = expires_at.map_err(|error| Refusal::unusable(format!("expires_at: {error}")))?;
    let secret = format!("sg_{}_{}", asked.environment, Uuid::new_v4().simple());
    let mut keys = locked(&sandbox.keys);
    if keys.len() >= MAX_KEYS {
        return Err(Refusal::unusable(format!("{MAX_KEYS} keys are enough for a sandbox")));
    }
    let shown = json!({
        "id": format!("key_{}", Uuid::now_v7().simple()), "api_key": secret, "name": asked.name,
        "prefix": secret.get(..PREFIX), "environment": asked.environment, "scopes": asked.scopes,
        "expires_at": expires_at.map(time), "created_at": time(SystemTime::now()),
    });
    keys.push(Key { secret: Secret::new(secret), scopes: asked.scopes, expires_at });
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

impl Sandbox {
    /// Whether the bearer may do what takes this scope. Only keys that were made here are known well enough to refuse it.
    pub(super) fn permit(&self, headers: &HeaderMap, scope: &str) -> Result<(), Refusal> {
        let token = authorize(headers)?;
        let keys = locked(&self.keys);
        match keys.iter().find(|key| key.secret.expose() == token) {
            Some(key) if key.expires_at.is_some_and(|end| end <= SystemTime::now()) => {
                Err(Refusal::unauthorized("Expired API key"))
            }
            Some(key) if !key.scopes.iter().any(|known| known == scope) => Err(Refusal::missing_scope(scope)),
            _ => Ok(()),
        }
    }

    /// The same for what only people's tokens may do: whatever looks like a key does not have the scope.
    pub(super) fn permit_person(&self, headers: &HeaderMap, scope: &str) -> Result<(), Refusal> {
        self.permit(headers, scope)?;
        if authorize(headers)?.starts_with("sg_") { Err(Refusal::missing_scope(scope)) } else { Ok(()) }
    }
}
