//! A server whose relay answers as the test says, and a client that speaks and listens line by line.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sidepost::access::{Lists, Senders};
use sidepost::address::Address;
use sidepost::config::values::Size;
use sidepost::config::{self, Ambiguous, Auth, Delivery, PartialFailure, Smtp};
use sidepost::envelope::{Envelope, Login, Origin, Transaction};
use sidepost::metrics::Metrics;
use sidepost::relay::Settled;
use sidepost::reply::{Enhanced, Reply};
use sidepost::smtp::sasl::{Authenticate, Credentials, Verdict};
use sidepost::smtp::tls::Tls;
use sidepost::smtp::{Greeted, Protocol, Server, Submit, connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;

pub const IDLE: Duration = Duration::from_mins(5);
pub const DRAIN: Duration = Duration::from_secs(30);

/// What the relay does with a transaction, told by the local part of its first recipient: `panic`, `slow` (ten
/// seconds), `never`; any other is accepted at once. A `MAIL` is refused while `busy` is set; `fault` panics there.
#[derive(Default)]
pub struct Scripted {
    pub taken: Mutex<Vec<Transaction>>,
    pub busy: AtomicUsize,
}

impl Submit for Scripted {
    fn admit(&self, _: &Origin, _: &Envelope) -> Result<(), Reply> {
        match self.busy.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(Reply::new(451, Enhanced(4, 3, 2), "busy")),
            _ => panic!("on purpose"),
        }
    }

    async fn admit_recipient(&self, _: &Origin, _: &Envelope, _: &Address) -> Result<(), Reply> {
        Ok(())
    }

    fn max_message_size(&self) -> usize {
        usize::MAX
    }

    fn utf8_addresses(&self) -> bool {
        false
    }

    async fn submit(self: Arc<Self>, transaction: Transaction) -> Settled {
        match transaction.envelope.recipients[0].local() {
            "panic" => panic!("on purpose"),
            "slow" => tokio::time::sleep(Duration::from_secs(10)).await,
            "never" => std::future::pending().await,
            _ => {}
        }
        self.taken.lock().unwrap().push(transaction);
        let reply = Reply::new(250, Enhanced(2, 0, 0), "Ok");
        Settled { reply, each: Vec::new(), receipt: None }
    }
}

/// Ann's password is `secret`; `many` has failed too often; `panic` panics.
pub struct Users;

impl Authenticate for Users {
    fn check<'a>(&'a self, credentials: &'a Credentials, _: Option<IpAddr>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match (&credentials.user[..], credentials.password.expose()) {
                ("ann", "secret") => Verdict::Welcome(Login::of("ann")),
                ("many", _) => Verdict::TooMany,
                ("panic", _) => panic!("on purpose"),
                _ => Verdict::Refused,
            }
        })
    }
}

/// A certificate for `relay.test`, and what trusts it.
pub fn tls() -> (Arc<Tls>, tokio_rustls::TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
    let tls = Tls::new(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(tls), Arc::new(config).into())
}

/// A TCP client in the clear.
pub fn from(client: Option<IpAddr>) -> Greeted {
    Greeted {
        client,
        listener: "smtp://127.0.0.1:2525".into(),
        protocol: Protocol::Smtp,
        encrypted: false,
        principal: None,
    }
}

pub fn smtp() -> Smtp {
    Smtp {
        listen: vec!["smtp://127.0.0.1:0".parse().unwrap()],
        hostname: "relay.test".to_owned(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        max_message_size: Size(1 << 20),
        max_recipients: 100,
        max_connections: 3,
        max_connections_per_client: 2,
        idle_timeout: IDLE,
        greeting_delay: Duration::ZERO,
        max_errors: 20,
        max_commands: 1000,
        senders: Senders::default(),
        recipients: Lists::default(),
        proxy_from: vec!["127.0.0.0/8".parse().unwrap()],
        tls: config::Tls::default(),
        auth: Auth::default(),
    }
}

pub fn server_with(smtp: &Smtp, max_in_flight_bytes: u64) -> Arc<Server<Scripted>> {
    Arc::new(bare_server(smtp, max_in_flight_bytes))
}

pub fn bare_server(smtp: &Smtp, max_in_flight_bytes: u64) -> Server<Scripted> {
    let delivery = Delivery {
        deadline: Duration::from_secs(25),
        max_attempts: 4,
        ambiguous: Ambiguous::Defer,
        partial_failure: PartialFailure::Accept,
        max_in_flight_bytes: Size(max_in_flight_bytes),
        drain: DRAIN,
    };
    Server::new(smtp, &delivery, Arc::default(), Arc::default())
}

/// One server, and the clients that talk to it.
pub struct World {
    pub server: Arc<Server<Scripted>>,
}

impl World {
    pub fn new() -> Self {
        Self { server: server_with(&smtp(), 1 << 28) }
    }

    pub fn metrics(&self) -> &Metrics {
        self.server.metrics()
    }

    pub fn taken(&self) -> Vec<Transaction> {
        self.server.relay().taken.lock().unwrap().clone()
    }

    /// A client that was greeted.
    pub async fn client(&self) -> Client {
        let mut client = self.connect(1 << 20);
        client.hears("220 relay.test ESMTP sidepost").await;
        client
    }

    /// A client whose wire holds so many octets each way.
    pub fn connect(&self, wire: usize) -> Client {
        self.connect_from([127, 0, 0, 1].into(), wire)
    }

    pub fn connect_from(&self, ip: IpAddr, wire: usize) -> Client {
        self.connect_as(from(Some(ip)), wire)
    }

    pub fn connect_as(&self, peer: Greeted, wire: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(wire);
        let writes = Arc::new(AtomicUsize::new(0));
        let stream = Counted { inner: theirs, writes: Arc::clone(&writes) };
        let served = tokio::spawn(connection::serve(stream, peer, Arc::clone(&self.server)));
        Client { stream: ours, heard: Vec::new(), writes, served }
    }
}

pub struct Client {
    pub stream: DuplexStream,
    heard: Vec<u8>,
    pub writes: Arc<AtomicUsize>,
    pub served: JoinHandle<()>,
}

impl Client {
    pub async fn says(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line, without CRLF; `None` at the end of the connection.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.heard.drain(..end + 2).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if self.stream.read_buf(&mut self.heard).await.unwrap() == 0 {
                assert!(self.heard.is_empty(), "half a line");
                return None;
            }
        }
    }

    pub async fn hears(&mut self, expected: &str) {
        let line = self.line().await.unwrap_or_else(|| panic!("closed instead of {expected}"));
        assert!(line.starts_with(expected), "heard {line} instead of {expected}");
    }

    /// Every line with the beginning of its reply.
    pub async fn talks(&mut self, dialogue: &[(&str, &str)]) {
        for (line, expected) in dialogue {
            self.says(&format!("{line}\r\n")).await;
            self.hears(expected).await;
        }
    }

    pub async fn hears_the_end(&mut self) {
        assert_eq!(self.line().await, None);
    }

    /// Up to 354.
    pub async fn begins_a_mail_to(&mut self, recipient: &str) {
        let rcpt = format!("RCPT TO:<{recipient}>");
        self.talks(&[("HELO app.test", "250"), ("MAIL FROM:<>", "250"), (&rcpt, "250"), ("DATA", "354")]).await;
    }
}

/// Counts the writes, as a socket would count system calls.
struct Counted {
    inner: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
