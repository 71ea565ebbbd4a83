//! What the admin API's JSON looks like; the commands read it with the same types.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::provider::status::MessageStatus;
use crate::store::{EventRecord, MessageRecord};
use crate::suppression::Suppression;

/// A time as RFC 3339 writes it, in UTC, to the second.
pub fn time(time: SystemTime) -> String {
    // The year 9999 is the last one that the form has; nothing here is older than 1970.
    let most = UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.clamp(UNIX_EPOCH, most)).to_string()
}

/// A suppressed address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionEntry {
    /// The address, as the list knows it.
    pub address: String,
    /// Whose mail: `*`, `account:NAME` or `domain:DOMAIN`.
    pub scope: String,
    /// The reason's name.
    pub reason: String,
    /// Who said so.
    pub source: String,
    /// Since when.
    pub since: String,
    /// Until when; none: until it is removed.
    pub until: Option<String>,
    /// What it is known from.
    pub evidence: String,
}

impl From<&Suppression> for SuppressionEntry {
    fn from(entry: &Suppression) -> Self {
        Self {
            address: entry.address.clone(),
            scope: entry.scope.to_string(),
            reason: entry.reason.name().to_owned(),
            source: entry.source.clone(),
            since: time(entry.since),
            until: entry.until.map(time),
            evidence: entry.evidence.clone(),
        }
    }
}

/// A suppressed address to be put on the list, as a caller writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSuppression {
    /// The address.
    pub address: String,
    /// Whose mail; `*` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The reason's name; `manual` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when: a time, a date, or a duration from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What it is known from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Since when: a time or a date; now if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Who said so; `operator` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `POST /api/suppressions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Entries that were not on the list before.
    pub added: usize,
    /// Entries that were.
    pub known: usize,
    /// Entries whose time is over: those of an import that say none hold as long as events of their sort.
    #[serde(default)]
    pub over: usize,
    /// Accounts that the scopes name and the configuration does not have: a slip, perhaps.
    pub unknown_accounts: Vec<String>,
}

/// `DELETE /api/suppressions/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What was there.
    pub removed: Vec<SuppressionEntry>,
}

/// A page of the list of suppressed addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionPage {
    /// The entries, by address.
    pub suppressions: Vec<SuppressionEntry>,
    /// To be given as `after` for the next page; none: this was the last.
    pub next: Option<String>,
}

/// The last event of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEvent {
    /// What happened.
    pub kind: String,
    /// When.
    pub at: String,
}

/// A line of the message log: one recipient of one mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEntry {
    /// The transaction's id, as in the reply and in the log.
    pub id: String,
    /// When its reply was made.
    pub at: String,
    /// Where it came from.
    pub client: Option<String>,
    /// Who logged in.
    pub principal: Option<String>,
    /// MAIL FROM; none: the null sender.
    pub sender: Option<String>,
    /// The recipient.
    pub recipient: String,
    /// The account; empty where none served it.
    pub account: String,
    /// The provider's id.
    pub provider_id: Option<String>,
    /// `accepted`, or a name out of the table of outcomes.
    pub outcome: String,
    /// The SMTP reply that the client was told.
    pub reply: String,
    /// Octets of the mail.
    pub bytes: u64,
    /// The last event that is known.
    pub last_event: Option<LastEvent>,
}

impl From<&MessageRecord> for MessageEntry {
    fn from(record: &MessageRecord) -> Self {
        let last = |(kind, at): &(crate::feedback::EventKind, SystemTime)| LastEvent {
            kind: kind.name().to_owned(),
            at: time(*at),
        };
        Self {
            id: record.id.clone(),
            at: time(record.at),
            client: record.client.clone(),
            principal: record.principal.clone(),
            sender: record.sender.clone(),
            recipient: record.recipient.clone(),
            account: record.account.clone(),
            provider_id: record.provider_id.clone(),
            outcome: record.outcome.clone(),
            reply: record.reply.clone(),
            bytes: record.bytes,
            last_event: record.last_event.as_ref().map(last),
        }
    }
}

/// A page of the message log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The lines, the newest first.
    pub messages: Vec<MessageEntry>,
    /// As in [`SuppressionPage`].
    pub next: Option<String>,
}

/// A recipient, and all that is known of what became of the mail to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The line of the log.
    #[serde(flatten)]
    pub message: MessageEntry,
    /// The provider's events, the oldest first.
    pub events: Vec<EventEntry>,
    /// What is on the list of suppressed addresses about it now.
    pub suppressions: Vec<SuppressionEntry>,
}

/// What the provider said when it was asked, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// The account that was asked.
    pub account: String,
    /// The provider's id of the message.
    pub id: String,
    /// Its answer.
    pub message: Option<MessageStatus>,
    /// Why there is none.
    pub error: Option<String>,
}

/// `GET /api/messages/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageWhole {
    /// The id that was asked for.
    pub id: String,
    /// Its recipients.
    pub recipients: Vec<Recipient>,
    /// Events with this id that are about no recipient of the log.
    pub other_events: Vec<EventEntry>,
    /// What the provider itself says.
    pub provider_status: Vec<ProviderStatus>,
    /// Messages that it was not asked about, because they are too many.
    pub not_asked: usize,
}

/// An event of a provider's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// Its number here.
    pub number: u64,
    /// The account whose webhook it came by.
    pub account: String,
    /// When it came.
    pub received: String,
    /// Whether its effects are done.
    pub processed: bool,
    /// The provider's id of it.
    pub event_id: String,
    /// What happened.
    pub kind: String,
    /// The provider's word for it.
    pub word: String,
    /// When it happened.
    pub at: String,
    /// The provider's id of the message.
    pub message_id: Option<String>,
    /// Whom it is about.
    pub recipient: Option<String>,
    /// Codes and words of the recipient's server.
    pub reason: Option<String>,
}

impl From<&EventRecord> for EventEntry {
    fn from(record: &EventRecord) -> Self {
        let feedback = &record.feedback;
        Self {
            number: record.number,
            account: record.account.clone(),
            received: time(record.received),
            processed: record.processed,
            event_id: feedback.event_id.clone(),
            kind: feedback.kind.name().to_owned(),
            word: feedback.word.clone(),
            at: time(feedback.at),
            message_id: feedback.message_id.clone(),
            recipient: feedback.recipient.as_ref().map(ToString::to_string),
            reason: feedback.reason.clone(),
        }
    }
}

/// `GET /api/events/{number}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventWhole {
    /// The event.
    #[serde(flatten)]
    pub event: EventEntry,
    /// It as it came; octets that are no UTF-8 are replaced.
    pub raw: String,
}

/// A page of the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// The events, the newest first.
    pub events: Vec<EventEntry>,
    /// As in [`SuppressionPage`].
    pub next: Option<String>,
}

/// The body of `POST /api/events/replay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Received not before: a time, a date, or a duration ago.
    pub since: String,
    /// Received before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// By this account's webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Of this sort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// About this recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
}

/// `POST /api/events/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// How many events are worked through again.
    pub events: usize,
}

/// `GET /api/provider/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderMessages {
    /// The account that was asked.
    pub account: String,
    /// Its messages, in its order.
    pub messages: Vec<MessageStatus>,
}

/// Every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A sentence that says what to do.
    pub error: String,
}
