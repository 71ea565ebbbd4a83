//! From a finished transaction to its reply: remember, dispatch, settle.

pub mod account;
pub mod breaker;
mod dispatch;
mod doubts;
mod heard;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod limiter;
mod record;
mod reporting;
pub mod retry;
mod suppressed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::address::Address;
use crate::config::{Delivery, PartialFailure};
use crate::envelope::{Envelope, Origin, Transaction};
use crate::metrics::{ClassLabel, Metrics, OutcomeLabel};
use crate::outcome::{Cause, Kind, Outcome, Verdict, early_refusal, settle};
use crate::plan::Policies;
use crate::recent::Recent;
use crate::reply::Reply;
use crate::route::{Facts, Routes};
use crate::secret::Secret;
use crate::store::{Mark, Store};
use crate::suppression::{Policy, Scope, Suppression, say};
use account::{Account, Delivered};
use journal::{Entry, Journal};
use ledger::{Ledger, Recalled, Receipt};
use reporting::Reports;
use suppressed::{Suppressions, Way};

/// The relay: the accounts, the routes to them, and the policies around them.
pub struct Relay {
    accounts: BTreeMap<String, Arc<Account>>,
    routes: Routes,
    policies: Policies,
    deadline: Duration,
    partial_failure: PartialFailure,
    journal: Journal,
    ledger: Arc<Ledger>,
    suppressions: Suppressions,
    store: Store,
    refused_keys: Arc<Recent>,
    reports: Reports,
    metrics: Arc<Metrics>,
}

/// What the relay remembers of mails that are over.
#[derive(Debug)]
pub struct Memory {
    /// The list of suppressed addresses, the ledger's marks, the log of messages.
    pub store: Store,
    /// The ledger's marks that an earlier process left in the store; `None`: the ledger ends with the process.
    pub marks: Option<Vec<Mark>>,
    /// What becomes of the list.
    pub suppression: Policy,
    /// Clients' own keys that the API refused.
    pub refused_keys: Arc<Recent>,
    /// Recipients that the API had on none of its lists when it was asked.
    pub clear: Arc<Recent>,
}

/// What to tell the client.
#[derive(Debug)]
pub struct Settled {
    /// The one reply after the dot.
    pub reply: Reply,
    /// The reply for each recipient, in the order of RCPT; empty unless the transaction asks for them.
    pub each: Vec<Reply>,
    /// To be told when that reply has been written.
    pub receipt: Option<Receipt>,
}

impl Relay {
    /// A relay over these accounts; without routes there is one.
    pub fn new(
        accounts: Vec<Arc<Account>>,
        routes: Routes,
        policies: Policies,
        delivery: &Delivery,
        journal: Journal,
        memory: Memory,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Memory { store, marks, suppression, refused_keys, clear } = memory;
        let suppressions = Suppressions::new(store.clone(), suppression, clear, metrics.list_seconds.clone());
        let (deadline, partial_failure) = (delivery.deadline, delivery.partial_failure);
        let accounts = accounts.into_iter().map(|account| (account.name().to_owned(), account)).collect();
        let ledger = match marks {
            Some(marks) => Ledger::kept(Arc::clone(&metrics), store.clone(), marks),
            None => Ledger::new(Arc::clone(&metrics)),
        };
        let (ledger, reports) = (Arc::new(ledger), Reports::of("localhost"));
        Self {
            accounts,
            routes,
            policies,
            deadline,
            partial_failure,
            journal,
            ledger,
            suppressions,
            store,
            refused_keys,
            reports,
            metrics,
        }
    }

    /// The same with the name that its delivery reports give as theirs: the machine's (`smtp.hostname`).
    #[must_use]
    pub fn named(self, hostname: &str) -> Self {
        Self { reports: Reports::of(hostname), ..self }
    }

    /// Asked at MAIL: the refusal, if no account that may serve this sender can take mail now (breaker open, hold-off past
    /// the deadline), so that the client need not upload the body. Or the client's own key was refused lately.
    ///
    /// # Errors
    /// The reply to MAIL.
    pub fn admit(&self, origin: &Origin, envelope: &Envelope) -> Result<(), Reply> {
        let now = Instant::now();
        let refused = |key: &Secret| self.refused_keys.holds(&self.refused_keys.digest(&[key.expose()]), now);
        if origin.api_key.as_ref().is_some_and(refused) {
            return Err(early_refusal(&Cause::new(Kind::BadLogin, "it was tried"), ""));
        }
        let mut first = Ok(());
        for account in self.candidates(origin, envelope) {
            match account.admit(origin.api_key.as_ref(), now + self.deadline) {
                Ok(()) => return Ok(()),
                Err(cause) => first = first.and(Err(early_refusal(&cause, account.name()))),
            }
        }
        first
    }

    /// The accounts that may serve a mail of this sender.
    fn candidates(&self, origin: &Origin, envelope: &Envelope) -> Vec<&Arc<Account>> {
        if self.routes.0.is_empty() {
            return self.accounts.values().collect();
        }
        let facts = Facts { envelope, listener: &origin.listener, headers: &[] };
        self.routes.candidates(facts).into_iter().filter_map(|name| self.accounts.get(name)).collect()
    }

    /// Asked at RCPT: the refusal, if the recipient is suppressed for this sender by whichever route its mail takes. It is
    /// in the log of messages, so that who asks for the mail later finds it.
    ///
    /// # Errors
    /// The reply to RCPT.
    pub async fn admit_recipient(
        &self,
        origin: &Origin,
        envelope: &Envelope,
        recipient: &Address,
    ) -> Result<(), Reply> {
        let facts = Facts { envelope, listener: &origin.listener, headers: &[] };
        let all: Vec<String> = self.accounts.keys().filter(|_| self.routes.0.is_empty()).cloned().collect();
        let mut ways: Vec<Way<'_>> = self.routes.for_recipient(facts, recipient).map(Way::from).collect();
        if !all.is_empty() {
            ways.push(Way { accounts: &all, transactional: false });
        }
        let sender = envelope.reverse_path.as_ref();
        let mut entry = self.suppressions.find(sender, &ways, recipient).await;
        let named = || ways.iter().flat_map(|way| way.accounts).filter_map(|name| self.accounts.get(name));
        if entry.is_none() && named().any(|account| account.asks_lists()) {
            self.suppressions.ask(named().filter(|account| account.asks_lists()), recipient).await;
            entry = self.suppressions.find(sender, &ways, recipient).await;
        }
        let Some(entry) = entry else { return Ok(()) };
        let told = self.suppressed_cause(&entry, &ways).row;
        let refusal = suppressed::refusal(recipient, &entry, &told);
        self.metrics.suppressed.inc();
        self.store.log(vec![record::of_refused(origin, envelope, recipient, &refusal)]);
        Err(refusal)
    }

    /// What is told of a suppressed recipient (`replies.suppressed`): by the account whose entry it is, or else the first one
    /// that would have sent to it.
    fn suppressed_cause(&self, entry: &Suppression, ways: &[Way<'_>]) -> Cause {
        let cause = Cause::new(Kind::Suppressed, say(entry.reason, entry.since));
        let of_entry = if let Scope::Account(name) = &entry.scope { Some(name) } else { None };
        let name = of_entry.or_else(|| ways.iter().flat_map(|way| way.accounts).next());
        match name.and_then(|name| self.accounts.get(name)) {
            Some(account) => account.told(cause),
            None => cause,
        }
    }

    /// Each account, and why it is not ready, if it is not: its breaker is open, or it is held off past the deadline.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, Option<Cause>)> {
        let deadline = Instant::now() + self.deadline;
        self.accounts.values().map(move |account| (account.name(), account.trouble(deadline)))
    }

    /// The largest message in octets that an account takes.
    pub fn max_message_size(&self) -> usize {
        self.accounts.values().map(|account| account.limits().body).max().unwrap_or_default()
    }

    /// Whether all accounts take addresses beyond ASCII.
    pub fn utf8_addresses(&self) -> bool {
        self.accounts.values().all(|account| account.utf8_addresses())
    }

    /// Relays one transaction; returns before the deadline, which starts now: at the end of data. Recipients that an earlier
    /// try of the same client got accepted are not sent to again.
    pub async fn submit(self: Arc<Self>, transaction: Transaction) -> Settled {
        let begun = Instant::now();
        let Some(turn) = self.ledger.turn(&transaction, begun + self.deadline).await else {
            let pending = Cause::new(Kind::Pending, "the first try of it has not ended");
            let pending = all(&transaction.envelope, "", &Outcome::from_cause(pending));
            let (reply, each) = self.tell(&transaction, &pending, begun);
            return Settled { reply, each, receipt: None };
        };
        let recalled = self.ledger.recall(&transaction);
        let mut delivered = self.attend(&transaction, recalled, begun + self.deadline).await;
        delivered.verdicts = in_envelope_order(&transaction.envelope, delivered.verdicts);
        let (reply, each) = self.tell(&transaction, &delivered, begun);
        let due = self.due(&transaction, &delivered.verdicts, &reply, begun);
        let mut receipt = self.ledger.settle(transaction, &delivered.verdicts, &reply, turn);
        if let Some(due) = due {
            self.report_when(receipt.told(), due);
        }
        Settled { reply, each, receipt: Some(receipt) }
    }

    /// A verdict for each recipient: for those that were accepted before, or were in doubt and are found to be, and for the
    /// others by what the API says now.
    async fn attend(&self, transaction: &Transaction, recalled: Recalled, deadline: Instant) -> Delivered {
        let Recalled { mut accepted, doubts } = recalled;
        accepted.extend(self.recheck(transaction, &doubts, deadline).await);
        let mut open = transaction.envelope.clone();
        open.recipients.retain(|recipient| accepted.iter().all(|verdict| verdict.recipient != *recipient));
        let mut delivered = Delivered::default();
        if !open.recipients.is_empty() {
            delivered = self.dispatch(transaction, open, &doubts, deadline).await;
        }
        delivered.verdicts.extend(accepted);
        self.learn_of_key(transaction, &delivered.verdicts);
        self.suppressions.learn(transaction, &delivered.verdicts, deadline).await;
        delivered
    }

    /// The replies, counted and written into the log: one for all, and one for each recipient where that is asked for.
    fn tell(&self, transaction: &Transaction, delivered: &Delivered, begun: Instant) -> (Reply, Vec<Reply>) {
        let verdicts = &delivered.verdicts;
        let strict = self.partial_failure == PartialFailure::Reject;
        let reply = settle(verdicts, transaction.id, strict);
        let took = begun.elapsed();
        self.count(&reply, verdicts, took);
        let Delivered { attempts, status, controls, .. } = delivered;
        let (attempts, status) = (*attempts, *status);
        self.journal.write(&Entry { transaction, verdicts, attempts, status, controls, reply: &reply, took });
        self.store.log(record::of(transaction, verdicts, &reply));
        let alone = |verdict| settle(std::slice::from_ref(verdict), transaction.id, strict);
        let each = if transaction.each { verdicts.iter().map(alone).collect() } else { Vec::new() };
        (reply, each)
    }

    /// How many transactions have no reply on the wire yet.
    pub fn under_way(&self) -> usize {
        self.ledger.under_way()
    }

    /// How many transactions wait for their client's next try.
    pub fn unfinished(&self) -> usize {
        self.ledger.len()
    }

    /// A client's own key that the API does not know is not tried again for a while. A 403 may be about this mail alone.
    fn learn_of_key(&self, transaction: &Transaction, verdicts: &[Verdict]) {
        let is_unknown = |cause: &Cause| cause.kind == Kind::BadLogin && cause.status == Some(401);
        let is_refused = |v: &Verdict| v.outcome.cause().is_some_and(is_unknown);
        if let Some(key) = transaction.origin.api_key.as_ref().filter(|_| verdicts.iter().any(is_refused)) {
            self.refused_keys.remember(self.refused_keys.digest(&[key.expose()]), Instant::now());
        }
    }

    fn count(&self, reply: &Reply, verdicts: &[Verdict], took: Duration) {
        self.metrics.reply_seconds.observe(took.as_secs_f64());
        self.metrics.transactions.get_or_create(&ClassLabel { class: reply.class() }).inc();
        for verdict in verdicts {
            let label = OutcomeLabel { account: verdict.account.to_string(), outcome: verdict.outcome.word() };
            self.metrics.recipients.get_or_create(&label).inc();
        }
    }
}

/// The same outcome for everybody.
fn all(envelope: &Envelope, account: &str, outcome: &Outcome) -> Delivered {
    let account: Arc<str> = account.into();
    let verdict = |recipient: &Address| Verdict {
        recipient: recipient.clone(),
        account: Arc::clone(&account),
        outcome: outcome.clone(),
    };
    Delivered { verdicts: envelope.recipients.iter().map(verdict).collect(), ..Delivered::default() }
}

/// One verdict for each recipient, in the order of RCPT. A recipient without a verdict would be a bug, and is told to
/// come again rather than counted as accepted.
fn in_envelope_order(envelope: &Envelope, mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut take = |recipient: &Address| match verdicts.iter().position(|v| v.recipient == *recipient) {
        Some(place) => verdicts.swap_remove(place),
        None => Verdict {
            recipient: recipient.clone(),
            account: Arc::default(),
            outcome: Outcome::from_cause(Cause::new(Kind::Unexpected, "the recipient was left out")),
        },
    };
    envelope.recipients.iter().map(&mut take).collect()
}
