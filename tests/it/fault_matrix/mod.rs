//! Every fault of the API against every provider, over real sockets in paused time, and laws that hold for all of them.
//!
//! `cargo test fault_matrix -- --nocapture` prints the matrix.

mod api;
mod table;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Api, Held, Step, Time};
use sidepost::metrics::{AccountLabel, Metrics};
use sidepost::recent::Recent;
use sidepost::relay::Relay;
use sidepost::relay::http::{HttpTransport, Transport};
use table::{Door, FAULTS, Fault, OK};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::world::{config, relay_over, transaction};

const PROVIDERS: [&str; 3] = ["scaisend", "nexuspromail", "sendgrid"];
const DEADLINE: f64 = 25.0;
const WELL: &[Step] = &[Step::Read, Step::Take, Step::Say(OK)];

/// What one run came to.
struct Cell {
    reply: String,
    attempts: usize,
    seconds: f64,
    /// How often the mail was delivered once too often, when the client had tried again until it had its 250.
    duplicates: usize,
    /// Whether it was taken although the relay was told nothing or otherwise.
    unknown: bool,
}

impl Cell {
    fn show(&self) -> String {
        format!("{} · {} · {:.1} s · {}", self.reply, self.attempts, self.seconds, self.duplicates)
    }
}

/// The relay, its API, and a client.
struct Run {
    api: Arc<Api>,
    transport: Arc<Held>,
    relay: Arc<Relay>,
    metrics: Arc<Metrics>,
    mail: String,
    _closed: Option<TcpSocket>,
}

impl Run {
    fn start(fault: &Fault, provider: &str, lasts: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        // Little room: a request that is not read does not get lost in buffers.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let url = url(fault.door, socket.local_addr().unwrap());
        let time = Arc::new(Time::default());
        let plan = if lasts { (fault.steps, None) } else { (WELL, Some(fault.steps)) };
        let (whole, taken, marker) = (Mutex::default(), Mutex::default(), Mutex::default());
        let api = Arc::new(Api { time: Arc::clone(&time), whole, taken, marker, plan: Mutex::new(plan) });
        // Bound and not listening it refuses, and nobody else gets the port meanwhile.
        let closed = if fault.door == Door::Refused {
            Some(socket)
        } else {
            tokio::spawn(Arc::clone(&api).serve(socket.listen(64).unwrap()));
            None
        };
        let inner = HttpTransport::new(None, None).unwrap();
        let transport = Arc::new(Held { inner, time, requests: Mutex::default() });
        let flags = [
            format!("providers.main.kind={provider}"),
            format!("providers.main.base_url={url}"),
            // A permit that does not come back would be missed by the client's next try.
            "providers.main.max_in_flight=1".to_owned(),
        ];
        let flags = flags.each_ref().map(String::as_str);
        let refused_keys = Arc::new(Recent::new(Duration::from_mins(10)).unwrap());
        let dyn_transport: Arc<dyn Transport> = transport.clone();
        let metrics = Arc::<Metrics>::default();
        let relay = relay_over(&config(&flags), &dyn_transport, &refused_keys, &metrics);
        Self { api, transport, relay, metrics, mail: mail(fault.large, provider), _closed: closed }
    }

    /// One try of the client, which always is the same mail.
    async fn submit(&self) -> String {
        let transaction = transaction(&self.mail, &["ann@example.net"]);
        let settled = Arc::clone(&self.relay).submit(transaction).await;
        settled.receipt.unwrap().written();
        settled.reply.to_string()
    }

    /// Transactions under way, messages unfinished, requests in flight.
    fn gauges(&self) -> [i64; 3] {
        let label = AccountLabel { account: "main".to_owned() };
        let in_flight = self.metrics.requests_in_flight.get_or_create(&label).get();
        [self.metrics.ledger_under_way.get(), self.metrics.ledger_unfinished.get(), in_flight]
    }

    fn taken(&self) -> usize {
        *self.api.taken.lock().unwrap()
    }

    fn requests(&self) -> usize {
        *self.transport.requests.lock().unwrap()
    }
}

/// A small mail, or one that does not fit into the sockets' buffers.
fn mail(large: bool, provider: &str) -> String {
    let head = "From: App <app@example.com>\r\nTo: ann@example.net\r\nSubject: hi\r\n";
    let lines = |line: &str, count: usize| format!("{line}\r\n").repeat(count);
    match (large, provider) {
        (false, _) => format!("{head}\r\nhello\r\n"),
        // It takes no attachments, and gets the text as HTML, too.
        (true, "nexuspromail") => format!("{head}\r\n{}", lines(&"x".repeat(900), 2500)),
        (true, _) => {
            let file = lines(&"QUFB".repeat(19), 80_000);
            let kind = "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64";
            format!("{head}{kind}\r\nContent-Disposition: attachment\r\n\r\n{file}")
        }
    }
}

fn url(door: Door, address: SocketAddr) -> String {
    match door {
        Door::Http | Door::Refused => format!("http://{address}"),
        Door::Https => format!("https://localhost:{}", address.port()),
        Door::NoName => "https://no-such-host.invalid".to_owned(),
    }
}

/// The fault, the laws, and the client's next tries until it has a final reply.
async fn run(fault: &Fault, provider: &str, lasts: bool) -> Cell {
    let run = Run::start(fault, provider, lasts);
    let begun = Instant::now();
    let reply = run.submit().await;
    let seconds = begun.elapsed().as_secs_f64();
    let (taken, attempts) = (run.taken(), run.requests());
    let name = format!("{} at {provider}: {reply}", fault.name);
    assert!(seconds <= DEADLINE + 1.0, "{name}: after {seconds} s");
    assert_eq!(run.relay.under_way(), 0, "{name}");
    assert!(taken <= 1, "{name}: the relay itself sent it twice");
    let unknown = match reply.as_bytes()[0] {
        b'2' => {
            assert_eq!(taken, 1, "{name}: 250 without an acceptance");
            false
        }
        b'5' => {
            assert_eq!(taken, 0, "{name}: refused for good, and taken");
            false
        }
        _ => taken == 1,
    };
    if reply.starts_with('4') && !matches!(fault.door, Door::Refused | Door::NoName) {
        *run.api.plan.lock().unwrap() = (WELL, None);
        if fault.door == Door::Http {
            // Longer than any pause. The client's next try finds the permit, the breaker and the ledger in order.
            tokio::time::advance(Duration::from_hours(2)).await;
            let again = run.submit().await;
            assert!(again.starts_with("250 2.0.0 "), "{name}, then {again}");
        }
    }
    assert_eq!(run.relay.under_way(), 0, "{name}");
    assert_eq!(run.relay.unfinished(), 0, "{name}: something is remembered that is over");
    assert_eq!(run.gauges(), [0, 0, 0], "{name}: the gauges do not return");
    let reply = reply.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Cell { reply, attempts, seconds, duplicates: run.taken().saturating_sub(1), unknown }
}

/// ScaiSend can be asked whether it took the mail; the others cannot.
fn expected(fault: &Fault, provider: &str) -> (&'static str, usize) {
    let taken = fault.steps.iter().any(|step| matches!(step, Step::Take));
    match provider {
        "nexuspromail" => fault.nexus.unwrap_or(fault.reply),
        "scaisend" if taken && fault.reply.0.starts_with('4') => ("250 2.0.0", fault.reply.1),
        _ => fault.reply,
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_has_its_reply_and_the_laws_hold() {
    let mut wrong = Vec::new();
    println!("\n| fault | {} |\n|---|---|---|---|", PROVIDERS.join(" | "));
    for fault in FAULTS {
        for lasts in [true, false] {
            let mut cells = Vec::new();
            for provider in PROVIDERS {
                let (reply, attempts) = expected(fault, provider);
                let (reply, attempts) = if lasts || attempts == 1 { (reply, attempts) } else { ("250 2.0.0", 2) };
                // Where the fault is final in the first attempt, its end changes nothing.
                if !lasts && (attempts == 1 || matches!(fault.door, Door::Refused | Door::NoName | Door::Https)) {
                    cells.push("–".to_owned());
                    continue;
                }
                let cell = run(fault, provider, lasts).await;
                if (&*cell.reply, cell.attempts) != (reply, attempts) || cell.duplicates != usize::from(cell.unknown) {
                    wrong.push(format!("{} at {provider}: {}, not {reply} · {attempts}", fault.name, cell.show()));
                }
                cells.push(cell.show());
            }
            if cells.iter().any(|cell| cell != "–") {
                println!("| {}{} | {} |", fault.name, if lasts { "" } else { ", once" }, cells.join(" | "));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
