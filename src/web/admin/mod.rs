//! The admin API: who is suppressed, what became of a mail, which events came; JSON under `/api`.
//!
//! `openapi.json` beside this file says it all, and is served as `/api/openapi.json`.

mod events;
mod gate;
mod messages;
mod query;
mod suppressions;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use self::gate::Gate;
use self::wire::ErrorBody;
use crate::config::Provider as Settings;
use crate::provider;
use crate::relay::http::{Transport, TransportError};
use crate::relay::journal::Journal;
use crate::store::{Store, StoreError};
use crate::suppression::Policy;
use crate::web::worker::Bell;

/// Largest body of a call, in octets; longer lists come in parts.
const MAX_BODY: usize = 8 << 20;
/// Longest wait for the whole of it.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait for what a provider says.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read by a caller in this process, in octets.
const MAX_ANSWER: usize = 64 << 20;

/// The document that describes it all (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");

/// An account that can be asked what became of a message.
#[derive(Clone)]
pub struct Account {
    /// Its settings.
    pub settings: Settings,
    /// The way to it, with its key.
    pub transport: Arc<dyn Transport>,
}

/// What the API works on.
#[derive(Clone)]
pub struct Admin {
    /// The store.
    pub store: Store,
    /// How the list writes an address.
    pub policy: Policy,
    /// The accounts by their names.
    pub accounts: BTreeMap<String, Account>,
    /// How addresses are logged.
    pub journal: Journal,
    /// Rung when events are to be acted on again. On the file of a stopped relay nobody hears it: its next start acts.
    pub bell: Bell,
}

impl Admin {
    /// All routes, behind the gate.
    pub fn router(self, gate: Gate) -> Router {
        let guarded = routes(Arc::new(self)).layer(from_fn_with_state(Arc::new(gate), gate::guard));
        Router::new().nest("/api", guarded.layer(map_response(uncached)))
    }

    /// One call within this process, on a store that no relay has open: its status and its answer. `target` is the path with
    /// its query, from `/api` on.
    ///
    /// # Errors
    /// When the call could not be made at all.
    pub async fn ask(&self, method: Method, target: &str, body: Vec<u8>) -> Result<(u16, Bytes), String> {
        let router = Router::new().nest("/api", routes(Arc::new(self.clone())));
        let request = Request::builder().method(method).uri(target).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).map_err(|e| format!("{target}: {e}"))?;
        let Ok(response) = TowerToHyperService::new(router).call(request).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|e| e.to_string())?;
        Ok((status, body))
    }

    /// What an account's API says to a request.
    async fn consult(
        &self,
        account: &Account,
        request: Result<provider::Request, String>,
    ) -> Result<provider::Response, String> {
        let request = request?;
        if account.settings.api_key.is_none() {
            return Err("the account has no key of its own to ask with".to_owned());
        }
        let answer = account.transport.send(&request, Instant::now() + PATIENCE).await;
        answer.map_err(|error| match error {
            TransportError::NotSent { detail, .. } => format!("the API cannot be reached: {detail}"),
            TransportError::Lost { detail } => format!("the API did not answer: {detail}"),
        })
    }
}

fn routes(admin: Arc<Admin>) -> Router {
    let only = |method: MethodRouter<Arc<Admin>>| method.fallback(wrong_method);
    Router::new()
        .route("/suppressions", only(get(suppressions::list).post(suppressions::add)))
        .route("/suppressions/{address}", only(delete(suppressions::remove)))
        .route("/messages", only(get(messages::list)))
        .route("/messages/{id}", only(get(messages::show)))
        .route("/provider/messages", only(get(messages::at_provider)))
        .route("/events", only(get(events::list)))
        .route("/events/replay", only(post(events::replay)))
        .route("/events/{number}", only(get(events::show)))
        .route("/openapi.json", only(get(document)))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn wrong_method(method: Method) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} does nothing here; see /api/openapi.json"))
}

async fn nothing_here(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no /api{}; see /api/openapi.json", uri.path()))
}

/// No cache keeps who was sent what.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a call was not done.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What came is wrong.
    fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.message })).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store cannot do it now: {error}"))
    }
}

impl From<PathRejection> for Refusal {
    fn from(_: PathRejection) -> Self {
        Self::wrong("the path cannot be read: percent-encode it as UTF-8")
    }
}

/// The body of a call as JSON. A page of another origin cannot send this type without being asked for leave first.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json"));
    }
    let octets = tokio::time::timeout(BODY_TIMEOUT, octets(request)).await;
    let octets = octets.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))??;
    serde_json::from_slice(&octets).map_err(|e| Refusal::wrong(format!("the body is not the JSON that is wanted: {e}")))
}

async fn octets(request: Request) -> Result<Bytes, Refusal> {
    let bytes = <Bytes as axum::extract::FromRequest<()>>::from_request(request, &()).await;
    bytes.map_err(|rejection: BytesRejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let most = MAX_BODY >> 20;
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {most} MiB; send it in parts"))
        }
        status => Refusal::new(status, "the body broke off"),
    })
}
