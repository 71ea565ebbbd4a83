//! From a finished transaction to its reply: parse, plan, send the batches, settle.

pub mod account;
pub mod breaker;
pub mod http;
pub mod journal;
pub mod ledger;
pub mod limiter;
pub mod retry;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use crate::address::Address;
use crate::config::{Delivery, PartialFailure};
use crate::envelope::{Envelope, Transaction};
use crate::message::Message;
use crate::metrics::{ClassLabel, Metrics, OutcomeLabel};
use crate::outcome::{Cause, Kind, Outcome, Verdict, early_refusal, settle};
use crate::plan::{Plan, Policies, prepare};
use crate::recent::Recent;
use crate::reply::Reply;
use crate::secret::Secret;
use account::{Account, Delivered, Mail};
use journal::{Entry, Journal};
use ledger::{Ledger, Mark, Receipt};

/// Requests of one transaction that are under way at a time.
const FAN_OUT: usize = 16;

/// The relay: one account and the policies around it.
pub struct Relay {
    account: Arc<Account>,
    policies: Policies,
    deadline: Duration,
    partial_failure: PartialFailure,
    journal: Journal,
    ledger: Arc<Ledger>,
    refused_keys: Arc<Recent>,
    metrics: Arc<Metrics>,
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
    /// A relay that sends everything through one account. In `refused_keys` it puts what keys of clients' own the API
    /// refused.
    pub fn new(
        account: Arc<Account>,
        policies: Policies,
        delivery: &Delivery,
        journal: Journal,
        refused_keys: Arc<Recent>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (deadline, partial_failure) = (delivery.deadline, delivery.partial_failure);
        let ledger = Arc::default();
        Self { account, policies, deadline, partial_failure, journal, ledger, refused_keys, metrics }
    }

    /// Asked at MAIL: the refusal, if no mail can be taken now (breaker open, hold-off past the deadline), so that the
    /// client need not upload the body. Or the client's own `api_key` was refused lately.
    ///
    /// # Errors
    /// The reply to MAIL.
    pub fn admit(&self, api_key: Option<&Secret>) -> Result<(), Reply> {
        let now = Instant::now();
        let refused = |key: &&Secret| self.refused_keys.holds(&self.refused_keys.digest(&[key.expose()]), now);
        let admitted = match api_key.filter(refused) {
            Some(_) => Err(Cause::new(Kind::BadLogin, "it was tried")),
            None => self.account.admit(now + self.deadline),
        };
        admitted.map_err(|cause| early_refusal(&cause, self.account.name()))
    }

    /// The name of the account.
    pub fn account(&self) -> &str {
        self.account.name()
    }

    /// Why the relay is not ready, if it is not: the account's breaker is open, or it is held off past the deadline.
    pub fn trouble(&self) -> Option<Cause> {
        self.account.trouble(Instant::now() + self.deadline)
    }

    /// The largest message in octets that the account takes.
    pub fn max_message_size(&self) -> usize {
        self.account.limits().body
    }

    /// Whether the account takes addresses beyond ASCII.
    pub fn utf8_addresses(&self) -> bool {
        self.account.utf8_addresses()
    }

    /// Relays one transaction; returns before the deadline, which starts now: at the end of data. Recipients that an earlier
    /// try of the same client got accepted are not sent to again.
    pub async fn submit(self: Arc<Self>, transaction: Transaction) -> Settled {
        let begun = Instant::now();
        let Some(turn) = self.ledger.turn(&transaction, begun + self.deadline).await else {
            let pending = Cause::new(Kind::Pending, "the first try of it has not ended");
            let pending = all(&transaction.envelope, &Outcome::from_cause(pending));
            let (reply, each) = self.tell(&transaction, &pending, begun);
            return Settled { reply, each, receipt: None };
        };
        let (accepted, unknown) = sorted(self.ledger.recall(&transaction));
        let mut delivered = self.attend(&transaction, accepted, begun + self.deadline).await;
        delivered.verdicts = in_envelope_order(&transaction.envelope, delivered.verdicts);
        let (reply, each) = self.tell(&transaction, &delivered, begun);
        let receipt = Some(self.ledger.settle(transaction, &delivered.verdicts, unknown, &reply, turn));
        Settled { reply, each, receipt }
    }

    /// A verdict for each recipient: for those that were `accepted` before, and for the others by what the API says now.
    async fn attend(&self, transaction: &Transaction, accepted: Vec<Verdict>, deadline: Instant) -> Delivered {
        let mut open = transaction.envelope.clone();
        open.recipients.retain(|recipient| accepted.iter().all(|verdict| verdict.recipient != *recipient));
        let mut delivered = if open.recipients.is_empty() {
            Delivered::default()
        } else {
            match self.prepare(transaction, &open) {
                Ok((message, plan)) => self.deliver(&message, plan, transaction, deadline).await,
                Err(cause) => all(&open, &Outcome::from_cause(cause)),
            }
        };
        delivered.verdicts.extend(accepted);
        self.learn_of_key(transaction, &delivered.verdicts);
        delivered
    }

    /// The replies, counted and written into the log: one for all, and one for each recipient where that is asked for.
    fn tell(&self, transaction: &Transaction, delivered: &Delivered, begun: Instant) -> (Reply, Vec<Reply>) {
        let (verdicts, account) = (&delivered.verdicts, self.account.name());
        let strict = self.partial_failure == PartialFailure::Reject;
        let reply = settle(verdicts, account, transaction.id, strict);
        let took = begun.elapsed();
        self.count(&reply, verdicts, took);
        let Delivered { attempts, status, controls, .. } = delivered;
        let (attempts, status) = (*attempts, *status);
        self.journal.write(&Entry { transaction, account, verdicts, attempts, status, controls, reply: &reply, took });
        let alone = |verdict| settle(std::slice::from_ref(verdict), account, transaction.id, strict);
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

    /// Everything before the first request: the message, and who gets it by which one.
    fn prepare(&self, transaction: &Transaction, open: &Envelope) -> Result<(Message, Plan), Cause> {
        let terms = self.account.terms(transaction.each);
        let prepared = prepare(transaction.data.clone(), &transaction.envelope, open, &self.policies, terms);
        let (message, plan) = prepared?;
        if !plan.losses.is_empty() {
            self.metrics.losses.inc_by(plan.losses.len() as u64);
            self.journal.losses(transaction, &plan.losses);
        }
        self.metrics.controls_ignored.inc_by(plan.controls.ignored.len() as u64);
        Ok((message, plan))
    }

    /// All batches, a few at a time. After a refusal that concerns the account the breaker stops the rest.
    async fn deliver(&self, message: &Message, plan: Plan, transaction: &Transaction, deadline: Instant) -> Delivered {
        let (mut whole, controls) = (Delivered::default(), plan.controls);
        let mail = Mail { transaction, message, controls: &controls };
        let sending = plan.batches.into_iter().map(|batch| self.account.deliver(mail, batch, deadline));
        let mut sending = futures_util::stream::iter(sending).buffer_unordered(FAN_OUT);
        while let Some(delivered) = sending.next().await {
            whole.verdicts.extend(delivered.verdicts);
            whole.attempts += delivered.attempts;
            whole.status = delivered.status.or(whole.status);
        }
        drop(sending);
        whole.controls = controls;
        whole
    }

    /// A client's own key that the API refused is not tried again for a while.
    fn learn_of_key(&self, transaction: &Transaction, verdicts: &[Verdict]) {
        let is_refused = |v: &Verdict| v.outcome.cause().is_some_and(|cause| cause.kind == Kind::BadLogin);
        if let Some(key) = transaction.api_key.as_ref().filter(|_| verdicts.iter().any(is_refused)) {
            self.refused_keys.remember(self.refused_keys.digest(&[key.expose()]), Instant::now());
        }
    }

    fn count(&self, reply: &Reply, verdicts: &[Verdict], took: Duration) {
        self.metrics.reply_seconds.observe(took.as_secs_f64());
        self.metrics.transactions.get_or_create(&ClassLabel { class: reply.class() }).inc();
        for verdict in verdicts {
            let label = OutcomeLabel { account: self.account.name().to_owned(), outcome: verdict.outcome.word() };
            self.metrics.recipients.get_or_create(&label).inc();
        }
    }
}

/// Those that were accepted for sure, and the marks of those that may have been.
fn sorted(marks: Vec<Mark>) -> (Vec<Verdict>, Vec<Mark>) {
    let (accepted, unknown): (Vec<Mark>, Vec<Mark>) = marks.into_iter().partition(|m| matches!(m, Mark::Accepted(_)));
    (accepted.iter().map(Mark::verdict).cloned().collect(), unknown)
}

/// The same outcome for everybody.
fn all(envelope: &Envelope, outcome: &Outcome) -> Delivered {
    let verdict = |recipient: &Address| Verdict { recipient: recipient.clone(), outcome: outcome.clone() };
    Delivered { verdicts: envelope.recipients.iter().map(verdict).collect(), ..Delivered::default() }
}

/// One verdict for each recipient, in the order of RCPT. A recipient without a verdict would be a bug, and is told to
/// come again rather than counted as accepted.
fn in_envelope_order(envelope: &Envelope, mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut take = |recipient: &Address| match verdicts.iter().position(|v| v.recipient == *recipient) {
        Some(place) => verdicts.swap_remove(place),
        None => Verdict {
            recipient: recipient.clone(),
            outcome: Outcome::from_cause(Cause::new(Kind::Unexpected, "the recipient was left out")),
        },
    };
    envelope.recipients.iter().map(&mut take).collect()
}
