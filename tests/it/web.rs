//! Health, readiness, metrics, and the accept loop.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use sidepost::metrics::Metrics;
use sidepost::web::{AccountState, Web, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::raw_http::{Answer, Served, serve};

async fn served(accounts: Vec<AccountState>) -> (Served, Arc<Metrics>) {
    served_with(accounts, None).await
}

async fn served_with(accounts: Vec<AccountState>, trouble: Option<&'static str>) -> (Served, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let store = Arc::new(move || trouble.map(str::to_owned));
    let web = Web {
        metrics: Arc::clone(&metrics),
        accounts: Arc::new(move || accounts.clone()),
        store,
        lost: Arc::new(Default::default),
    };
    (serve(router(web)).await, metrics)
}

fn account(name: &str, ready: bool, reason: &str) -> AccountState {
    AccountState { name: name.to_owned(), ready, reason: reason.to_owned() }
}

#[tokio::test]
async fn health_is_green_as_long_as_the_process_serves() {
    let (server, _) = served(vec![account("main", false, "key refused")]).await;
    let answer = server.get("/healthz").await;
    assert_eq!((answer.status, answer.text()), (200, "ok\n"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn readiness_names_each_account_and_is_red_if_all_are() {
    let (server, _) = served(vec![account("main", true, "takes mail")]).await;
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "ready": true,
            "accounts": [{ "name": "main", "ready": true, "reason": "takes mail" }],
            "store": { "ready": true, "reason": "ok" },
        })
    );

    let (server, _) = served(vec![account("main", true, "takes mail"), account("other", false, "breaker open")]).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["ready"]), (200, &true.into()));
    assert_eq!(answer.json()["accounts"][1]["reason"], "breaker open");
    let (server, _) =
        served(vec![account("main", false, "key refused"), account("other", false, "breaker open")]).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["ready"]), (503, &false.into()));
}

/// Mail flows without the store: a full disk must not take the relay out of service.
#[tokio::test]
async fn a_store_in_trouble_is_said_and_turns_nothing_red() {
    let (server, _) = served_with(vec![account("main", true, "takes mail")], Some("the disk is full")).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["ready"]), (200, &true.into()));
    assert_eq!(answer.json()["store"], json!({ "ready": false, "reason": "the disk is full" }));
    assert!(server.get("/metrics").await.text().contains("sidepost_store_ready 0\n"));
    let (server, _) = served(vec![account("main", true, "takes mail")]).await;
    assert!(server.get("/metrics").await.text().contains("sidepost_store_ready 1\n"));
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let (server, metrics) = served(vec![]).await;
    metrics.connections.inc();
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(answer.text().contains("sidepost_smtp_connections_total 1\n"), "{}", answer.text());
    assert!(answer.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let (server, _) = served(vec![]).await;
    assert_eq!(server.ask("POST", "/healthz", &[], b"").await.status, 405);
    assert_eq!(server.ask("HEAD", "/healthz", &[], b"").await.status, 200);
    assert_eq!(server.get("/other").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn half_a_header_is_not_waited_for_for_ever() {
    let (server, _) = served(vec![]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Sl").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

/// One that asks and does not read would keep its place for ever.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let (server, _) = served(vec![]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let many = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let started = tokio::time::Instant::now();
    while stream.write_all(&many).await.is_ok() {}
    assert!(started.elapsed() <= std::time::Duration::from_mins(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn shutdown_lets_a_running_request_end_and_closes_idle_connections() {
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starts, finishes) = (Arc::clone(&started), Arc::clone(&finish));
    let router = Router::new().route("/", get(|| async { "idle" })).route(
        "/long",
        get(move || async move {
            starts.notify_one();
            finishes.notified().await;
            "done"
        }),
    );
    let server = serve(router).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut running = server.begin("GET", "/long", &[], b"").await;
    started.notified().await;

    server.shutdown.cancel();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    finish.notify_one();
    let mut bytes = Vec::new();
    running.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(Answer::parse(&bytes).text(), "done");
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_request_that_never_ends() {
    let started = Arc::new(Notify::new());
    let starts = Arc::clone(&started);
    let router = Router::new().route(
        "/",
        get(move || async move {
            starts.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let server = serve(router).await;
    let mut running = server.begin("GET", "/", &[], b"").await;
    started.notified().await;
    tokio::time::pause();
    server.shutdown.cancel();
    server.ended.await.unwrap();
    let mut bytes = Vec::new();
    let _ = running.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty());
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    async fn broken() -> String {
        panic!("a bug")
    }
    let server = serve(Router::new().route("/", get(|| async { "well" })).route("/broken", get(broken))).await;
    assert_eq!(server.get("/broken").await.status, 0);
    assert_eq!(server.get("/").await.text(), "well");
}
