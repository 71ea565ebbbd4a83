//! What outlives a connection: suppressions, the ledger's marks, the log of messages, the events of webhooks.
//!
//! One engine, SQLite, in a file or in memory. Reads run beside each other; writes are gathered and committed together,
//! and have reached the disk when their future is ready.

mod effects;
mod events;
mod forwards;
mod listed;
mod marks;
mod messages;
mod readers;
mod sqlite;
mod suppressions;
mod upkeep;
mod writer;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::address::Address;
use crate::feedback::{EventKind, Feedback};
use crate::suppression::{Policy, Reason, Scope};

use readers::Readers;
use writer::Writer;

/// Most lines of the log, and most events, in memory: some 5 MB of lines, and as much of events if they are small.
const MOST_IN_MEMORY: u64 = 10_000;

/// `state.url`: where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In memory: gone with the process.
    Memory,
    /// In this file, and three beside it.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acted {
    /// Events looked at.
    pub events: usize,
    /// Addresses that were put on the list, or whose entry became a stronger one.
    pub suppressed: usize,
    /// Addresses that were taken off it.
    pub lifted: usize,
    /// Each of them, and what did it.
    pub changes: Vec<Changed>,
    /// Events that would have done something, and name no recipient that can be read.
    pub unaddressed: Vec<Changed>,
}

/// An address whose place on the list an event has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The address, as the list has it.
    pub address: String,
    /// Whether it is off the list now.
    pub lifted: bool,
    /// The account whose webhook the event came by.
    pub account: String,
    /// Which sort of event.
    pub kind: EventKind,
    /// Its id.
    pub event_id: String,
    /// Its words.
    pub reason: Option<String>,
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

/// A recipient of an unfinished transaction that was accepted already, or may have been.
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
    /// `None`: it was accepted. Else it may have been, and this is what its mail carries.
    pub marker: Option<String>,
    /// When.
    pub since: SystemTime,
}

/// What became of what did not wait, and how writes were gathered, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions committed.
    pub commits: u64,
    /// Calls that were written in them.
    pub writes: u64,
    /// Lines of the message log and dropped marks that were not written: no room, or the write failed.
    pub lost: u64,
    /// Events that were dropped, as too old or too many, before the application had got them.
    pub forwards_lost: u64,
}

/// The store. A clone is the same store.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    writer: Arc<Writer>,
    readers: Readers,
    /// For look-ups at RCPT, which must not wait behind long lists.
    lookups: Readers,
    /// Marks that are still to be dropped: the write failed.
    owed: marks::Owed,
}

impl Store {
    /// Opens it, makes it if it is not there, and brings an older one up to date: also a list that was written when two
    /// addresses that differ in case were two, if by this policy they are one.
    ///
    /// # Errors
    /// It cannot be opened, is no store, is a newer one's, or is open already; and what to do about it.
    pub fn open(settings: &Settings, policy: &Policy) -> Answer<Self> {
        let store = Self::of(settings, policy);
        store.shared.writer.open().map_err(|unopened| unopened.error)?;
        Ok(store)
    }

    /// The same for a relay, which goes on without: if the disk is full, read-only or damaged, the store is in
    /// [`Self::trouble`], refuses all calls, and [`Self::prune`] tries to open it.
    ///
    /// # Errors
    /// As [`Self::open`], if it is nothing that may pass.
    pub fn open_or_wait(settings: &Settings, policy: &Policy) -> Answer<Self> {
        let store = Self::of(settings, policy);
        match store.shared.writer.open() {
            Err(unopened) if !unopened.may_pass => Err(unopened.error),
            _ => Ok(store),
        }
    }

    fn of(settings: &Settings, policy: &Policy) -> Self {
        let writer = Arc::new(Writer::new(settings.url.clone(), policy.fold_local_part));
        let readers = Readers::new(&settings.url, &writer);
        let mut settings = settings.clone();
        if settings.url == Place::Memory {
            settings.max_messages = settings.max_messages.min(MOST_IN_MEMORY);
            settings.max_events = settings.max_events.min(MOST_IN_MEMORY);
        }
        let lookups = Readers::new(&settings.url, &writer);
        Self { shared: Arc::new(Shared { settings, writer, readers, lookups, owed: marks::Owed::default() }) }
    }

    /// Whether a store is open there now, in this process or another; `None`: nobody can tell, as of one in memory, or a
    /// file of somebody else's.
    pub fn is_open(place: &Place) -> Option<bool> {
        sqlite::is_locked(place)
    }

    /// Why it cannot be written to at the moment, for /readyz; `None`: it can.
    pub fn trouble(&self) -> Option<StoreError> {
        self.shared.writer.trouble()
    }

    /// What is counted for /metrics.
    pub fn counters(&self) -> Counters {
        self.shared.writer.counters()
    }

    /// Ends with everything written that was asked for. The file can be opened by another one then; this one's other
    /// calls fail.
    ///
    /// # Errors
    /// The last writes failed.
    pub async fn close(&self) -> Answer<()> {
        self.unmark_owed();
        let written = self.shared.writer.write(|_| Ok(())).await;
        let shared = Arc::clone(&self.shared);
        let closed = tokio::task::spawn_blocking(move || {
            shared.readers.close();
            shared.lookups.close();
            shared.writer.close();
        });
        closed.await.map_err(|e| StoreError(format!("the store stopped: {e}")))?;
        written
    }
}
