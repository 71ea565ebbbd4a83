//! Webhooks of the built binary: real sockets, a real store, and what is left when it is killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use encodify::base64::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use sidepost::sandbox::events::{nexuspromail_signature, scaisend_signature};
use sidepost::store::{EventQuery, EventRecord, Store};
use sidepost::suppression::Suppression;

use crate::binary::{Relay, run, sidepost, text};
use crate::store::{Folder, policy, settings, whole_list};

const SECRET: &str = "whsec_CANARY-9d1";

/// `serve` with three accounts, their events, and a store in a file.
fn serve(folder: &Folder, key: &KeyPair, more: &[&str]) -> Relay {
    let public = STANDARD.encode(key.subject_public_key_info());
    let file = folder.path().join("sidepost.toml");
    let config = format!(
        "smtp.listen = [\"smtp://127.0.0.1:0\"]\nweb.listen = \"127.0.0.1:0\"\nwebhooks.listen = \"127.0.0.1:0\"\n\
         webhooks.max_body = \"64KiB\"\nstate.url = \"sqlite://{}\"\nstate.max_events = 200000\n\
         [[routes]]\nuse = [\"nexus\", \"scai\", \"grid\"]\n\
         [providers.nexus]\nkind = \"nexuspromail\"\napi_key = \"k\"\nwebhook_secrets = [\"whsec_next\", \"{SECRET}\"]\n\
         [providers.scai]\nkind = \"scaisend\"\napi_key = \"k\"\nwebhook_secrets = [\"{SECRET}\"]\n\
         [providers.grid]\nkind = \"sendgrid\"\napi_key = \"k\"\nwebhook_secrets = [\"{public}\"]\n",
        folder.file().display()
    );
    std::fs::write(&file, config).unwrap();
    let mut command = sidepost(&["serve", "--config", file.to_str().unwrap()]);
    command.args(more);
    Relay::start(command)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A kept-alive connection to the webhooks.
struct Provider(BufReader<TcpStream>);

impl Provider {
    fn connect(relay: &Relay) -> Self {
        Self(BufReader::new(TcpStream::connect(relay.webhooks.unwrap()).unwrap()))
    }

    /// Posts and reads the status; 0 if there was no answer.
    fn post(&mut self, account: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let mut request = format!("POST /webhooks/{account} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        let sent = self.0.get_mut().write_all(&[request.as_bytes(), body].concat());
        if sent.is_err() { 0 } else { self.answer() }
    }

    fn answer(&mut self) -> u16 {
        let mut status = 0;
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(octets) if octets > 0 => {}
                _ => return 0,
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            assert!(!line.to_ascii_lowercase().starts_with("content-length: ") || line.trim_end().ends_with(": 0"));
            if line == "\r\n" {
                return status;
            }
        }
    }

    fn nexus(&mut self, body: &str) -> u16 {
        self.post(
            "nexus",
            &[("X-NexusProMail-Signature", &nexuspromail_signature(SECRET, body.as_bytes()))],
            body.as_bytes(),
        )
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn nexus_event(id: &str, kind: &str, recipient: &str) -> String {
    let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    json!({ "id": id, "type": kind, "created_at": at, "data": { "message_id": "m-1", "email": recipient } }).to_string()
}

fn scai_event(id: &str, kind: &str, recipient: &str) -> String {
    json!({ "event_id": id, "event_type": kind, "timestamp": seconds(), "recipient_email": recipient }).to_string()
}

/// Asks again until it is so; each time over a real socket.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_mins(1), "never: {what}");
        std::thread::yield_now();
    }
}

fn metric(relay: &Relay, line: &str) -> u64 {
    let metrics = relay.get("/metrics").1;
    let value = metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Stops the relay, and looks into its store.
fn what_is_left(mut relay: Relay, folder: &Folder) -> (String, Vec<EventRecord>, Vec<Suppression>) {
    relay.signal();
    assert!(relay.process.wait().unwrap().success());
    let (events, list) = look(folder);
    (relay.rest_of_log(), events, list)
}

fn look(folder: &Folder) -> (Vec<EventRecord>, Vec<Suppression>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.settings(), &policy()).unwrap();
        let (mut events, mut after) = (Vec::new(), None);
        loop {
            let page = store.events(EventQuery { after, limit: 1000, ..EventQuery::default() }).await.unwrap();
            events.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let list = whole_list(&store).await;
        store.close().await.unwrap();
        (events, list)
    })
}

#[test]
fn only_what_is_signed_and_fresh_gets_in() {
    let (folder, key) = (Folder::new("hooks"), key());
    let relay = serve(&folder, &key, &[]);
    let good = nexus_event("evt_good", "bounced.hard", "Ann@Example.com");
    let good = good.as_bytes();
    let signature = nexuspromail_signature(SECRET, good);
    let signed = |signature: &str, body: &[u8]| {
        Provider::connect(&relay).post("nexus", &[("X-NexusProMail-Signature", signature)], body)
    };
    // Forged, truncated, tampered with.
    assert_eq!(signed(&nexuspromail_signature("whsec_CANARY-9d2", good), good), 401);
    assert_eq!(signed(&signature, &good[..good.len() - 2]), 401);
    assert_eq!(signed(&signature, &[good, b" "].concat()), 401);
    assert_eq!(signed("", good), 401);
    assert_eq!(Provider::connect(&relay).post("nexus", &[], good), 401);
    // Signed, and no event; too much; not JSON; for nobody.
    for wrong in [&b"\xff\xfe{}"[..], b"{\"id\":", "[".repeat(5000).as_bytes()] {
        assert_eq!(signed(&nexuspromail_signature(SECRET, wrong), wrong), 400);
    }
    let large = vec![b'x'; 3 << 20];
    assert_eq!(signed(&nexuspromail_signature(SECRET, &large), &large), 413);
    assert_eq!(Provider::connect(&relay).post("nexus", &[("Content-Encoding", "gzip")], good), 415);
    assert_eq!(Provider::connect(&relay).post("other", &[("X-NexusProMail-Signature", &signature)], good), 404);
    let mut raw = Provider::connect(&relay);
    raw.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(raw.answer(), 404);
    raw.0.get_mut().write_all(b"DELETE /webhooks/nexus HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(raw.answer(), 405);
    // Good; again; by the other secret.
    assert_eq!([signed(&signature, good), signed(&signature.to_uppercase(), good)], [200, 200]);
    let next = nexus_event("evt_next", "delivered", "ben@example.com");
    assert_eq!(signed(&nexuspromail_signature("whsec_next", next.as_bytes()), next.as_bytes()), 200);
    // ScaiSend: fresh, stale, contradicted.
    let scai = |id: &str, at: u64, named: &str| {
        let body = scai_event(id, "spam_report", "cid@example.com");
        let signature = scaisend_signature(SECRET, at, body.as_bytes());
        let at = at.to_string();
        let headers =
            [("X-ScaiSend-Signature", &*signature), ("X-ScaiSend-Timestamp", &at), ("X-ScaiSend-Event", named)];
        Provider::connect(&relay).post("scai", &headers, body.as_bytes())
    };
    assert_eq!(scai("s1", seconds(), "spam_report"), 200);
    assert_eq!([scai("s2", seconds() - 400, "spam_report"), scai("s3", seconds(), "delivered")], [401, 401]);
    // SendGrid: several events in one request, signed with its key and with another.
    let grid = |key: &KeyPair, at: u64| {
        let event = |id: &str, event: &str, email: &str| json!({ "sg_event_id": id, "event": event, "email": email, "timestamp": seconds(), "type": "bounce" });
        let events =
            [event("g1", "bounce", "dan@example.com"), event("g2", "levitated", "x"), event("g1", "open", "y")];
        let body = json!(events).to_string();
        let at = at.to_string();
        let signature = STANDARD.encode(key.sign(format!("{at}{body}").as_bytes()).unwrap());
        let headers =
            [("X-Twilio-Email-Event-Webhook-Signature", &*signature), ("X-Twilio-Email-Event-Webhook-Timestamp", &at)];
        Provider::connect(&relay).post("grid", &headers, body.as_bytes())
    };
    assert_eq!(grid(&crate::binary_webhooks::key(), seconds()), 401);
    assert_eq!(grid(&key, seconds() - 100_000), 401);
    assert_eq!(grid(&key, seconds() - 3600), 200);

    until("all are acted on", || metric(&relay, "sidepost_suppressions_added_total") == 3);
    let count = |account: &str, result: &str| {
        metric(&relay, &format!("sidepost_webhook_requests_total{{account=\"{account}\",result=\"{result}\"}}"))
    };
    assert_eq!([count("nexus", "taken"), count("nexus", "duplicate"), count("nexus", "forged")], [2, 1, 4]);
    assert_eq!([count("nexus", "unreadable"), count("nexus", "too-large"), count("", "no-account")], [3, 1, 1]);
    assert_eq!([count("scai", "stale"), count("scai", "contradicted"), count("grid", "stale")], [1, 1, 1]);
    assert_eq!(metric(&relay, "sidepost_events_total{account=\"grid\",kind=\"unknown\"}"), 1);
    assert_eq!(metric(&relay, "sidepost_event_duplicates_total{account=\"grid\"}"), 1);

    let (log, events, list) = what_is_left(relay, &folder);
    let ids: BTreeSet<&str> = events.iter().map(|event| event.feedback.event_id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["evt_good", "evt_next", "s1", "g1", "g2"]));
    assert!(events.iter().all(|event| event.processed));
    let suppressed: Vec<String> = list.iter().map(|one| format!("{} {}", one.address, one.reason.name())).collect();
    assert_eq!(suppressed, ["ann@example.com bounce", "cid@example.com complaint", "dan@example.com bounce"]);
    assert!(log.contains("\"message\":\"suppressed\",\"address\":\"ann@example.com\""), "{log}");
    assert!(!log.contains("CANARY"), "{log}");
}

/// A flood of forged requests is one line a second.
#[test]
fn a_flood_does_not_fill_the_log() {
    let (folder, key) = (Folder::new("flood"), key());
    let relay = serve(&folder, &key, &[]);
    let began = Instant::now();
    let mut provider = Provider::connect(&relay);
    for _ in 0..300 {
        assert_eq!(provider.post("nexus", &[("X-NexusProMail-Signature", "00")], b"{}"), 401);
    }
    let took = began.elapsed().as_secs() + 2;
    let (log, events, _) = what_is_left(relay, &folder);
    let lines = log.lines().filter(|line| line.contains("webhook request refused")).count();
    assert!((1..=usize::try_from(took).unwrap()).contains(&lines), "{lines} lines in {took} s");
    assert!(events.is_empty());
}

/// Every 200 that was said is in the store, and is acted on after the restart. (That nobody reads the log, with a line for
/// each effect, holds up nothing.)
#[test]
fn a_kill_loses_nothing_that_was_said() {
    const ALL: usize = 10_000;
    const SENDERS: usize = 16;
    let (folder, key) = (Folder::new("kill"), key());
    let mut relay = serve(&folder, &key, &[]);
    let (next, said) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            let mut provider = Provider::connect(&relay);
            let (next, said) = (&next, &said);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let body = nexus_event(&format!("evt_{n}"), "bounced.hard", &format!("r{n}@example.com"));
                    if n >= ALL || provider.nexus(&body) != 200 {
                        return;
                    }
                    said.lock().unwrap().push(n);
                }
            });
        }
        until("half of them are said", || said.lock().unwrap().len() >= ALL / 2);
        relay.process.kill().unwrap();
    });
    relay.process.wait().unwrap();
    let said = said.into_inner().unwrap();
    assert!((ALL / 2..ALL).contains(&said.len()), "killed in the middle, not after {}", said.len());

    let relay = serve(&folder, &key, &[]);
    // Once more, as a provider does that was not answered: what is there is not there twice.
    let mut provider = Provider::connect(&relay);
    for n in said.iter().rev().take(50) {
        assert_eq!(
            provider.nexus(&nexus_event(&format!("evt_{n}"), "bounced.hard", &format!("r{n}@example.com"))),
            200
        );
    }
    assert_eq!(metric(&relay, "sidepost_event_duplicates_total{account=\"nexus\"}"), 50);
    let done = nexus_event("evt_last", "complained", "last@example.com");
    assert_eq!(provider.nexus(&done), 200);
    let waiting = || {
        let other = rusqlite::Connection::open(folder.file()).unwrap();
        other.query_row("SELECT count(*) FROM waiting", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    until("all that was left is acted on", || waiting() == 0);
    let (_, events, list) = what_is_left(relay, &folder);
    let kept: BTreeSet<String> = events.into_iter().map(|event| event.feedback.event_id).collect();
    let suppressed: BTreeSet<String> = list.into_iter().map(|one| one.address).collect();
    let missing = said.iter().filter(|n| !kept.contains(&format!("evt_{n}"))).count();
    let idle = said.iter().filter(|n| !suppressed.contains(&format!("r{n}@example.com"))).count();
    println!("webhooks: said 200 {}, in the store {}, lost {missing}, without effect {idle}", said.len(), kept.len());
    assert_eq!((missing, idle), (0, 0));
}

/// The disk fails: events are refused for now, mail flows, readiness says so and stays green.
#[test]
fn a_store_in_trouble_refuses_events_and_lets_mail_flow() {
    let folder = Folder::new("trouble-hooks");
    let state = format!("state.url=sqlite://{}", folder.file().display());
    let secret = format!("providers.sandbox.webhook_secrets={SECRET}");
    let relay = Relay::sandbox(&["--provider", "nexuspromail", "--set", &state, "--set", &secret]);
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    // "lifted" is where upkeep tries whether the trouble is over.
    let fault = |table: &str| {
        format!("CREATE TRIGGER {table}_f BEFORE INSERT ON {table} BEGIN SELECT RAISE(ROLLBACK, 'disk I/O'); END;")
    };
    other.execute_batch(&(fault("events") + &fault("lifted"))).unwrap();
    let body = nexus_event("evt_1", "complained", "ann@example.com");
    let headers = [("X-NexusProMail-Signature", &*nexuspromail_signature(SECRET, body.as_bytes()))];
    let mut provider = Provider::connect(&relay);
    assert_eq!(provider.post("sandbox", &headers, body.as_bytes()), 503);
    let (status, ready) = relay.get("/readyz");
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((status, &ready["ready"], &ready["store"]["ready"]), (200, &true.into(), &false.into()));
    assert!(ready["store"]["reason"].as_str().unwrap().contains("disk I/O"), "{ready}");
    assert_eq!(metric(&relay, "sidepost_store_ready"), 0);
    let sent = run(&["send", "--server", &relay.smtp.to_string(), "--to", "invalid@example.com"]);
    assert!(text(&sent.stderr).contains("550 5.1.3"), "{}", text(&sent.stderr));
    let sent = run(&["send", "--server", &relay.smtp.to_string(), "--to", "ok@example.com"]);
    assert!(sent.status.success());
    other.execute_batch("DROP TRIGGER events_f; DROP TRIGGER lifted_f").unwrap();
    drop(other);
    until("it is taken when the disk is well", || provider.post("sandbox", &headers, body.as_bytes()) == 200);
}

/// The same at the start, when a restart is the last thing that may end the flow of mail.
#[test]
fn a_relay_begins_without_its_store_and_opens_it_when_the_disk_is_well() {
    let folder = Folder::new("later-hooks");
    drop(Store::open(&folder.settings(), &policy()).unwrap());
    let whole = crate::store::damage(&folder.file());
    let state = format!("state.url=sqlite://{}", folder.file().display());
    let secret = format!("providers.sandbox.webhook_secrets={SECRET}");
    let relay = Relay::sandbox(&["--provider", "nexuspromail", "--set", &state, "--set", &secret]);
    let (status, ready) = relay.get("/readyz");
    assert!(status == 200 && ready.contains("is damaged"), "{ready}");
    let sent = run(&["send", "--server", &relay.smtp.to_string(), "--to", "ok@example.com"]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let body = nexus_event("evt_1", "complained", "ann@example.com");
    let headers = [("X-NexusProMail-Signature", &*nexuspromail_signature(SECRET, body.as_bytes()))];
    let mut provider = Provider::connect(&relay);
    assert_eq!(provider.post("sandbox", &headers, body.as_bytes()), 503);
    std::fs::write(folder.file(), whole).unwrap();
    until("it is taken when the disk is well", || provider.post("sandbox", &headers, body.as_bytes()) == 200);
    until("it is acted on", || {
        let sent = run(&["send", "--server", &relay.smtp.to_string(), "--to", "ann@example.com"]);
        text(&sent.stderr).contains("550 5.7.1 <ann@example.com> suppressed")
    });
}

#[test]
fn a_store_in_a_place_that_is_none_is_a_mistake_of_the_configuration() {
    let output =
        run(&["sandbox", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0", "--set", "state.url=sqlite:///proc/no/x"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("state.url") && text(&output.stderr).contains("/proc/no/x"));
    let secret = "providers.sandbox.webhook_secrets=whsec_CANARY";
    let output =
        run(&["sandbox", "--provider", "sendgrid", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0", "--set", secret]);
    assert_eq!(output.status.code(), Some(78), "a shared secret where a public key belongs");
    let said = text(&output.stderr);
    assert!(said.contains("providers.sandbox.webhook_secrets") && !said.contains("CANARY"), "{said}");
    let account = ["--set", "providers.sendgrid.api_key=k", "--set", "providers.sendgrid.webhook_secrets=whsec_CANARY"];
    let output = run(&[&["check"][..], &account].concat());
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("is no public key on P-256"), "{}", text(&output.stderr));
}

/// The whole way round: a mail to bounce@, the provider's signed report, the list.
#[test]
fn the_sandbox_reports_to_the_relay_itself() {
    for (kind, recipient, reason) in [
        ("scaisend", "bounce@example.com", "bounced.hard"),
        ("scaisend", "complain@example.com", "complained"),
        ("nexuspromail", "unsubscribe@example.com", "unsubscribed"),
        ("nexuspromail", "bounce@example.com", "bounced.hard"),
        ("sendgrid", "bounce@example.com", "bounced.hard"),
        ("sendgrid", "complain@example.com", "complained"),
        ("sendgrid", "unsubscribe@example.com", "unsubscribed"),
    ] {
        let mut relay = Relay::sandbox(&["--provider", kind]);
        let sent = run(&["send", "--server", &relay.smtp.to_string(), "--to", recipient]);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        until("the address is suppressed", || metric(&relay, "sidepost_suppressions_added_total") == 1);
        assert_eq!(metric(&relay, &format!("sidepost_events_total{{account=\"sandbox\",kind=\"{reason}\"}}")), 1);
        let again = run(&["send", "--server", &relay.smtp.to_string(), "--to", recipient]);
        assert!(text(&again.stderr).contains("550 5.7.1"), "{}", text(&again.stderr));
        assert_eq!(metric(&relay, "sidepost_suppressed_total"), 1);
        assert_eq!(metric(&relay, "sidepost_suppression_list_seconds_count"), 2);
        relay.signal();
        assert!(relay.process.wait().unwrap().success());
        let log = relay.rest_of_log();
        assert!(log.contains(&format!("\"address\":\"{recipient}\"")) && !log.contains("whsec_"), "{log}");
    }
    let mut relay = Relay::sandbox(&[]);
    let webhooks = relay.webhooks.unwrap();
    let lines = BufReader::new(relay.process.stdout.take().unwrap()).lines();
    assert!(lines.take(4).last().unwrap().unwrap().contains(&format!("http://{webhooks}/webhooks/")));
}

/// Verified events reach the application, signed, also those that it was not there for.
#[test]
fn events_are_passed_on_to_the_application() {
    let (folder, key) = (Folder::new("forward-hooks"), key());
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&application).set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let address: SocketAddr = application.local_addr().unwrap();
    let forward = format!("webhooks.forward=http://{address}/events");
    let more = ["--set", &forward, "--set", "webhooks.forward_secret=fwd_CANARY"];
    let relay = serve(&folder, &key, &more);
    let mut provider = Provider::connect(&relay);
    let body = nexus_event("evt_1", "bounced.hard", "ann@example.com");
    assert_eq!(provider.nexus(&body), 200);
    assert_eq!(provider.nexus(&body), 200);
    assert_eq!(provider.nexus("{}"), 400);
    let accept = |answer: &str| {
        let (mut stream, _) = application.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0);
            seen.extend_from_slice(&chunk[..read]);
        }
        write!(
            stream,
            "HTTP/1.1 {answer}\r\nlocation: http://{address}/other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        text(&seen)
    };
    let first = accept("302 Elsewhere");
    assert!(first.starts_with("POST /events HTTP/1.1\r\n"));
    let second = accept("204 Fine");
    assert!(second.starts_with("POST /events HTTP/1.1\r\n"), "a redirect is not followed: {second}");
    let (head, json) = second.split_once("\r\n\r\n").unwrap();
    let header = |wanted: &str| {
        let found = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(wanted).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{wanted} is not in {head}"))
    };
    let at: u64 = header("x-sidepost-timestamp: ").parse().unwrap();
    assert_eq!(header("x-sidepost-signature: "), scaisend_signature("fwd_CANARY", at, json.as_bytes()));
    assert_eq!(header("x-sidepost-event: "), "bounced.hard");
    let event: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&event["id"], &event["account"]), (&"evt_1".into(), &"nexus".into()));
    assert_eq!(event["raw"], body);
    until("it is off the queue", || metric(&relay, "sidepost_forwards_total{result=\"forwarded\"}") == 1);

    // What the application had not taken when the relay was killed reaches it from the next one, and nothing else does.
    let mut relay = relay;
    assert_eq!(provider.nexus(&nexus_event("evt_2", "complained", "bob@example.com")), 200);
    assert!(accept("503 Not now").contains("\"evt_2\""));
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    let relay = serve(&folder, &key, &more);
    assert!(accept("204 Fine").contains("\"evt_2\""));
    until("it is off the queue", || metric(&relay, "sidepost_forwards_total{result=\"forwarded\"}") == 1);
    let (log, _, _) = what_is_left(relay, &folder);
    assert!(!log.contains("CANARY"), "{log}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(&settings(sidepost::store::Place::File(folder.file())), &policy()).unwrap();
    assert_eq!(runtime.block_on(store.forwards_waiting()).unwrap(), 0);
}
