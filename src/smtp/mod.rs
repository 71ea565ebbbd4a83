//! The wire: SMTP from the socket to a finished transaction, and the reply back.
//!
//! ```text
//! listener ─stream→ connection ─octets→ codec ─line, data→ session ─step→ connection ─transaction→ relay
//! ```

pub mod budget;
pub mod codec;
pub mod command;
pub mod connection;
pub mod inherited;
pub mod listener;
pub mod proxy;
pub mod sasl;
pub mod session;
mod socket_file;
pub mod tls;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::address::Address;
use crate::config::{self, LogAddresses};
use crate::envelope::{Envelope, Origin, Transaction};
use crate::metrics::Metrics;
use crate::relay::journal::Journal;
use crate::relay::{Relay, Settled};
use crate::reply::Reply;
use crate::seats::Seats;
use budget::Budget;
use sasl::Authenticate;
use session::{Admission, Offer, Terms};
use tls::Tls;

/// The longest time that is measured: "for ever" is taken as this, and no clock runs over.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// What the wire needs of a relay. Tests answer in its place.
pub trait Submit: Send + Sync + 'static {
    /// Asked at MAIL: the refusal, if no mail of this sender can be taken now.
    ///
    /// # Errors
    /// The reply to MAIL.
    fn admit(&self, origin: &Origin, envelope: &Envelope) -> Result<(), Reply>;

    /// Asked at RCPT: the refusal, if this recipient must not be sent to. Of the envelope only the sender is known.
    ///
    /// # Errors
    /// The reply to RCPT.
    fn admit_recipient<'a>(
        &'a self,
        origin: &'a Origin,
        envelope: &'a Envelope,
        recipient: &'a Address,
    ) -> impl Future<Output = Result<(), Reply>> + Send + 'a;

    /// The largest message in octets.
    fn max_message_size(&self) -> usize;

    /// Whether addresses beyond ASCII can be carried.
    fn utf8_addresses(&self) -> bool;

    /// Relays one transaction; returns before the deadline.
    fn submit(self: Arc<Self>, transaction: Transaction) -> impl Future<Output = Settled> + Send;
}

impl Submit for Relay {
    fn admit(&self, origin: &Origin, envelope: &Envelope) -> Result<(), Reply> {
        Self::admit(self, origin, envelope)
    }

    fn admit_recipient<'a>(
        &'a self,
        origin: &'a Origin,
        envelope: &'a Envelope,
        recipient: &'a Address,
    ) -> impl Future<Output = Result<(), Reply>> + Send + 'a {
        Self::admit_recipient(self, origin, envelope, recipient)
    }

    fn max_message_size(&self) -> usize {
        Self::max_message_size(self)
    }

    fn utf8_addresses(&self) -> bool {
        Self::utf8_addresses(self)
    }

    fn submit(self: Arc<Self>, transaction: Transaction) -> impl Future<Output = Settled> + Send {
        Self::submit(self, transaction)
    }
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// What the listener knows of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The listener's URL without its options.
    pub listener: Arc<str>,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Whether the stream is encrypted already.
    pub encrypted: bool,
    /// Who the client has shown to be: the subject of its certificate.
    pub principal: Option<String>,
}

/// What all listeners and connections share.
pub struct Server<R> {
    relay: Arc<R>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    hostname: Arc<str>,
    allow: Vec<IpNet>,
    max_message_size: usize,
    max_recipients: usize,
    max_errors: u64,
    max_commands: u64,
    access: Arc<Access>,
    seats: Arc<Seats>,
    tls: Option<Arc<Tls>>,
    tls_required: bool,
    auth: Option<Arc<dyn Authenticate>>,
    login_required: bool,
    idle_timeout: Duration,
    greeting_delay: Duration,
    /// How long after the shutdown a message may still come in: what comes in last has a whole deadline left.
    drain: Duration,
    journal: Journal,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl<R: Submit> Server<R> {
    /// A server with the section `[smtp]` (its `hostname` already filled in) and two values of `[delivery]`.
    pub fn new(smtp: &config::Smtp, delivery: &config::Delivery, relay: Arc<R>, metrics: Arc<Metrics>) -> Self {
        Self {
            relay,
            budget: Budget::new(delivery.max_in_flight_bytes.octets(), Arc::clone(&metrics)),
            seats: Seats::new(smtp.max_connections, smtp.max_connections_per_client, metrics.connections_open.clone()),
            metrics,
            hostname: smtp.hostname.as_str().into(),
            allow: smtp.allow.iter().map(|network| network.0).collect(),
            max_message_size: smtp.max_message_size.octets(),
            max_recipients: smtp.max_recipients,
            max_errors: smtp.max_errors,
            max_commands: smtp.max_commands,
            access: Arc::new(Access { senders: smtp.senders.clone(), recipients: smtp.recipients.clone() }),
            tls: None,
            tls_required: false,
            auth: None,
            login_required: smtp.auth.required,
            idle_timeout: smtp.idle_timeout.min(LONGEST),
            greeting_delay: smtp.greeting_delay,
            drain: delivery.drain.min(LONGEST),
            journal: Journal::new(LogAddresses::Full),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same with STARTTLS; `required`: no mail without encryption, but on Unix sockets.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>, required: bool) -> Self {
        Self { tls: Some(tls), tls_required: required, ..self }
    }

    /// The same with AUTH.
    #[must_use]
    pub fn with_auth(self, auth: Arc<dyn Authenticate>) -> Self {
        Self { auth: Some(auth), ..self }
    }

    /// The same with a log that shows as much of addresses as the operator wants.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Begins the drain: no more connections; idle sessions get 421; what runs may finish within `delivery.drain`.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
        self.tasks.close();
    }

    /// Returns when, after [`Server::shut_down`], the last connection and the last transaction have ended.
    pub async fn drained(&self) {
        self.tasks.wait().await;
    }

    /// The relay that gets the mail.
    pub fn relay(&self) -> &R {
        &self.relay
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What a session with this client promises and demands. A client on a Unix socket may relay.
    fn terms(&self, peer: &Greeted) -> Terms {
        let is_known = peer.client.is_none_or(|ip| self.allow.iter().any(|net| net.contains(&ip.to_canonical())));
        Terms {
            client: peer.client.map(|ip| ip.to_canonical()),
            listener: Arc::clone(&peer.listener),
            protocol: peer.protocol,
            encrypted: peer.encrypted,
            principal: peer.principal.clone(),
            hostname: Arc::clone(&self.hostname),
            max_message_size: self.max_message_size.min(self.relay.max_message_size()),
            max_recipients: self.max_recipients,
            max_errors: self.max_errors,
            max_commands: self.max_commands,
            admission: match (self.login_required, is_known) {
                (true, _) => Admission::LoginOnly,
                (false, true) => Admission::Open,
                (false, false) => Admission::Stranger,
            },
            tls: match (self.tls.is_some(), self.tls_required) {
                (false, _) => Offer::No,
                (true, false) => Offer::Optional,
                (true, true) => Offer::Required,
            },
            auth: self.auth.is_some(),
            access: Arc::clone(&self.access),
            utf8_addresses: self.relay.utf8_addresses(),
        }
    }
}
