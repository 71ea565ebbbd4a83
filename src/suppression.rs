//! Addresses that must not be sent to: what an event does to them, and how one is told apart from another.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::address::{Address, Alphabet};
use crate::feedback::EventKind;

macro_rules! reasons {
    ($($reason:ident $name:literal $strength:literal $what:literal;)*) => {
        /// Why an address is suppressed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $what] $reason),* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The word in replies, store and API.
            pub fn name(self) -> &'static str {
                match self { $(Self::$reason => $name),* }
            }

            /// Which one is named where there are several: the higher number. What the recipient or its server said
            /// outranks what a provider passed on, and that what may pass. An unsubscribe comes last: a transactional
            /// route passes over it, and must find what else there is.
            pub fn strength(self) -> u8 {
                match self { $(Self::$reason => $strength),* }
            }
        }
    };
}

reasons! {
    Bounce      "bounce"       7 "A hard bounce.";
    SoftBounces "soft-bounces" 2 "Too many soft bounces in a row.";
    Complaint   "complaint"    8 "A spam complaint.";
    Unsubscribe "unsubscribe"  1 "The recipient unsubscribed.";
    Dropped     "dropped"      5 "The provider did not send: the address is on its list, or not valid.";
    Blocked     "blocked"      3 "The recipient's server refused the sender.";
    Refused     "refused"      4 "The provider's send call answered that the address is suppressed.";
    Manual      "manual"       6 "An operator said so.";
}

impl FromStr for Reason {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|reason| reason.name() == text);
        let names: Vec<&str> = Self::ALL.iter().map(|reason| reason.name()).collect();
        found.ok_or_else(|| format!("{text:?} is no reason (there are {})", names.join(", ")))
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Whose mail an address is suppressed for. Written `*`, `account:main` or `domain:mail.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody's.
    Everywhere,
    /// What this account sends.
    Account(String),
    /// What comes from senders of this domain (MAIL FROM).
    SenderDomain(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("*"),
            Self::Account(name) => write!(f, "account:{name}"),
            Self::SenderDomain(domain) => write!(f, "domain:{domain}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "*" => Ok(Self::Everywhere),
            Some(("account", name)) if !name.is_empty() => Ok(Self::Account(name.to_owned())),
            // In the form that addresses have.
            Some(("domain", domain)) => Address::parse_in(Alphabet::Utf8, &format!("x@{domain}"))
                .map(|address| Self::SenderDomain(address.domain().to_owned()))
                .map_err(|why| format!("{domain:?} is no domain of senders: {why}")),
            _ => Err(format!("{text:?} is no scope; write *, account:NAME or domain:mail.example.com")),
        }
    }
}

/// An address that must not be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// The address, as [`Policy::key`] writes it.
    pub address: String,
    /// Whose mail it is suppressed for.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// Who said so: `webhook:ACCOUNT`, `api:ACCOUNT`, `operator`, `import`.
    pub source: String,
    /// Since when.
    pub since: SystemTime,
    /// Until when; `None`: until an operator removes it.
    pub until: Option<SystemTime>,
    /// What it is known from: the words of the bounce, the id of the event, an operator's note.
    pub evidence: String,
}

/// `suppression.scope`: whom an event suppresses an address for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeOfEvents {
    /// The account that the mail went by.
    Account,
    /// The domain of the mail's sender, where the mail is known; else the account.
    SenderDomain,
    /// Everybody.
    Everywhere,
}

/// `[suppression]`: what events do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Policy {
    /// The events that suppress their recipient.
    pub events: Vec<EventKind>,
    /// So many soft bounces without a delivery in between suppress, too; 0: none does.
    pub soft_bounce_limit: u32,
    /// For how long they do.
    #[serde(with = "crate::span")]
    pub soft_bounce_expiry: Duration,
    /// For how long an address is not sent to that the provider itself would not send to: its list may change, and
    /// nobody tells.
    #[serde(with = "crate::span")]
    pub learned_expiry: Duration,
    /// Whom for.
    pub scope: ScopeOfEvents,
    /// Whether `Ann@` and `ann@` are one.
    pub fold_local_part: bool,
}

/// What an event does to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Its recipient is suppressed, for so long after it, or for good.
    Suppress(Reason, Option<Duration>),
    /// It is one of those that suppress when there are enough of them in a row.
    CountSoft,
    /// Its recipient is off the list, if it was there for an unsubscribe.
    Resubscribe,
}

impl Policy {
    /// What an event of this kind does.
    pub fn effect(&self, kind: EventKind) -> Effect {
        let reason = match kind {
            EventKind::BouncedSoft if self.soft_bounce_limit > 0 => return Effect::CountSoft,
            EventKind::Resubscribed => return Effect::Resubscribe,
            _ if !self.events.contains(&kind) => return Effect::None,
            EventKind::BouncedHard => Reason::Bounce,
            EventKind::Complained => Reason::Complaint,
            EventKind::Unsubscribed => Reason::Unsubscribe,
            EventKind::Dropped | EventKind::Suppressed => Reason::Dropped,
            EventKind::Blocked => Reason::Blocked,
            EventKind::BouncedSoft => Reason::SoftBounces,
            _ => return Effect::None,
        };
        Effect::Suppress(reason, self.expiry(reason))
    }

    /// For how long a reason holds; `None`: for good.
    pub fn expiry(&self, reason: Reason) -> Option<Duration> {
        match reason {
            Reason::SoftBounces | Reason::Blocked => Some(self.soft_bounce_expiry),
            Reason::Dropped | Reason::Refused => Some(self.learned_expiry),
            Reason::Bounce | Reason::Complaint | Reason::Unsubscribe | Reason::Manual => None,
        }
    }

    /// The form of an address by which the list knows it. The domain has no case (RFC 5321 §2.4); of the local part only its
    /// own server knows, and a list that protects takes two that differ in case for one.
    pub fn key(&self, address: &Address) -> String {
        if self.fold_local_part { address.as_str().to_lowercase() } else { address.as_str().to_owned() }
    }
}

/// The end of the reply to a suppressed recipient: `complaint on 2026-11-20`.
pub fn say(reason: Reason, since: SystemTime) -> String {
    let date = humantime::format_rfc3339_seconds(since).to_string();
    format!("{} on {}", reason.name(), date.split('T').next().unwrap_or_default())
}

/// What takes an address off the list, to be put into a shell. An address may hold what a shell obeys (RFC 5322 §3.2.3 has
/// `` ` ``, `$` and `|` in an atom), and a stranger may have put it there.
pub fn remove_command(address: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+');
    let word = if address.chars().all(is_plain) {
        address.to_owned()
    } else {
        format!("'{}'", address.replace('\'', "'\\''"))
    };
    format!("sidepost suppressions remove {word}")
}
