//! The log's one event for each transaction, with as much of the addresses as the operator wants.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::address::{Address, Alphabet};
use crate::config::LogAddresses;
use crate::controls::Controls;
use crate::envelope::{Transaction, TransactionId};
use crate::message::Loss;
use crate::outcome::{Loudness, Outcome, Verdict, without_addresses};
use crate::reply::Reply;

/// Writes the events.
#[derive(Debug, Clone, Copy)]
pub struct Journal {
    addresses: LogAddresses,
}

/// What is told of a transaction.
pub struct Entry<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// What became of each recipient.
    pub verdicts: &'a [Verdict],
    /// Requests made.
    pub attempts: u32,
    /// The last HTTP status.
    pub status: Option<u16>,
    /// What its headers asked for.
    pub controls: &'a Controls,
    /// The reply after the dot.
    pub reply: &'a Reply,
    /// From the end of data to that reply.
    pub took: Duration,
}

impl Journal {
    /// A journal that shows addresses as the operator wants.
    pub fn new(addresses: LogAddresses) -> Self {
        Self { addresses }
    }

    /// One event, as loud as the worst cause in it.
    pub fn write(&self, entry: &Entry<'_>) {
        let transaction = entry.transaction;
        let sender = transaction.envelope.reverse_path.as_ref().map_or_else(|| "<>".to_owned(), |a| self.show(a));
        let outcomes: Vec<String> = entry.verdicts.iter().map(|v| self.describe(v)).collect();
        let principal = transaction.envelope.principal.as_deref().map(|principal| self.show_principal(principal));
        let client = transaction.origin.client.map(|ip| ip.to_string()).unwrap_or_default();
        let reply = self.hide_addresses(&entry.reply.to_string());
        let (obeyed, ignored) = describe_controls(entry.controls);
        let ignored = ignored.map(|ignored| self.hide_addresses(&ignored));
        macro_rules! event {
            ($level:ident) => {
                $level!(
                    id = %transaction.id,
                    client,
                    principal,
                    sender,
                    recipients = outcomes.join(", "),
                    account = accounts(entry.verdicts),
                    status = entry.status,
                    attempts = entry.attempts,
                    controls = obeyed,
                    controls_ignored = ignored,
                    bytes = transaction.data.len(),
                    ms = u64::try_from(entry.took.as_millis()).unwrap_or(u64::MAX),
                    reply,
                    "transaction"
                )
            };
        }
        match loudest(entry.verdicts) {
            Loudness::Info => event!(info),
            Loudness::Warn => event!(warn),
            Loudness::Error => event!(error),
        }
    }

    /// What was left out under `unsupported = "degrade"`: said each time.
    pub fn losses(&self, transaction: &Transaction, losses: &[Loss]) {
        let what: Vec<&str> = losses.iter().map(|loss| loss.what.as_str()).collect();
        warn!(id = %transaction.id, losses = self.hide_addresses(&what.join(", ")), "sent without what the API cannot carry");
    }

    /// That another account is tried for these recipients.
    pub fn moves_on(&self, transaction: &Transaction, account: &str, verdicts: &[Verdict]) {
        let why = verdicts.first().map(|verdict| self.describe(verdict)).unwrap_or_default();
        warn!(id = %transaction.id, account, recipients = verdicts.len(), why, "the next account of the route is tried");
    }

    /// What became of the delivery report about this transaction.
    pub fn reported(&self, id: TransactionId, outcome: &str, why: &str) {
        let why = self.hide_addresses(why);
        match outcome {
            "accepted" | "withheld" => info!(%id, outcome, why, "delivery report"),
            _ => warn!(%id, outcome, why, "delivery report not sent"),
        }
    }

    fn describe(self, verdict: &Verdict) -> String {
        let recipient = self.show(&verdict.recipient);
        match &verdict.outcome {
            Outcome::Accepted { id } => format!("{recipient} accepted {}", id.as_deref().unwrap_or("without an id")),
            Outcome::Deferred(cause) | Outcome::Rejected(cause) => {
                let status = cause.status.map(|status| format!(" {status}")).unwrap_or_default();
                format!("{recipient} {}{status}: {}", cause.row.name, self.hide_addresses(&cause.detail))
            }
        }
    }

    /// The API's words without the addresses that they may quote, unless the log shows addresses.
    pub fn hide_addresses(self, words: &str) -> String {
        match self.addresses {
            LogAddresses::Full => words.to_owned(),
            LogAddresses::Domain | LogAddresses::Hash => without_addresses(words),
        }
    }

    /// Who logged in: often an address.
    fn show_principal(self, principal: &str) -> String {
        match (self.addresses, Address::parse_in(Alphabet::Utf8, principal)) {
            (LogAddresses::Full, _) | (_, Err(_)) => principal.to_owned(),
            (LogAddresses::Domain | LogAddresses::Hash, Ok(address)) => self.show(&address),
        }
    }

    /// An address as the operator wants it in the log.
    pub fn show(self, address: &Address) -> String {
        match self.addresses {
            LogAddresses::Full => address.to_string(),
            LogAddresses::Domain => format!("*@{}", address.domain()),
            LogAddresses::Hash => {
                // One person has one digest, in whichever case the address is written.
                Sha256::digest(address.as_str().to_lowercase()).iter().take(6).fold(String::new(), |mut hex, byte| {
                    hex.push_str(&format!("{byte:02x}"));
                    hex
                })
            }
        }
    }
}

/// The names of the controls that were obeyed, so that a mail that is in the sandbox does not look like a delivered one;
/// and the headers that were not, with the reasons. No values: they are the program's data.
fn describe_controls(controls: &Controls) -> (Option<String>, Option<String>) {
    let some = |list: Vec<String>, comma| (!list.is_empty()).then(|| list.join(comma));
    let obeyed = controls.obeyed().map(|control| control.name().to_owned()).collect();
    let ignored = controls.ignored.iter().map(|one| format!("{} {}", one.header, one.why)).collect();
    (some(obeyed, ", "), some(ignored, "; "))
}

/// The accounts that served it, each once.
fn accounts(verdicts: &[Verdict]) -> String {
    let mut names: Vec<&str> =
        verdicts.iter().map(|verdict| &*verdict.account).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn loudest(verdicts: &[Verdict]) -> Loudness {
    let loudness = |outcome: &Outcome| match outcome {
        Outcome::Accepted { id: Some(_) } => Loudness::Info,
        // A success whose body was not the documented one: believed, and worth a look.
        Outcome::Accepted { id: None } => Loudness::Warn,
        Outcome::Deferred(cause) | Outcome::Rejected(cause) => cause.row.loudness,
    };
    verdicts.iter().map(|v| loudness(&v.outcome)).max_by_key(|l| *l as u8).unwrap_or(Loudness::Info)
}
