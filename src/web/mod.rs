//! Health, readiness and metrics, the admin API, the providers' events, and the accept loop that serves any router within
//! limits.

pub mod forward;
pub mod webhook;
pub mod worker;

pub mod admin;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Gauge, Metrics};
use crate::seats::Seats;

/// Longest wait for the headers of a request, and so for the next request on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a client that does not read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most octets of a request's header: hyper's own bound is some 400 KiB on each connection.
const MAX_HEADER: usize = 32 << 10;
/// Most connections of a listener at a time.
pub const MAX_CONNECTIONS: usize = 512;
/// Most of them from one client: nobody alone can keep out the others. Enough for a proxy through which all of them come.
pub const MAX_PER_CLIENT: usize = 128;
/// How long running requests may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept: out of file descriptors, most likely, and a loop at full speed frees none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What Prometheus must be told to read the encoder's text right.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who calls: an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How one account stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountState {
    /// The operator's name for it.
    pub name: String,
    /// False while its key is refused or its breaker is open.
    pub ready: bool,
    /// Why, for the person who looks.
    pub reason: String,
}

/// Asked at each readiness probe.
pub type Accounts = Arc<dyn Fn() -> Vec<AccountState> + Send + Sync>;

/// Why the store cannot be written to; asked at each readiness probe and by /metrics.
pub type StoreTrouble = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What was lost since the start, because nobody waits for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lost {
    /// Lines of the log: whoever reads it is too slow.
    pub log_lines: u64,
    /// Lines of the message log, and the like, that were not written to the store.
    pub records: u64,
    /// Events that were dropped before the application had got them.
    pub forwards: u64,
}

/// Asked by /metrics.
pub type Losses = Arc<dyn Fn() -> Lost + Send + Sync>;

/// What the three pages are made from.
#[derive(Clone)]
pub struct Web {
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The accounts' states.
    pub accounts: Accounts,
    /// The store's state.
    pub store: StoreTrouble,
    /// What was lost.
    pub lost: Losses,
}

/// `GET /readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    accounts: Vec<AccountState>,
    store: StoreState,
}

#[derive(Serialize)]
struct StoreState {
    ready: bool,
    reason: String,
}

/// The routes `/healthz`, `/readyz` and `/metrics`. They can be merged with another router: no fallback is set.
pub fn router(web: Web) -> Router {
    let mut registry = Registry::default();
    web.metrics.register(&mut registry);
    Router::new()
        .route("/healthz", get(|| async { fresh("ok\n") }))
        .route("/readyz", get(readiness).with_state(web.clone()))
        .route("/metrics", get(metrics).with_state((Arc::new(registry), web)))
}

/// Red when no account takes mail. One of several that does not is named, but others still send: the relay should go on to
/// get mail. So it should while the store is in trouble, which therefore is said and turns nothing red: mail flows without
/// it, and a relay out of service would make an outage of a full disk.
async fn readiness(State(web): State<Web>) -> Response {
    let (accounts, trouble) = ((web.accounts)(), (web.store)());
    let store = StoreState { ready: trouble.is_none(), reason: trouble.unwrap_or_else(|| "ok".to_owned()) };
    let ready = accounts.iter().any(|account| account.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    fresh((status, Json(Readiness { ready, accounts, store })))
}

async fn metrics(State((registry, web)): State<(Arc<Registry>, Web)>) -> Response {
    web.metrics.store_ready.set((web.store)().is_none().into());
    let Lost { log_lines, records, forwards } = (web.lost)();
    for (counter, now) in [
        (&web.metrics.log_lines_lost, log_lines),
        (&web.metrics.records_lost, records),
        (&web.metrics.forwards_lost, forwards),
    ] {
        counter.inner().store(now, Ordering::Relaxed);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => fresh(([(header::CONTENT_TYPE, OPENMETRICS)], text)),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A response that no cache may keep.
fn fresh(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
}

/// Serves `router` until `shutdown`, then lets running requests end. Each request carries, as extensions, its [`Peer`] and
/// a [`CancellationToken`] that closes its connection at once and without an answer when it is cancelled.
///
/// `axum::serve` is not used because it sets no timer, without which a client that sends half a header stays for ever.
pub async fn serve(listener: TcpListener, router: Router, most_per_client: usize, shutdown: CancellationToken) {
    let seats = Seats::new(MAX_CONNECTIONS, most_per_client, Gauge::default());
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match seats.take(Some(peer.ip())) {
                Ok(seat) => {
                    let served = connection(stream, Peer(peer), router.clone(), shutdown.clone(), abort.child_token());
                    connections.spawn(async move {
                        served.await;
                        drop(seat);
                    });
                }
                Err(no_seat) => tracing::debug!(client = %peer.ip(), ?no_seat, "web connection closed: too many"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a web connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

/// Serves one connection until its client, the shutdown or `hang_up` ends it.
async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
    hang_up: CancellationToken,
) {
    // Answers are small and often follow each other: Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let answering = TowerToHyperService::new(router);
    let extension = hang_up.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(extension.clone());
        request.extensions_mut().insert(peer);
        answering.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        () = hang_up.cancelled() => return,
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = hang_up.cancelled() => return,
                ended = serving.as_mut() => ended,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "web connection ended");
    }
}
