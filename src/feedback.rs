//! What a provider tells later about one message and one recipient, in words that all APIs share.

use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::address::Address;

macro_rules! kinds {
    ($($kind:ident $name:literal $what:literal;)*) => {
        /// Which sort of event; the names are those of `[suppression] events`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind { $(#[doc = $what] $kind),* }

        impl EventKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The name in configuration, store and API.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
        }
    };
}

kinds! {
    Queued       "queued"       "The provider has it.";
    Sent         "sent"         "It left the provider.";
    Delivered    "delivered"    "The recipient's server took it.";
    Deferred     "deferred"     "The recipient's server said: later.";
    BouncedHard  "bounced.hard" "The recipient's server refused it for good.";
    BouncedSoft  "bounced.soft" "It could not be delivered this time.";
    Blocked      "blocked"      "The recipient's server refused the sender.";
    Dropped      "dropped"      "The provider did not send it: suppressed or not valid.";
    Suppressed   "suppressed"   "The provider did not send it: the recipient is on its list.";
    Complained   "complained"   "The recipient called it spam.";
    Unsubscribed "unsubscribed" "The recipient wants no more.";
    Resubscribed "resubscribed" "The recipient wants mail again.";
    Opened       "opened"       "It was opened.";
    Clicked      "clicked"      "A link in it was followed.";
    Failed       "failed"       "The provider gave it up.";
    Unknown      "unknown"      "A type that sidepost does not know; kept, without effect.";
}

impl FromStr for EventKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|kind| kind.name() == text);
        let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
        found.ok_or_else(|| format!("{text:?} is no event (there are {})", names.join(", ")))
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One verified event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The provider's id of the event, the same each time it is delivered.
    pub event_id: String,
    /// What happened.
    pub kind: EventKind,
    /// The provider's own word for it.
    pub word: String,
    /// When it happened, as the provider says.
    pub at: SystemTime,
    /// The provider's id of the message: the one that its send call answered with.
    pub message_id: Option<String>,
    /// Whom it is about.
    pub recipient: Option<Address>,
    /// Codes and words of the recipient's server, printable and short.
    pub reason: Option<String>,
    /// The event as it came: the octets of the body, or of this event's part of it.
    pub raw: Bytes,
}

/// Why a webhook request is not believed. Displays as what the log says; the sender is told no more than 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// The account has no secret to verify with.
    #[error("the account has no webhook_secrets")]
    NoSecret,
    /// A header field of the signature is not there, or there twice.
    #[error("the header field {0} is missing or not readable")]
    Missing(&'static str),
    /// None of the secrets makes this signature.
    #[error("the signature does not match any of the account's webhook_secrets")]
    Forged,
    /// Signed, but too long ago, or in the future.
    #[error("the timestamp is too far from now: an old request sent again, or a clock that is wrong")]
    Stale,
    /// An unsigned header field and the signed body are at odds.
    #[error("the header field {0} says something else than the signed body")]
    Contradicted(&'static str),
    /// Signed by the provider, but not an event of its.
    #[error("signed, but not readable as an event: {0}")]
    Unreadable(String),
}
