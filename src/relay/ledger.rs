//! Who was accepted in a transaction whose client has not had its final reply: so that its next try mails nobody twice.
//!
//! An entry is made when a transaction ends in 4yz although some were accepted, or when the client was gone before its
//! final reply was on the wire. It is erased when a final reply has been written. So the ledger holds only unfinished
//! business, is empty most of the time, and two equal mails sent on purpose both go out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::address::Address;
use crate::envelope::Transaction;
use crate::outcome::{Outcome, Verdict};
use crate::reply::Reply;

/// How long a client may take to try again.
const TTL: Duration = Duration::from_hours(24);
/// Most transactions remembered; beyond it the oldest is forgotten.
const MOST: usize = 100_000;

/// The digest of principal, reverse-path and message: what a client repeats when it tries again.
type Key = [u8; 32];

/// The ledger of one relay, in memory.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    accepted: Vec<Verdict>,
}

/// What becomes of the accepted recipients of one transaction: forgotten once [`Receipt::written`] was called, remembered
/// when it is dropped without.
#[derive(Debug)]
pub struct Receipt {
    ledger: Arc<Ledger>,
    unfinished: Option<(Transaction, Vec<Verdict>)>,
}

impl Ledger {
    /// The recipients of this transaction that an earlier try of the client got accepted.
    pub fn recall(&self, transaction: &Transaction) -> Vec<Verdict> {
        let entries = self.entries();
        // Nearly always: nothing is hashed then.
        if entries.is_empty() {
            return Vec::new();
        }
        drop(entries);
        let key = key(transaction);
        let entries = self.entries();
        let entry = entries.get(&key).filter(|entry| entry.since.elapsed() < TTL);
        let asked = |verdict: &&Verdict| transaction.envelope.recipients.contains(&verdict.recipient);
        entry.into_iter().flat_map(|entry| &entry.accepted).filter(asked).cloned().collect()
    }

    /// Settles a transaction: with a temporary refusal the accepted recipients are remembered at once; with a final reply
    /// they are until it has been written. A client that is told of each recipient has the final word on the accepted
    /// ones, whatever became of the others.
    pub fn settle(self: &Arc<Self>, transaction: Transaction, verdicts: Vec<Verdict>, reply: &Reply) -> Receipt {
        let is_accepted = |v: &Verdict| matches!(v.outcome, Outcome::Accepted { .. });
        let accepted: Vec<Verdict> = verdicts.into_iter().filter(is_accepted).collect();
        let receipt = Receipt { ledger: Arc::clone(self), unfinished: Some((transaction, accepted)) };
        let tries_all_again = reply.class() == 4 && !receipt.is_told_of_each();
        if tries_all_again {
            drop(receipt);
            return Receipt { ledger: Arc::clone(self), unfinished: None };
        }
        receipt
    }

    /// How many transactions are unfinished.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn remember(&self, transaction: &Transaction, accepted: Vec<Verdict>) {
        if accepted.is_empty() {
            return;
        }
        let key = key(transaction);
        let mut entries = self.entries();
        if entries.len() >= MOST {
            entries.retain(|_, entry| entry.since.elapsed() < TTL);
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.since).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| entries.len() >= MOST) {
                entries.remove(&oldest);
            }
        }
        entries.insert(key, Entry { since: Instant::now(), accepted });
    }

    fn forget(&self, transaction: &Transaction) {
        if !self.is_empty() {
            let key = key(transaction);
            self.entries().remove(&key);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    fn is_told_of_each(&self) -> bool {
        self.unfinished.as_ref().is_some_and(|(transaction, _)| transaction.each)
    }

    /// The final reply is on the wire: the client knows, and nothing has to be remembered for it.
    pub fn written(mut self) {
        if let Some((transaction, _)) = self.unfinished.take() {
            self.ledger.forget(&transaction);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((transaction, accepted)) = self.unfinished.take() {
            self.ledger.remember(&transaction, accepted);
        }
    }
}

fn key(transaction: &Transaction) -> Key {
    let envelope = &transaction.envelope;
    let mut digest = Sha256::new();
    digest.update(envelope.principal.as_deref().unwrap_or_default());
    digest.update([0]);
    digest.update(envelope.reverse_path.as_ref().map_or("", Address::as_str));
    digest.update([0]);
    digest.update(&transaction.data);
    digest.finalize().into()
}
