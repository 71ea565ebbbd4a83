//! What outlives a connection: suppressions, the ledger's marks, the log of messages, the events of webhooks.
//!
//! One engine, SQLite, in a file or in memory. Reads run beside each other; writes are gathered and committed together,
//! and have reached the disk when their future is ready.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::address::Address;
use crate::feedback::{EventKind, Feedback};
use crate::suppression::{Policy, Reason, Scope, Suppression};

/// `state.url`: where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In memory: gone with the process.
    Memory,
    /// In this file, and two beside it.
    File(PathBuf),
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("sqlite://")) {
            ("memory:", _) => Ok(Self::Memory),
            (_, Some(path)) if path.starts_with('/') && !path.ends_with('/') => Ok(Self::File(path.into())),
            _ => Err(format!(
                "{text:?} is no place for the state; write \"memory:\" or \"sqlite:///var/lib/sidepost/state.db\""
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `[state]`: where, and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// Where.
    pub url: Place,
    /// How long a line of the message log is kept.
    #[serde(with = "crate::span")]
    pub keep_messages: Duration,
    /// Most lines of the message log; 0: there is no log.
    pub max_messages: u64,
    /// How long an event is kept; at least a week, for so long the providers may send it again.
    #[serde(with = "crate::span")]
    pub keep_events: Duration,
    /// Most events.
    pub max_events: u64,
}

/// The store cannot do it now. Displays as what the operator should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// What a store says of one call.
pub type Answer<T> = Result<T, StoreError>;

/// A part of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// To be given as `after` for the next part; `None`: that was the last.
    pub next: Option<String>,
}

/// Which suppressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionQuery {
    /// Of this address (its key).
    pub address: Option<String>,
    /// Of this scope.
    pub scope: Option<Scope>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// What follows this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// One line of the message log: one recipient of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// The transaction's id, as in replies and in the log.
    pub id: String,
    /// When its final reply was made.
    pub at: SystemTime,
    /// Where it came from.
    pub client: Option<String>,
    /// Who logged in.
    pub principal: Option<String>,
    /// MAIL FROM; `None`: the null reverse-path.
    pub sender: Option<String>,
    /// The recipient.
    pub recipient: String,
    /// The account that served it; empty where none did.
    pub account: String,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// `accepted`, or the kind of the cause.
    pub outcome: String,
    /// The reply that the client was told.
    pub reply: String,
    /// Octets of the message.
    pub bytes: u64,
    /// The last event about it that is known, and when it happened. Filled in by the store when read.
    pub last_event: Option<(EventKind, SystemTime)>,
}

/// Which lines of the message log; the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageQuery {
    /// The transaction's id or the provider's.
    pub id: Option<String>,
    /// The recipient, in any case.
    pub recipient: Option<String>,
    /// MAIL FROM, in any case.
    pub sender: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The outcome.
    pub outcome: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
    /// What follows this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its number here, rising.
    pub number: u64,
    /// The account whose webhook it came by.
    pub account: String,
    /// When it came.
    pub received: SystemTime,
    /// Whether its effects are done.
    pub processed: bool,
    /// The event.
    pub feedback: Feedback,
}

/// Which events; the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// By this account's webhook.
    pub account: Option<String>,
    /// Of this sort.
    pub kind: Option<EventKind>,
    /// About this recipient, in any case.
    pub recipient: Option<String>,
    /// About this message of the provider's.
    pub message_id: Option<String>,
    /// Received not before.
    pub since: Option<SystemTime>,
    /// Received before.
    pub until: Option<SystemTime>,
    /// What follows this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// What became of events that were waiting for their effects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acted {
    /// Events looked at.
    pub events: usize,
    /// Addresses that were put on the list, or whose entry became a stronger one.
    pub suppressed: usize,
    /// Addresses that were taken off it.
    pub lifted: usize,
}

/// An event on its way to the application (`webhooks.forward`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The event's number.
    pub number: u64,
    /// Tries so far.
    pub tries: u32,
    /// The event.
    pub event: EventRecord,
}

/// A recipient of an unfinished transaction that was accepted already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The digest of principal, reverse-path and message.
    pub key: [u8; 32],
    /// The recipient.
    pub recipient: Address,
    /// The account that sent to it.
    pub account: String,
    /// The provider's id for it, where it gave one.
    pub provider_id: Option<String>,
    /// When.
    pub since: SystemTime,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store;

#[allow(clippy::unused_async, unused_variables, missing_docs)]
impl Store {
    /// Opens it, makes it if it is not there, and brings an older one up to date.
    pub fn open(settings: &Settings) -> Answer<Self> {
        Ok(Self)
    }
    /// Why it cannot be written to at the moment, for /readyz; `None`: it can.
    pub fn trouble(&self) -> Option<StoreError> {
        None
    }

    // --- suppressions ---

    /// The entries that keep mail of one of these scopes from an address (its key) now, the strongest first. An entry for
    /// everybody counts in every scope.
    pub async fn suppressed(&self, key: &str, scopes: &[Scope], now: SystemTime) -> Answer<Vec<Suppression>> {
        Ok(Vec::new())
    }
    /// Puts entries on the list. One that is there keeps the longer `until` and the earlier `since`. Returns how many were new.
    pub async fn suppress(&self, entries: Vec<Suppression>) -> Answer<usize> {
        Ok(0)
    }
    /// Takes an address off the list, in one scope or in all; events from before `now` do not bring it back. Returns the
    /// entries that were there.
    pub async fn lift(&self, key: &str, scope: Option<Scope>, now: SystemTime) -> Answer<Vec<Suppression>> {
        Ok(Vec::new())
    }
    /// The list.
    pub async fn suppressions(&self, query: SuppressionQuery) -> Answer<Page<Suppression>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    // --- events ---

    /// Keeps events; on the disk when this returns. For each: whether it is new (false: its id came before).
    /// `forward`: they also wait to be forwarded.
    pub async fn take(
        &self,
        account: &str,
        events: Vec<Feedback>,
        received: SystemTime,
        forward: bool,
    ) -> Answer<Vec<bool>> {
        Ok(events.iter().map(|_| true).collect())
    }
    /// Does what the next at most `most` events that wait ask for.
    pub async fn act(&self, policy: &Policy, most: usize) -> Answer<Acted> {
        Ok(Acted::default())
    }
    /// Lets the events that the query means wait for [`Store::act`] again. Returns how many.
    pub async fn replay(&self, query: EventQuery) -> Answer<usize> {
        Ok(0)
    }
    pub async fn events(&self, query: EventQuery) -> Answer<Page<EventRecord>> {
        Ok(Page { items: Vec::new(), next: None })
    }
    /// The event of this number.
    pub async fn event(&self, number: u64) -> Answer<Option<EventRecord>> {
        Ok(None)
    }
    /// The events that are due to be forwarded now, the oldest first; and when the next one is due if none is.
    pub async fn forwards(&self, now: SystemTime, most: usize) -> Answer<Vec<Forward>> {
        Ok(Vec::new())
    }
    /// It arrived (`None`), or is to be tried again then.
    pub async fn forwarded(&self, number: u64, again: Option<SystemTime>) -> Answer<()> {
        Ok(())
    }

    // --- messages ---

    /// Puts lines into the message log, without waiting: mail does not wait for its log. What there is no room for is
    /// counted.
    pub fn log(&self, lines: Vec<MessageRecord>) {}
    pub async fn messages(&self, query: MessageQuery) -> Answer<Page<MessageRecord>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    // --- the ledger ---

    /// Keeps marks; on the disk when this returns.
    pub async fn mark(&self, marks: Vec<Mark>) -> Answer<()> {
        Ok(())
    }
    /// Drops the marks of these recipients of a message, without waiting.
    pub fn unmark(&self, key: [u8; 32], recipients: Vec<Address>) {}
    /// All marks made since.
    pub async fn marks(&self, since: SystemTime) -> Answer<Vec<Mark>> {
        Ok(Vec::new())
    }

    // --- upkeep ---

    /// Drops what is older than the settings keep, or too much. Returns how many rows.
    pub async fn prune(&self, now: SystemTime) -> Answer<usize> {
        Ok(0)
    }
    /// Ends with everything written that was asked for.
    pub async fn close(&self) -> Answer<()> {
        Ok(())
    }
}
