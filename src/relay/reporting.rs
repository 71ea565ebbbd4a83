//! Delivery reports: sent to the reverse-path after a partial success (`delivery.partial_failure = "notify"`).

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Relay;
use super::account::Account;
use super::suppressed::Way;
use crate::config::PartialFailure;
use crate::envelope::{Envelope, Transaction, TransactionId};
use crate::message::{Mailbox, Message};
use crate::metrics::ReportLabel;
use crate::outcome::{Cause, Kind, Outcome, Verdict, settle};
use crate::reply::Reply;
use crate::report::{Refused, Report, addressee};
use crate::suppression::say;

/// Most reports under way at a time; what is beyond them is dropped, so that a storm of refusals does not double itself.
const MOST: usize = 16;

/// The reports of one relay.
#[derive(Debug)]
pub(super) struct Reports {
    hostname: String,
    slots: Semaphore,
    tasks: TaskTracker,
}

impl Reports {
    /// Reports of the relay with this name.
    pub(super) fn of(hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), slots: Semaphore::new(MOST), tasks: TaskTracker::new() }
    }
}

/// A report that is to be made once the client has its reply.
pub(super) struct Due {
    original: Transaction,
    refused: Vec<Refused>,
    arrival: SystemTime,
}

/// A report that is made.
struct Letter<'a> {
    /// Itself as a transaction.
    transaction: Transaction,
    /// The words alone.
    text_alone: Vec<u8>,
    accounts: Vec<&'a Arc<Account>>,
    envelope: Envelope,
}

/// What became of a report: a word for metrics, and why.
type Fate = (&'static str, String);

impl Relay {
    /// The report that a final reply leaves to be made: of a partial success, unless the client is told of each recipient.
    pub(super) fn due(
        &self,
        transaction: &Transaction,
        verdicts: &[Verdict],
        reply: &Reply,
        begun: Instant,
    ) -> Option<Due> {
        if self.partial_failure != PartialFailure::Notify || reply.class() != 2 || transaction.each {
            return None;
        }
        let rejected = verdicts.iter().filter(|verdict| matches!(verdict.outcome, Outcome::Rejected(_)));
        let alone = |verdict: &Verdict| settle(std::slice::from_ref(verdict), transaction.id, false);
        let refused: Vec<Refused> = rejected.map(|verdict| (verdict.recipient.clone(), alone(verdict))).collect();
        let now = SystemTime::now();
        let arrival = now.checked_sub(begun.elapsed()).unwrap_or(now);
        (!refused.is_empty()).then(|| Due { original: transaction.clone(), refused, arrival })
    }

    /// Makes and sends the report in a task of its own once `told` says that the client has its reply. A client that was
    /// gone before will try again, and be told then.
    pub(super) fn report_when(self: &Arc<Self>, told: oneshot::Receiver<()>, due: Due) {
        let relay = Arc::clone(self);
        self.reports.tasks.spawn(async move {
            if told.await.is_ok() {
                relay.report(due).await;
            }
        });
    }

    /// Returns when no report is under way. For the drain: call it when no transaction can come any more.
    pub async fn reported(&self) {
        self.reports.tasks.close();
        self.reports.tasks.wait().await;
    }

    /// Whatever becomes of a report, it is logged and counted, and nothing more: no report is about a report.
    async fn report(&self, due: Due) {
        let id = due.original.id;
        let (outcome, why) = match self.reports.slots.try_acquire() {
            Ok(_slot) => self.send_report(due).await.unwrap_or_else(|fate| fate),
            Err(_) => ("dropped", format!("{MOST} reports are under way")),
        };
        self.metrics.reports.get_or_create(&ReportLabel { outcome }).inc();
        self.journal.reported(id, outcome, &why);
    }

    async fn send_report(&self, due: Due) -> Result<Fate, Fate> {
        let mut letter = self.write_report(&due)?;
        self.may_be_sent(&letter).await?;
        // The original may be large.
        drop(due);
        let deadline = Instant::now() + self.deadline;
        let mut fate = self.send_letter(&letter, deadline).await;
        if fate.0 == Kind::Unsupported.row().name {
            letter.transaction.data = std::mem::take(&mut letter.text_alone).into();
            fate = self.send_letter(&letter, deadline).await;
        }
        Ok(fate)
    }

    /// The report, and the accounts that would serve a mail of the same sender to the reverse-path. It keeps that
    /// reverse-path, although a report has none in SMTP: routes and rates go by it, and no API is told of it.
    fn write_report(&self, due: &Due) -> Result<Letter<'_>, Fate> {
        let Due { original: transaction, refused, arrival } = due;
        let original = Message::parse(transaction.data.clone()).unwrap_or_default();
        let to = addressee(&transaction.envelope, &original, refused);
        let to = to.map_err(|why| ("withheld", why.to_string()))?;
        let from: Mailbox =
            self.policies.sender.of_reports(&original, &transaction.envelope).map_err(|c| failure(&c))?;
        let envelope = Envelope { recipients: vec![to.clone()], ..transaction.envelope.clone() };
        let (parts, lost) = self.parts(transaction, envelope.clone(), &self.headers(transaction));
        let no_account =
            || lost.iter().find_map(|verdict| verdict.outcome.cause()).map_or(("dropped", String::new()), failure);
        // The lists of the logins are about what the logins write; this is the relay's own letter.
        let (accounts, part) = parts.into_iter().next().ok_or_else(no_account)?;
        let part = Envelope { principal: None, ..part };
        let id = TransactionId::new(uuid::Uuid::now_v7());
        let (reporter, arrival) = (self.reports.hostname.as_str(), *arrival);
        let report = Report { reporter, id, arrival, from: &from, to, original: &original, refused };
        let (data, text_alone) = (report.mail().into(), report.text_alone());
        let transaction = Transaction { id, origin: transaction.origin.clone(), envelope, data, each: false };
        Ok(Letter { transaction, text_alone, accounts, envelope: part })
    }

    /// That the reverse-path is not on the list: who unsubscribed still hears of its own mail.
    async fn may_be_sent(&self, letter: &Letter<'_>) -> Result<(), Fate> {
        let names: Vec<String> = letter.accounts.iter().map(|account| account.name().to_owned()).collect();
        let way = Way { accounts: &names, transactional: true };
        for recipient in &letter.envelope.recipients {
            let sender = letter.envelope.reverse_path.as_ref();
            if let Some(entry) = self.suppressions.find(sender, &[way], recipient).await {
                return Err(("withheld", format!("the sender is suppressed: {}", say(entry.reason, entry.since))));
            }
        }
        Ok(())
    }

    async fn send_letter(&self, letter: &Letter<'_>, deadline: Instant) -> Fate {
        let accounts = letter.accounts.clone();
        let delivered = self.serve(&letter.transaction, letter.envelope.clone(), accounts, &[], deadline).await;
        self.suppressions.learn(&letter.transaction, &delivered.verdicts, deadline).await;
        match delivered.verdicts.first().map(|verdict| &verdict.outcome) {
            Some(Outcome::Accepted { id }) => ("accepted", id.clone().unwrap_or_default()),
            Some(Outcome::Deferred(cause) | Outcome::Rejected(cause)) => failure(cause),
            None => ("dropped", "no account was asked".to_owned()),
        }
    }
}

fn failure(cause: &Cause) -> Fate {
    (cause.row.name, cause.detail.clone())
}
