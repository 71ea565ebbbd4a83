//! Who sends to whom: the SMTP envelope, and the transaction that carries it. Never derived from headers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::Address;
use crate::secret::Secret;

/// The dialogue's view of a mail: reverse-path and recipients (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// What the client called itself in EHLO or HELO.
    pub helo: String,
    /// Who authenticated, if anybody did.
    pub principal: Option<String>,
    /// MAIL's argument; `None` is `<>`, the null reverse-path (RFC 5321 §4.5.5).
    pub reverse_path: Option<Address>,
    /// RCPT's arguments in their order, each once.
    pub recipients: Vec<Address>,
}

/// The name of one transaction in logs and replies: unique, and sorted by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(uuid::Uuid);

impl TransactionId {
    /// Wraps an identifier made by the caller.
    pub fn new(id: uuid::Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name in the log, in rules and in the ledger.
    pub principal: String,
    /// The key that this client's mail is sent with, where the account has none of its own.
    pub api_key: Option<Secret>,
}

impl Login {
    /// Somebody whose mail goes by the account's key.
    pub fn of(principal: impl Into<String>) -> Self {
        Self { principal: principal.into(), api_key: None }
    }
}

/// Where a mail comes in, and by which key it goes out.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The listener's URL without its options.
    pub listener: Arc<str>,
    /// The key that the client logged in with, if its mail is sent with that.
    pub api_key: Option<Secret>,
}

/// One MAIL..end-of-data, complete and ready to be relayed.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its name.
    pub id: TransactionId,
    /// Where it came in.
    pub origin: Origin,
    /// Who sends to whom.
    pub envelope: Envelope,
    /// The message as it stood between DATA and the dot, unstuffed. Shared, never copied.
    pub data: Bytes,
    /// Whether the client hears of each recipient separately (LMTP), and so tries again only those that were deferred.
    pub each: bool,
}
