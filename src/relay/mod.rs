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
use crate::controls::Controls;
use crate::envelope::{Envelope, Transaction};
use crate::message::Message;
use crate::metrics::{ClassLabel, Metrics, OutcomeLabel};
use crate::outcome::{Cause, Kind, Outcome, Verdict, early_refusal, settle};
use crate::plan::{Plan, Policies, prepare};
use crate::provider::Batch;
use crate::reply::Reply;
use account::{Account, Delivered};
use journal::{Entry, Journal};
use ledger::{Ledger, Receipt};

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
    /// A relay that sends everything through one account.
    pub fn new(
        account: Arc<Account>,
        policies: Policies,
        delivery: &Delivery,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (deadline, partial_failure) = (delivery.deadline, delivery.partial_failure);
        let ledger = Arc::default();
        Self { account, policies, deadline, partial_failure, journal, ledger, metrics }
    }

    /// Asked at MAIL: the refusal, if no mail can be taken now (breaker open, hold-off past the deadline), so that the
    /// client need not upload the body.
    ///
    /// # Errors
    /// The reply to MAIL.
    pub fn admit(&self) -> Result<(), Reply> {
        let admitted = self.account.admit(Instant::now() + self.deadline);
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

    /// Relays one transaction; returns before the deadline, which starts now: at the end of data. Recipients that an earlier
    /// try of the same client got accepted are not sent to again.
    pub async fn submit(self: Arc<Self>, transaction: Transaction) -> Settled {
        let begun = Instant::now();
        let mut verdicts = self.ledger.recall(&transaction);
        let mut open = transaction.envelope.clone();
        open.recipients.retain(|recipient| verdicts.iter().all(|verdict| verdict.recipient != *recipient));
        let mut controls = Controls::default();
        let delivered = if open.recipients.is_empty() {
            Delivered::default()
        } else {
            match self.prepare(&transaction, &open) {
                Ok((message, plan)) => {
                    controls = plan.controls;
                    self.deliver(&message, &controls, plan.batches, begun + self.deadline).await
                }
                Err(cause) => all(&open, &Outcome::from_cause(cause)),
            }
        };
        verdicts.extend(delivered.verdicts);
        let verdicts = in_envelope_order(&transaction.envelope, verdicts);
        let strict = self.partial_failure == PartialFailure::Reject;
        let reply = settle(&verdicts, self.account.name(), transaction.id, strict);
        self.count(&reply, &verdicts, begun.elapsed());
        self.journal.write(&Entry {
            transaction: &transaction,
            account: self.account.name(),
            verdicts: &verdicts,
            attempts: delivered.attempts,
            status: delivered.status,
            controls: &controls,
            reply: &reply,
            took: begun.elapsed(),
        });
        let alone = |verdict| settle(std::slice::from_ref(verdict), self.account.name(), transaction.id, strict);
        let each = if transaction.each { verdicts.iter().map(alone).collect() } else { Vec::new() };
        let receipt = Some(self.ledger.settle(transaction, verdicts, &reply));
        Settled { reply, each, receipt }
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
    async fn deliver(
        &self,
        message: &Message,
        controls: &Controls,
        batches: Vec<Batch>,
        deadline: Instant,
    ) -> Delivered {
        let mut whole = Delivered::default();
        let account = &self.account;
        let sending = batches.into_iter().map(|batch| account.deliver(message, controls, batch, deadline));
        let mut sending = futures_util::stream::iter(sending).buffer_unordered(FAN_OUT);
        while let Some(delivered) = sending.next().await {
            whole.verdicts.extend(delivered.verdicts);
            whole.attempts += delivered.attempts;
            whole.status = delivered.status.or(whole.status);
        }
        whole
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
