//! From a finished transaction to outcomes: parse, plan, send the batches, settle.

use std::sync::Arc;

use crate::address::Address;
use crate::envelope::Transaction;
use crate::reply::Reply;

/// The relay.
pub struct Relay {}

/// What to tell the client.
#[derive(Debug)]
pub struct Settled {
    /// The one reply after the dot.
    pub reply: Reply,
    /// One reply for each recipient, in the envelope's order (LMTP).
    pub each: Vec<(Address, Reply)>,
}

impl Relay {
    /// Asked at MAIL: the refusal, if no mail can be taken now (breaker open, hold-off past the deadline), so that the
    /// client need not upload the body.
    pub fn admit(&self) -> Result<(), Reply> {
        Ok(())
    }

    /// The largest message in octets that the routed provider takes.
    pub fn max_message_size(&self) -> usize {
        usize::MAX
    }

    /// Relays one transaction; returns before the deadline.
    pub async fn submit(self: Arc<Self>, transaction: Transaction) -> Settled {
        let _ = transaction;
        std::future::pending().await
    }
}
