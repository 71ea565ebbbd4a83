//! Configuration: its sections as types. Where the values come from is `layers.rs`; how the tree
//! becomes values, `decode.rs`; how they are written, `values.rs` and `listen.rs`; what is wrong with them together,
//! `rules.rs`; what is seldom meant, `advice.rs`.

pub mod advice;
pub mod decode;
pub mod layers;
pub mod listen;
pub mod rules;
pub mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::access::{Lists, Senders};
use crate::controls::Policy;
use crate::outcome::Overrides;
use crate::pattern::Patterns;
use crate::route::Route;
use crate::secret::Secret;
use crate::sender::Rewrite;
use crate::store;
use crate::suppression;
use listen::Listen;
use values::{AddressOrNone, Network, Rate, RateOrNone, Size, duration, pause};

/// Everything. Only `app` and `cli` see it whole; a room gets its own section.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Which accounts serve which mails; empty: the only account serves all.
    pub routes: Vec<Route>,
    /// The SMTP listeners.
    pub smtp: Smtp,
    /// The accounts, by the operator's name for them.
    pub providers: BTreeMap<String, Provider>,
    /// Deadline, attempts, policies.
    pub delivery: Delivery,
    /// Who may send.
    pub sender: Sender,
    /// What mail headers may ask for.
    pub controls: Policy,
    /// What outlives a mail.
    pub state: store::Settings,
    /// Whom not to send to.
    pub suppression: suppression::Policy,
    /// Where providers report.
    pub webhooks: Webhooks,
    /// Health, readiness, metrics, the admin API.
    pub web: Web,
    /// What is logged, and how.
    pub log: Log,
}

/// `[smtp]`: the listeners and what a client may ask of them.
#[derive(Debug, Clone, Deserialize)]
pub struct Smtp {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The name in greeting and EHLO; empty in the file means the machine's.
    pub hostname: String,
    /// Networks that may relay without AUTH.
    pub allow: Vec<Network>,
    /// Largest message in octets (SIZE, RFC 1870).
    pub max_message_size: Size,
    /// Most recipients of one transaction; the next one gets 452 4.5.3 (RFC 5321 §4.5.3.1.10).
    pub max_recipients: usize,
    /// Most connections at a time; the next one gets 421.
    pub max_connections: usize,
    /// Most connections of one client address.
    pub max_connections_per_client: usize,
    /// Longest wait for the client's next octets; then 421 (RFC 5321 §4.5.3.2.7).
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long the greeting is held back; who speaks before it is sent away (RFC 5321 §4.3.1).
    #[serde(with = "pause")]
    pub greeting_delay: Duration,
    /// The protocol error that ends a session with 421.
    pub max_errors: u64,
    /// The command without any mail since the last one that ends a session with 421.
    pub max_commands: u64,
    /// Whose mail is taken.
    pub senders: Senders,
    /// For whom mail is taken.
    pub recipients: Lists,
    /// Proxies whose PROXY header is believed, on listeners with `?proxy=require`.
    pub proxy_from: Vec<Network>,
    /// Certificates.
    pub tls: Tls,
    /// Who may log in.
    pub auth: Auth,
}

/// `[smtp.tls]`: PEM files; an empty path means none.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tls {
    /// The certificate chain.
    pub cert: String,
    /// Its private key.
    pub key: String,
    /// Authorities whose client certificates stand for AUTH.
    pub client_ca: String,
    /// No mail without TLS.
    pub required: bool,
}

impl Tls {
    /// Whether there is a certificate to show.
    pub fn is_configured(&self) -> bool {
        !self.cert.is_empty()
    }
}

/// `[smtp.auth]`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Auth {
    /// No mail without AUTH.
    pub required: bool,
    /// The password is the API key that the client's mail is sent with.
    pub passthrough: bool,
    /// Users with their argon2id hashes.
    #[serde(default)]
    pub users: BTreeMap<String, Hash>,
    /// A file with a `name:hash` a line; empty means none.
    pub users_file: String,
}

impl Auth {
    /// Whether anybody can log in with a password.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty() || !self.users_file.is_empty()
    }
}

/// A password's hash as it was given. What is no text becomes an empty one, which the rules refuse: the sentence that
/// reading it wrongly would make shows the value.
#[derive(Debug, Clone)]
pub struct Hash(pub Secret);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(Secret::new(value.as_str().unwrap_or_default())))
    }
}

/// `[providers.NAME]`: one account of one API.
#[derive(Debug, Clone, Deserialize)]
pub struct Provider {
    /// Which API.
    pub kind: ProviderKind,
    /// The API's address up to the send path; empty means the vendor's.
    pub base_url: String,
    /// The path of the send call; empty means the vendor's.
    pub send_path: String,
    /// The key.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// API requests a time.
    pub rate: Rate,
    /// How many requests may go at once after a pause.
    pub burst: u32,
    /// What a token of the bucket is for.
    pub rate_counts: RateCounts,
    /// Requests a time for the mail of one principal.
    pub rate_per_principal: RateOrNone,
    /// Requests a time for the mail of one domain of senders, as MAIL names it.
    pub rate_per_sender_domain: RateOrNone,
    /// Requests a time for the mail of one client address.
    pub rate_per_client: RateOrNone,
    /// Most requests under way at a time.
    pub max_in_flight: usize,
    /// Longest wait for one answer.
    #[serde(with = "duration")]
    pub attempt_timeout: Duration,
    /// How several recipients are spread over calls.
    pub fanout: Fanout,
    /// What to do with what the API has no field for.
    pub unsupported: Unsupported,
    /// Whether the API takes addresses whose local part is not ASCII (RFC 6531).
    pub utf8_addresses: bool,
    /// How a mail whose outcome is not known is looked for at the API. Means something for `ScaiSend` only.
    pub lookup: Lookup,
    /// Other replies than the table's for some outcomes.
    pub replies: Overrides,
    /// Longest pause a Retry-After can impose on the account.
    #[serde(with = "duration")]
    pub max_hold_off: Duration,
    /// A PEM file with further certificate authorities to trust, for self-hosted APIs; empty means none.
    pub ca_file: String,
    /// Whether the API's own lists of suppressed addresses are asked at RCPT.
    pub ask_suppressions: bool,
    /// What its webhook requests are signed with: every one of them is good.
    pub webhook_secrets: Vec<Secret>,
    /// How long an open breaker waits before it lets one request try.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
}

/// Which API an account speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// NexusProMail, `POST /v1/transactional/send`.
    NexusProMail,
    /// ScaiSend, `POST /v3/mail/send`.
    ScaiSend,
    /// SendGrid (Twilio), `POST /v3/mail/send`.
    SendGrid,
}

impl ProviderKind {
    /// All of them, for messages and help.
    pub const ALL: [Self; 3] = [Self::NexusProMail, Self::ScaiSend, Self::SendGrid];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::NexusProMail => "nexuspromail",
            Self::ScaiSend => "scaisend",
            Self::SendGrid => "sendgrid",
        }
    }
}

/// `providers.*.rate_counts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateCounts {
    /// A request.
    Requests,
    /// A recipient.
    Recipients,
}

/// `providers.*.fanout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fanout {
    /// What suits the API.
    Auto,
    /// One call for all recipients.
    Single,
    /// One call for each recipient.
    PerRecipient,
}

/// `providers.*.unsupported`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsupported {
    /// 554 5.6.3, naming what cannot be carried.
    Refuse,
    /// Send without it; the log says so each time.
    Degrade,
}

/// `providers.*.lookup`: the marker by which the API can be asked for a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// In `custom_args`.
    CustomArgs,
    /// There, and one category as well: the API has a filter for those.
    Category,
    /// No marker, and nothing is asked.
    Off,
}

/// `[delivery]`: time and policies.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    /// From the end of data to the reply, everything included.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Most attempts of one request.
    pub max_attempts: u32,
    /// What a request that may have been taken counts as.
    pub ambiguous: Ambiguous,
    /// What some accepted and some rejected recipients count as.
    pub partial_failure: PartialFailure,
    /// Most message octets held at a time, over all connections; beyond it 452 4.3.1.
    pub max_in_flight_bytes: Size,
    /// How long running transactions may go on after SIGTERM; longer than `deadline`.
    #[serde(with = "duration")]
    pub drain: Duration,
}

/// `delivery.ambiguous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ambiguous {
    /// 451: the client tries again; at least once.
    Defer,
    /// 250: at most once.
    Accept,
}

/// `delivery.partial_failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartialFailure {
    /// 250; the rejected ones are counted in the text, logged and metered.
    Accept,
    /// As `Accept`, and the reverse-path is sent a delivery report (RFC 3464) about the rejected ones.
    Notify,
    /// The first rejection's 5yz, although others were accepted.
    Reject,
}

/// `[sender]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Sender {
    /// The From of mails that have none, as `Name <address>` or an address; empty means none.
    pub default: String,
    /// Whose mail is sent; empty means anybody's.
    pub allowed: Patterns,
    /// When the default takes the place of a mail's own From.
    pub rewrite: Rewrite,
}

/// `[web]`: health, readiness, metrics, the admin API.
#[derive(Debug, Clone, Deserialize)]
pub struct Web {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What callers of the admin API show; empty: only this machine may call it.
    pub token: Secret,
}

/// `[webhooks]`: the providers' events.
#[derive(Debug, Clone, Deserialize)]
pub struct Webhooks {
    /// Where they come in.
    pub listen: AddressOrNone,
    /// Largest request body in octets.
    pub max_body: Size,
    /// The URL that they are passed on to; empty: none.
    pub forward: String,
    /// What that is signed with.
    pub forward_secret: Secret,
}

/// `[log]`.
#[derive(Debug, Clone, Deserialize)]
pub struct Log {
    /// error, warn, info, debug, trace.
    pub level: LogLevel,
    /// Text for people, JSON for machines.
    pub format: LogFormat,
    /// How much of an address is logged.
    pub addresses: LogAddresses,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The usual five.
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// `log.addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogAddresses {
    /// As they are.
    Full,
    /// The domain only.
    Domain,
    /// A short digest, equal for equal addresses.
    Hash,
}
