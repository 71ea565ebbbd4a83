//! The receiver, the worker and the forwarder over real sockets and a real store, with paused time where time matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sidepost::config::decode::default_account;
use sidepost::config::{LogAddresses, ProviderKind};
use sidepost::feedback::EventKind;
use sidepost::metrics::{ForwardLabel, Metrics, WebhookLabel};
use sidepost::provider::{self, Request, Response};
use sidepost::relay::http::{Transport, TransportError};
use sidepost::relay::journal::Journal;
use sidepost::sandbox::events::{nexuspromail_signature, scaisend_signature};
use sidepost::secret::Secret;
use sidepost::store::{EventQuery, EventRecord, Place, Store};
use sidepost::web::forward::Forwarder;
use sidepost::web::webhook::{Hook, Receiver};
use sidepost::web::worker::{Bell, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::raw_http::{Answer, Served, serve};
use crate::store::{Folder, policy, settings};

const SECRET: &str = "whsec_CANARY";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A served receiver with an account of each HMAC provider, and one without a secret.
struct Receiving {
    server: Served,
    store: Store,
    metrics: Arc<Metrics>,
    bell: Bell,
}

async fn receiving(store: Store, max_body: usize) -> Receiving {
    let (metrics, bell) = (Arc::new(Metrics::default()), Bell::default());
    let hook = |kind, secrets: &[&str]| Hook {
        provider: provider::build(&default_account(kind)),
        secrets: secrets.iter().copied().map(Secret::new).collect(),
    };
    let hooks = BTreeMap::from([
        ("main".to_owned(), hook(ProviderKind::NexusProMail, &["whsec_next", SECRET])),
        ("scai".to_owned(), hook(ProviderKind::ScaiSend, &[SECRET])),
        ("mute".to_owned(), hook(ProviderKind::ScaiSend, &[])),
    ]);
    let receiver = Receiver::new(hooks, store.clone(), (max_body, false), bell.clone(), Arc::clone(&metrics));
    Receiving { server: serve(receiver.router()).await, store, metrics, bell }
}

fn memory() -> Store {
    Store::open(&settings(Place::Memory), &policy()).unwrap()
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn event(id: &str, kind: &str, recipient: &str) -> String {
    json!({ "id": id, "type": kind, "created_at": now(), "data": { "message_id": "m-1", "email": recipient } })
        .to_string()
}

impl Receiving {
    async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let answer = self.server.ask("POST", "/webhooks/main", headers, body).await;
        assert!(answer.body.is_empty(), "nobody is told more than the status: {answer:?}");
        answer.status
    }

    async fn signed(&self, body: &[u8]) -> u16 {
        self.post(&[JSON, ("X-NexusProMail-Signature", &nexuspromail_signature(SECRET, body))], body).await
    }

    async fn stored(&self) -> Vec<EventRecord> {
        self.store.events(EventQuery { limit: 1000, ..EventQuery::default() }).await.unwrap().items
    }

    fn counted(&self, account: &str, result: &'static str) -> u64 {
        self.metrics.webhook_requests.get_or_create(&WebhookLabel { account: account.to_owned(), result }).get()
    }
}

#[tokio::test]
async fn what_is_signed_is_stored_once_octet_by_octet() {
    let hooks = receiving(memory(), 1 << 20).await;
    let body = event("evt_1", "bounced.hard", "Ann@Example.com");
    assert_eq!(hooks.signed(body.as_bytes()).await, 200);
    let stored = hooks.stored().await;
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].account.as_str(), stored[0].processed), ("main", false));
    assert_eq!(stored[0].feedback.raw, body);
    assert_eq!(stored[0].feedback.kind, EventKind::BouncedHard);

    assert_eq!(hooks.signed(body.as_bytes()).await, 200, "again is no fault");
    let changed = event("evt_1", "complained", "ann@example.com");
    assert_eq!(hooks.signed(changed.as_bytes()).await, 200);
    assert_eq!(hooks.stored().await, stored, "and changes nothing");
    assert_eq!((hooks.counted("main", "taken"), hooks.counted("main", "duplicate")), (1, 2));

    let odd = event("evt_2", "levitated", "ann@example.com");
    let with_charset = ("content-type", "Application/JSON; charset=utf-8");
    let signature = nexuspromail_signature("whsec_next", odd.as_bytes());
    assert_eq!(hooks.post(&[with_charset, ("x-nexuspromail-signature", &signature)], odd.as_bytes()).await, 200);
    let bare = event("evt_3", "opened", "ann@example.com");
    let signature = nexuspromail_signature(SECRET, bare.as_bytes());
    assert_eq!(hooks.post(&[("X-NexusProMail-Signature", &signature)], bare.as_bytes()).await, 200);
    let kinds: Vec<EventKind> = hooks.stored().await.iter().map(|event| event.feedback.kind).collect();
    assert_eq!(kinds, [EventKind::Opened, EventKind::Unknown, EventKind::BouncedHard]);
}

/// Nothing of it is stored, nothing changes, and each is counted as what it is.
#[tokio::test]
async fn what_is_not_is_refused_with_the_status_alone() {
    let hooks = receiving(memory(), 2000).await;
    let body = event("evt_1", "complained", "ann@example.com");
    let body = body.as_bytes();
    let good = nexuspromail_signature(SECRET, body);
    let sign = |signature: &str| ("X-NexusProMail-Signature", signature.to_owned());
    let ask = async |headers: &[(&str, String)], body: &[u8]| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        hooks.post(&headers, body).await
    };
    let json = (JSON.0, JSON.1.to_owned());
    let forged = nexuspromail_signature("whsec_other", body);
    assert_eq!(ask(std::slice::from_ref(&json), body).await, 401);
    assert_eq!(ask(&[json.clone(), sign(&forged)], body).await, 401);
    assert_eq!(ask(&[json.clone(), sign(&good[1..])], body).await, 401);
    assert_eq!(ask(&[json.clone(), sign("ünsigned")], body).await, 401);
    assert_eq!(ask(&[json.clone(), sign(&good), sign(&good)], body).await, 401);
    assert_eq!(ask(&[json.clone(), sign(&good)], &body[..body.len() - 1]).await, 401, "truncated");
    let old = json!({ "id": "e", "type": "complained", "created_at": "2020-01-01T00:00:00Z" }).to_string();
    assert_eq!(hooks.signed(old.as_bytes()).await, 401, "stale");
    for wrong in [&b"{"[..], b"\xff\xfe", b"7", b"{}", format!("{}{}", "[".repeat(900), "]".repeat(900)).as_bytes()] {
        assert_eq!(hooks.signed(wrong).await, 400, "{wrong:?}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json"] {
        assert_eq!(ask(&[("Content-Type", kind.to_owned()), sign(&good)], body).await, 415);
    }
    let squeezed = ("Content-Encoding", "gzip".to_owned());
    assert_eq!(ask(&[json.clone(), squeezed, sign(&good)], body).await, 415);
    let large = vec![b' '; 2001];
    assert_eq!(hooks.signed(&large).await, 413);
    assert_eq!(hooks.signed(&[b' '; 2000]).await, 400, "just not too large");
    let ask = async |method: &str, path: &str| hooks.server.ask(method, path, &[JSON], body).await.status;
    assert_eq!(ask("POST", "/webhooks/other").await, 404);
    assert_eq!(ask("POST", "/webhooks/mute").await, 401);
    assert_eq!(ask("GET", "/webhooks/main").await, 405);
    assert_eq!(ask("GET", "/webhooks/other").await, 405);
    for path in ["/", "/webhooks", "/webhooks/", "/webhooks/main/more", "/metrics"] {
        assert_eq!(ask("GET", path).await, 404, "{path}");
    }
    assert_eq!(hooks.stored().await, []);
    let counted = |result| hooks.counted("main", result);
    assert_eq!([counted("unsigned"), counted("forged"), counted("stale"), counted("unreadable")], [2, 4, 1, 6]);
    assert_eq!([counted("not-json"), counted("too-large"), counted("method"), counted("taken")], [4, 1, 1, 0]);
    assert_eq!(
        [hooks.counted("", "no-account"), hooks.counted("", "method"), hooks.counted("mute", "no-secret")],
        [1; 3]
    );
}

/// Five minutes, both ways; the field outside of the signature cannot turn a delivery into a complaint.
#[tokio::test]
async fn scaisends_requests_are_fresh_and_of_one_mind() {
    let hooks = receiving(memory(), 1 << 20).await;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let ask = async |id: &str, at: u64, named: &str| {
        let body =
            json!({ "event_id": id, "event_type": "delivered", "recipient_email": "ann@example.com" }).to_string();
        let signature = scaisend_signature(SECRET, at, body.as_bytes());
        let (at, named) = (at.to_string(), named.to_owned());
        let headers =
            [JSON, ("X-ScaiSend-Signature", &*signature), ("X-ScaiSend-Timestamp", &at), ("X-ScaiSend-Event", &named)];
        hooks.server.ask("POST", "/webhooks/scai", &headers, body.as_bytes()).await.status
    };
    assert_eq!(ask("1", seconds, "delivered").await, 200);
    assert_eq!(ask("2", seconds - 310, "delivered").await, 401);
    assert_eq!(ask("3", seconds + 310, "delivered").await, 401);
    assert_eq!(ask("4", seconds, "spam_report").await, 401);
    assert_eq!(hooks.stored().await.len(), 1);
    assert_eq!([hooks.counted("scai", "stale"), hooks.counted("scai", "contradicted")], [2, 1]);
}

/// What strangers send is held for ten seconds before it is nothing; meanwhile there is room for events of usual size.
#[tokio::test]
async fn large_requests_of_strangers_keep_no_event_out() {
    let hooks = receiving(memory(), 8 << 20).await;
    let mut strangers = Vec::new();
    let part = vec![b'x'; (8 << 20) - 1];
    let head = format!("POST /webhooks/main HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", part.len() + 1);
    // Not more than it takes: who is refused in the middle may not see the answer.
    let large = event(&"l".repeat(600 << 10), "opened", "ann@example.com");
    'crowd: loop {
        strangers.clear();
        let come = std::time::Instant::now();
        for _ in 0..8 {
            let mut stream = TcpStream::connect(hooks.server.address).await.unwrap();
            // On a slow machine the first ones may have been sent away by now.
            let sent = [stream.write_all(head.as_bytes()).await, stream.write_all(&part).await];
            strangers.extend(sent.iter().all(Result::is_ok).then_some(stream));
        }
        while come.elapsed().as_secs() < 8 {
            if hooks.signed(large.as_bytes()).await == 503 {
                break 'crowd;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(hooks.counted("main", "busy") > 0);
    assert_eq!(hooks.signed(event("small", "complained", "ann@example.com").as_bytes()).await, 200);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_told_so() {
    let hooks = receiving(memory(), 1 << 20).await;
    let mut stream = TcpStream::connect(hooks.server.address).await.unwrap();
    let head = "POST /webhooks/main HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{\"id\"";
    let started = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(hooks.counted("main", "slow"), 1);
}

/// A client that goes away in the middle is nobody's event.
#[tokio::test]
async fn what_breaks_off_is_not_taken() {
    let hooks = receiving(memory(), 1 << 20).await;
    let body = event("evt_1", "complained", "ann@example.com");
    let mut stream = TcpStream::connect(hooks.server.address).await.unwrap();
    let signature = nexuspromail_signature(SECRET, body.as_bytes());
    let head = format!(
        "POST /webhooks/main HTTP/1.1\r\nHost: a\r\nX-NexusProMail-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len() + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert_eq!(hooks.stored().await, []);
}

/// 503, and the provider comes again; nothing is said that is not so.
#[tokio::test]
async fn a_store_that_fails_is_503_until_it_works() {
    let folder = Folder::new("hook-fails");
    let hooks = receiving(Store::open(&folder.settings(), &policy()).unwrap(), 1 << 20).await;
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other
        .execute_batch("CREATE TRIGGER f BEFORE INSERT ON events BEGIN SELECT RAISE(ROLLBACK, 'no luck'); END")
        .unwrap();
    let body = event("evt_1", "complained", "ann@example.com");
    assert_eq!(hooks.signed(body.as_bytes()).await, 503);
    assert_eq!(hooks.signed(b"{").await, 400, "what is wrong stays wrong");
    assert_eq!(hooks.counted("main", "store"), 1);
    other.execute_batch("DROP TRIGGER f").unwrap();
    assert_eq!(hooks.signed(body.as_bytes()).await, 200);
    assert_eq!(hooks.stored().await.len(), 1);
}

fn worker(hooks: &Receiving) -> Worker {
    Worker {
        store: hooks.store.clone(),
        policy: policy(),
        bell: hooks.bell.clone(),
        metrics: Arc::clone(&hooks.metrics),
        journal: Journal::new(LogAddresses::Full),
    }
}

/// Lets others run until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn events_are_acted_on_when_they_come_when_replayed_and_after_a_crash() {
    let hooks = receiving(memory(), 1 << 20).await;
    let left_over = event("evt_1", "bounced.hard", "ann@example.com");
    assert_eq!(hooks.signed(left_over.as_bytes()).await, 200);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker(&hooks).run(stop.clone()));
    let suppressed = async || crate::store::whole_list(&hooks.store).await.len();
    until("the event of before is acted on", async || suppressed().await == 1).await;
    let fresh = event("evt_2", "unsubscribed", "ben@example.com");
    assert_eq!(hooks.signed(fresh.as_bytes()).await, 200);
    until("the new one is", async || suppressed().await == 2).await;
    until("both are counted", async || hooks.metrics.suppressions_added.get() == 2).await;
    assert_eq!(hooks.store.replay(EventQuery::default()).await.unwrap(), 2);
    hooks.bell.ring();
    until("the replayed ones are", async || hooks.stored().await.iter().all(|event| event.processed)).await;
    assert_eq!((suppressed().await, hooks.metrics.suppressions_added.get()), (2, 2));
    stop.cancel();
    working.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_and_upkeep_finds_it_well() {
    let folder = Folder::new("worker-fails");
    let hooks = receiving(Store::open(&folder.settings(), &policy()).unwrap(), 1 << 20).await;
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other
        .execute_batch("CREATE TRIGGER f BEFORE INSERT ON suppressions BEGIN SELECT RAISE(ROLLBACK, 'no luck'); END")
        .unwrap();
    assert_eq!(hooks.signed(event("evt_1", "complained", "ann@example.com").as_bytes()).await, 200);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker(&hooks).run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(crate::store::whole_list(&hooks.store).await, []);
    other.execute_batch("DROP TRIGGER f").unwrap();
    until("it is acted on", async || crate::store::whole_list(&hooks.store).await.len() == 1).await;
    until("it works", async || hooks.store.trouble().is_none()).await;
    stop.cancel();
    working.await.unwrap();
}

/// An application whose answers are a script; 200 when that is over.
struct Application {
    answers: Mutex<Vec<Result<u16, ()>>>,
    seen: mpsc::UnboundedSender<Passed>,
}

/// A request's header fields, its body, and when it came.
type Passed = (Vec<(&'static str, String)>, Bytes, Instant);
type Seen = mpsc::UnboundedReceiver<Passed>;

impl Transport for Application {
    fn send<'a>(&'a self, request: &'a Request, _: Instant) -> BoxFuture<'a, Result<Response, TransportError>> {
        assert_eq!((request.url.as_str(), request.method.as_str()), ("http://app.test/events", "POST"));
        let _ = self.seen.send((request.headers.clone(), request.body.to_vec().into(), Instant::now()));
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.is_empty() { Ok(200) } else { answers.remove(0) };
        let response = answer.map(|status| Response {
            status,
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
            complete: true,
            received: SystemTime::now(),
        });
        Box::pin(async { response.map_err(|()| TransportError::Lost { detail: "no answer in time".to_owned() }) })
    }
}

/// The time of day of a test, which goes as its paused clock does.
fn clock() -> SystemTime {
    static BEGAN: OnceLock<SystemTime> = OnceLock::new();
    thread_local!(static HERE: Instant = Instant::now());
    *BEGAN.get_or_init(SystemTime::now) + HERE.with(Instant::elapsed)
}

fn forwarder(store: &Store, bell: &Bell, answers: &[Result<u16, ()>]) -> (Forwarder, Seen, Arc<Metrics>) {
    let (seen, seeing) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::default());
    let forwarder = Forwarder {
        store: store.clone(),
        url: "http://app.test/events".to_owned(),
        secret: Secret::new(SECRET),
        transport: Arc::new(Application { answers: Mutex::new(answers.to_vec()), seen }),
        bell: bell.clone(),
        metrics: Arc::clone(&metrics),
        clock,
    };
    (forwarder, seeing, metrics)
}

fn feedback(id: &str) -> sidepost::feedback::Feedback {
    sidepost::feedback::Feedback {
        reason: Some("550 5.1.1 gone".to_owned()),
        word: "bounce".to_owned(),
        message_id: Some("m-1".to_owned()),
        raw: Bytes::from_static(b"{ \"as\": \"it came\" }"),
        ..crate::store::event(id, EventKind::BouncedHard, "ann@example.com", 1)
    }
}

fn id_of(body: &Bytes) -> String {
    serde_json::from_slice::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn events_are_passed_on_signed() {
    let (store, bell) = (memory(), Bell::default());
    let (forwarder, mut seen, metrics) = forwarder(&store, &bell, &[]);
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarder.run(stop.clone()));
    store.take("main", vec![feedback("evt_1")], clock(), true).await.unwrap();
    store.take("main", vec![feedback("evt_2")], clock(), false).await.unwrap();
    bell.ring();
    let (headers, body, _) = seen.recv().await.unwrap();
    let expected = json!({
        "id": "evt_1", "account": "main", "type": "bounced.hard", "provider_type": "bounce",
        "at": "2100-01-01T00:00:01.000Z", "message_id": "m-1", "recipient": "ann@example.com",
        "reason": "550 5.1.1 gone", "raw": "{ \"as\": \"it came\" }",
    });
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    let header = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    assert_eq!(header("X-Sidepost-Event"), "bounced.hard");
    let at: u64 = header("X-Sidepost-Timestamp").parse().unwrap();
    assert_eq!(header("X-Sidepost-Signature"), scaisend_signature(SECRET, at, &body));
    until("the queue is empty", async || store.forwards_waiting().await.unwrap() == 0).await;
    assert!(seen.try_recv().is_err(), "what is not to be forwarded is not");
    assert_eq!(metrics.forwards.get_or_create(&ForwardLabel { result: "forwarded" }).get(), 1);
    stop.cancel();
    running.await.unwrap();
}

/// An outage is not asked about for each event; those that wait come in their order, and one that never arrives keeps none.
#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_is_tried_again() {
    let (store, bell) = (memory(), Bell::default());
    let events = (0..20).map(|n| feedback(&format!("evt_{n:02}"))).collect();
    store.take("main", events, clock(), true).await.unwrap();
    let wrong = [Err(()), Ok(500), Ok(302), Ok(404), Ok(503), Ok(400), Ok(199), Ok(410)];
    let (forwarder, mut seen, metrics) = forwarder(&store, &bell, &wrong);
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarder.run(stop.clone()));
    let mut order = Vec::new();
    let mut times = Vec::new();
    while order.len() < 28 {
        let (_, body, at) = seen.recv().await.unwrap();
        order.push(id_of(&body));
        times.push(at);
    }
    until("the queue is empty", async || store.forwards_waiting().await.unwrap() == 0).await;
    assert!(times[8] - times[7] >= Duration::from_millis(750), "a pause after the first eight failed");
    let first: Vec<String> = (0..8).map(|n| format!("evt_{n:02}")).collect();
    assert_eq!(order[..8], first);
    let mut once: Vec<String> = order[8..].to_vec();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 20, "each arrived once");
    let count = |result| metrics.forwards.get_or_create(&ForwardLabel { result }).get();
    assert_eq!((count("forwarded"), count("failed")), (20, 8));
    until("the gauge shows it", async || metrics.forwards_waiting.get() == 0).await;
    stop.cancel();
    running.await.unwrap();
}

/// An application that is away for a day has all of it soon after it is back, and the queue outlives the process.
#[tokio::test(start_paused = true)]
async fn a_long_outage_and_a_restart_lose_nothing() {
    let folder = Folder::new("forward");
    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let (bell, stop) = (Bell::default(), CancellationToken::new());
    store.take("main", vec![feedback("evt_1"), feedback("evt_2")], clock(), true).await.unwrap();
    let (forwarder_1, mut seen, _) = forwarder(&store, &bell, &[Err(()); 1000]);
    let running = tokio::spawn(forwarder_1.run(stop.clone()));
    let began = Instant::now();
    let mut last = began;
    let mut tries = 0;
    while began.elapsed() < Duration::from_hours(24) {
        last = seen.recv().await.unwrap().2;
        tries += 1;
    }
    assert!((2 * 24..2 * 60).contains(&tries), "about one try an hour for each, not {tries}");
    stop.cancel();
    running.await.unwrap();
    store.close().await.unwrap();

    let store = Store::open(&folder.settings(), &policy()).unwrap();
    let (forwarder_2, mut seen, _) = forwarder(&store, &bell, &[]);
    let stop = CancellationToken::new();
    let running = tokio::spawn(forwarder_2.run(stop.clone()));
    let mut came = vec![id_of(&seen.recv().await.unwrap().1), id_of(&seen.recv().await.unwrap().1)];
    came.sort();
    assert_eq!(came, ["evt_1", "evt_2"]);
    assert!(last.elapsed() <= Duration::from_mins(61));
    stop.cancel();
    running.await.unwrap();
}
