//! Who was, or may have been, accepted in a transaction whose client has not had its final reply: so that its next try
//! mails nobody twice.
//!
//! A mark is made when a transaction ends in 4yz although some were accepted, or when the client was gone before its
//! final reply was on the wire; another sort of mark when somebody may have been accepted and the API can be asked, so
//! that it is asked before anything is sent again. A mark is erased when a final reply has been written. So the ledger holds
//! only unfinished business, is empty most of the time, and two equal mails sent on purpose both go out: one after the
//! other, since what has not ended yet may be the first try of what comes now.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::heard::Heard;
use crate::address::Address;
use crate::envelope::Transaction;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, Verdict};
use crate::reply::Reply;
use crate::store::{self, Store};

/// How long a client may take to try again.
pub const TTL: Duration = Duration::from_hours(24);
/// Most messages remembered; beyond it the oldest is forgotten.
const MOST: usize = 100_000;

/// The digest of principal, reverse-path and message: what a client repeats when it tries again.
type Key = [u8; 32];
/// What equal transactions have in common, to be seen without a digest.
type Shape = (usize, Option<Address>);

/// The ledger of one relay: in memory, and in a store if it is to outlive the process.
#[derive(Debug)]
pub struct Ledger {
    store: Option<Store>,
    heard: Heard,
    entries: Mutex<Entries>,
    under_way: Mutex<HashMap<Shape, Vec<UnderWay>>>,
    turns: AtomicU64,
    metrics: Arc<Metrics>,
}

/// What is known of messages, and in which order it was learned.
#[derive(Debug, Default)]
struct Entries {
    of: HashMap<Key, Entry>,
    by_age: VecDeque<(Instant, Key)>,
}

/// What is known of one message.
#[derive(Debug)]
struct Entry {
    since: Instant,
    marks: HashMap<Address, Mark>,
}

/// What is known of one recipient.
#[derive(Debug, Clone)]
enum Mark {
    Accepted(Verdict),
    /// The API may have taken it, and can be asked.
    InDoubt(Doubt),
}

impl Mark {
    /// What has to be remembered of a verdict, if anything.
    fn of(verdict: &Verdict) -> Option<Self> {
        match verdict.outcome {
            Outcome::Accepted { .. } => Some(Self::Accepted(verdict.clone())),
            _ => Doubt::of(verdict).map(Self::InDoubt),
        }
    }

    fn to_be_kept(&self, key: Key) -> store::Mark {
        match self {
            Self::Accepted(Verdict { recipient, account, outcome }) => store::Mark {
                key,
                recipient: recipient.clone(),
                account: account.to_string(),
                provider_id: match outcome {
                    Outcome::Accepted { id } => id.clone(),
                    _ => None,
                },
                marker: None,
                since: SystemTime::now(),
            },
            Self::InDoubt(Doubt { recipient, account, marker, since }) => store::Mark {
                key,
                recipient: recipient.clone(),
                account: account.to_string(),
                provider_id: None,
                marker: Some(marker.to_string()),
                since: *since,
            },
        }
    }
}

impl From<store::Mark> for Mark {
    fn from(kept: store::Mark) -> Self {
        let store::Mark { recipient, account, provider_id, marker, since, .. } = kept;
        let account = account.into();
        match marker {
            Some(marker) => Self::InDoubt(Doubt { recipient, account, marker: marker.into(), since }),
            None => Self::Accepted(Verdict { recipient, account, outcome: Outcome::Accepted { id: provider_id } }),
        }
    }
}

/// A recipient whose mail may have been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The recipient.
    pub recipient: Address,
    /// The account that sent to it.
    pub account: Arc<str>,
    /// What the mail carries: whatever is sent again carries the same, so that either is found.
    pub marker: Arc<str>,
    /// When the doubt arose.
    pub since: SystemTime,
}

impl Doubt {
    fn of(verdict: &Verdict) -> Option<Self> {
        let marker = verdict.outcome.cause()?.marker.clone()?;
        let (recipient, account) = (verdict.recipient.clone(), Arc::clone(&verdict.account));
        Some(Self { recipient, account, marker, since: SystemTime::now() })
    }
}

/// What an earlier try of the client left.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Who was accepted.
    pub accepted: Vec<Verdict>,
    /// Who may have been.
    pub doubts: Vec<Doubt>,
}

/// A transaction that has not ended, and the token that ends with it.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    transaction: Transaction,
    ended: CancellationToken,
}

/// A transaction's place in the line: no equal one behind it runs before this is dropped.
#[derive(Debug)]
pub struct Turn {
    ledger: Arc<Ledger>,
    shape: Shape,
    number: u64,
}

/// What becomes of the marks of one transaction: forgotten once [`Receipt::written`] was called, remembered when it is
/// dropped without.
#[derive(Debug)]
pub struct Receipt {
    ledger: Arc<Ledger>,
    unwritten: Option<Unwritten>,
    told: Option<oneshot::Sender<()>>,
    /// Dropped last: who waits for it must find what was remembered.
    _turn: Turn,
}

#[derive(Debug)]
struct Unwritten {
    transaction: Transaction,
    /// Those that the reply is final for.
    settled: Vec<Address>,
    accepted: Vec<Verdict>,
}

impl Ledger {
    /// An empty one, whose sizes these gauges show.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (entries, under_way) = (Mutex::default(), Mutex::default());
        Self { store: None, heard: Heard::of("the ledger"), entries, under_way, turns: AtomicU64::new(0), metrics }
    }

    /// One that is kept in this store, with the marks that an earlier process left there.
    pub fn kept(metrics: Arc<Metrics>, store: Store, marks: Vec<store::Mark>) -> Self {
        let ledger = Self { store: Some(store), ..Self::new(metrics) };
        let (now, today) = (Instant::now(), SystemTime::now());
        for mark in marks {
            let age = today.duration_since(mark.since).unwrap_or_default();
            ledger.enter_marks(mark.key, now.checked_sub(age).unwrap_or(now), vec![mark.into()]);
        }
        ledger
    }

    /// Writes down who was accepted, or may have been, as soon as it is known: a process that is killed before it has told
    /// its client leaves that. Nothing is written where the ledger is in memory: there it ends with the process. `by`: when
    /// the transaction has to end.
    pub async fn note(&self, transaction: &Transaction, verdicts: impl IntoIterator<Item = &Verdict>, by: Instant) {
        let Some(store) = &self.store else { return };
        let marks: Vec<Mark> = verdicts.into_iter().filter_map(Mark::of).collect();
        if marks.is_empty() {
            return;
        }
        let key = key(transaction);
        let marks = marks.into_iter().map(|mark| mark.to_be_kept(key)).collect();
        self.heard.answer_by(by, store.mark(marks)).await;
    }

    /// Waits until no equal transaction for one of the same recipients is under way that came earlier: if its client gives
    /// up waiting and tries again, the first try's outcome has to be known first. In the order of arrival: of the tries of
    /// one client only the last one has somebody to tell, and what it tells is over for the ledger; one that came before and
    /// went on after it would send again, for nobody. `None`: it is not its turn before `until`.
    pub async fn turn(self: &Arc<Self>, transaction: &Transaction, until: Instant) -> Option<Turn> {
        let turn = self.enter(transaction);
        while let Some(ended) = turn.earlier(transaction) {
            timeout_at(until, ended.cancelled()).await.ok()?;
        }
        Some(turn)
    }

    fn enter(self: &Arc<Self>, transaction: &Transaction) -> Turn {
        let shape = (transaction.data.len(), transaction.envelope.reverse_path.clone());
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.turns.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        under_way.entry(shape.clone()).or_default().push(UnderWay { number, transaction: transaction.clone(), ended });
        self.metrics.ledger_under_way.inc();
        Turn { ledger: Arc::clone(self), shape, number }
    }

    /// What is known of these recipients from an earlier try of the client.
    pub fn recall(&self, transaction: &Transaction) -> Recalled {
        let mut recalled = Recalled::default();
        // Nearly always: nothing is hashed then.
        if self.is_empty() {
            return recalled;
        }
        let key = key(transaction);
        let entries = self.entries();
        let Some(entry) = entries.of.get(&key) else { return recalled };
        for mark in transaction.envelope.recipients.iter().filter_map(|recipient| entry.marks.get(recipient)) {
            match mark.clone() {
                Mark::Accepted(verdict) => recalled.accepted.push(verdict),
                Mark::InDoubt(doubt) => recalled.doubts.push(doubt),
            }
        }
        recalled
    }

    /// Settles a transaction. With a temporary refusal the accepted recipients are remembered at once; with a final reply
    /// they are until it has been written. A client that is told of each recipient has the final word on all that were
    /// not deferred. Who may have been taken is remembered at any rate: the client was not told that.
    pub fn settle(
        self: &Arc<Self>,
        transaction: Transaction,
        verdicts: &[Verdict],
        reply: &Reply,
        turn: Turn,
    ) -> Receipt {
        let is_accepted = |v: &&Verdict| matches!(v.outcome, Outcome::Accepted { .. });
        let accepted: Vec<Verdict> = verdicts.iter().filter(is_accepted).cloned().collect();
        self.remember(&transaction, verdicts.iter().filter_map(Doubt::of).map(Mark::InDoubt).collect());
        let is_settled = |v: &&Verdict| !matches!(v.outcome, Outcome::Deferred(_));
        let settled = verdicts.iter().filter(is_settled).map(|v| v.recipient.clone()).collect();
        let unwritten = if reply.class() == 4 && !transaction.each {
            self.remember(&transaction, accepted.into_iter().map(Mark::Accepted).collect());
            None
        } else {
            Some(Unwritten { transaction, settled, accepted })
        };
        Receipt { ledger: Arc::clone(self), unwritten, told: None, _turn: turn }
    }

    /// How many messages are unfinished.
    pub fn len(&self) -> usize {
        self.entries().of.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries().of.is_empty()
    }

    /// How many transactions have not ended, those in line among them.
    pub fn under_way(&self) -> usize {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    fn remember(&self, transaction: &Transaction, marks: Vec<Mark>) {
        if !marks.is_empty() {
            self.enter_marks(key(transaction), Instant::now(), marks);
        }
    }

    fn enter_marks(&self, key: Key, since: Instant, marks: Vec<Mark>) {
        let mut entries = self.entries();
        if entries.by_age.len() >= MOST {
            entries.drop_oldest();
        }
        let entry = entries.of.entry(key).or_insert_with(|| Entry { since, marks: HashMap::new() });
        entry.since = since;
        for mark in marks {
            entry.add(mark);
        }
        entries.by_age.push_back((since, key));
        self.show(&entries);
    }

    /// In a store they may stand although nothing is known of them here: they were noted on the way.
    fn forget(&self, transaction: &Transaction, recipients: Vec<Address>) {
        if self.is_empty() && self.store.is_none() {
            return;
        }
        let key = key(transaction);
        let mut entries = self.entries();
        if let Some(entry) = entries.of.get_mut(&key) {
            entry.marks.retain(|recipient, _| !recipients.contains(recipient));
            if entry.marks.is_empty() {
                entries.of.remove(&key);
            }
        }
        self.show(&entries);
        drop(entries);
        if let Some(store) = &self.store {
            store.unmark(key, recipients);
        }
    }

    fn show(&self, entries: &Entries) {
        self.metrics.ledger_unfinished.set(i64::try_from(entries.of.len()).unwrap_or(i64::MAX));
    }

    /// The entries, without those that are too old.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.by_age.front().is_some_and(|(since, _)| since.elapsed() >= TTL) {
            entries.drop_oldest();
        }
        entries
    }
}

impl Entry {
    /// The newest mark counts; of a doubt about the same mail, since when it has been there.
    fn add(&mut self, mark: Mark) {
        let recipient = match &mark {
            Mark::Accepted(verdict) => verdict.recipient.clone(),
            Mark::InDoubt(doubt) => doubt.recipient.clone(),
        };
        match (self.marks.get(&recipient), &mark) {
            (Some(Mark::InDoubt(old)), Mark::InDoubt(new))
                if old.marker == new.marker && old.account == new.account => {}
            _ => drop(self.marks.insert(recipient, mark)),
        }
    }
}

impl Entries {
    /// Drops the entry that was touched longest ago; or a note of one that has been touched since, or is gone.
    fn drop_oldest(&mut self) {
        let Some((since, key)) = self.by_age.pop_front() else { return };
        if self.of.get(&key).is_some_and(|entry| entry.since == since) {
            self.of.remove(&key);
        }
    }
}

impl Receipt {
    /// What says so once the final reply is on the wire, and ends without a word if the client was gone before.
    pub fn told(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.told = Some(tell);
        told
    }

    /// The final reply is on the wire: the client knows, and nothing has to be remembered for it.
    pub fn written(mut self) {
        if let Some(unwritten) = self.unwritten.take() {
            self.ledger.forget(&unwritten.transaction, unwritten.settled);
        }
        // Nobody may listen.
        let _ = self.told.take().map(|told| told.send(()));
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(unwritten) = self.unwritten.take() {
            let marks = unwritten.accepted.into_iter().map(Mark::Accepted).collect();
            self.ledger.remember(&unwritten.transaction, marks);
        }
    }
}

impl Turn {
    /// What says that an equal transaction has ended that came earlier, if there is one.
    fn earlier(&self, transaction: &Transaction) -> Option<CancellationToken> {
        let under_way = self.ledger.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alike = under_way.get(&self.shape)?.iter().filter(|other| other.number < self.number);
        alike.find(|other| is_equal(&other.transaction, transaction)).map(|other| other.ended.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = self.ledger.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alike) = under_way.get_mut(&self.shape) {
            let over = alike.extract_if(.., |other| other.number == self.number);
            over.for_each(|other| {
                self.ledger.metrics.ledger_under_way.dec();
                other.ended.cancel();
            });
            if alike.is_empty() {
                under_way.remove(&self.shape);
            }
        }
    }
}

/// Whether one may be the repetition of the other, for somebody. The octets are compared last.
fn is_equal(one: &Transaction, other: &Transaction) -> bool {
    let (a, b) = (&one.envelope, &other.envelope);
    a.principal == b.principal
        && a.reverse_path == b.reverse_path
        && a.recipients.iter().any(|recipient| b.recipients.contains(recipient))
        && one.data == other.data
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
