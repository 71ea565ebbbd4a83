//! Which accounts send a mail: its recipients by their routes, and from one account to the next after a clean failure.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::account::{Account, Delivered, Mail};
use super::doubts::{by_doubt, by_marker};
use super::ledger::Doubt;
use super::suppressed::Way;
use super::{Relay, all};
use crate::address::Address;
use crate::envelope::{Envelope, Transaction};
use crate::message::Message;
use crate::outcome::{Cause, Kind, Outcome, Retry, Verdict};
use crate::plan::{Plan, prepare};
use crate::route::Facts;

/// Requests of one transaction that are under way at a time, on each account.
const FAN_OUT: usize = 16;

/// Some of a transaction's recipients, and the accounts for them in their order.
pub(super) type Part<'a> = (Vec<&'a Arc<Account>>, Envelope);

impl Relay {
    /// A verdict for each recipient of `open`, those of a transaction that are still to be sent to.
    pub(super) async fn dispatch(
        &self,
        transaction: &Transaction,
        mut open: Envelope,
        doubts: &[Doubt],
        deadline: Instant,
    ) -> Delivered {
        let mut whole = Delivered::default();
        let headers = self.headers(transaction);
        if self.routes.look_at_headers() {
            whole.verdicts.extend(self.hold_back(transaction, &mut open, &headers).await);
        }
        let (parts, lost) = self.parts(transaction, open, &headers);
        whole.verdicts.extend(lost);
        let parts = parts.into_iter().flat_map(|part| by_doubt(part, doubts));
        let parts = parts.map(|(accounts, part)| self.serve(transaction, part, accounts, doubts, deadline));
        for delivered in join_all(parts).await {
            whole.absorb(delivered);
        }
        whole
    }

    /// The header fields, if a route looks at them. What cannot be read is refused later, by whichever account.
    pub(super) fn headers(&self, transaction: &Transaction) -> Vec<(String, String)> {
        if !self.routes.look_at_headers() {
            return Vec::new();
        }
        Message::parse(transaction.data.clone()).unwrap_or_default().headers
    }

    /// Takes the suppressed recipients out: at RCPT nobody knew which route the header fields would choose.
    async fn hold_back(
        &self,
        transaction: &Transaction,
        open: &mut Envelope,
        headers: &[(String, String)],
    ) -> Vec<Verdict> {
        let facts = Facts { envelope: open, listener: &transaction.origin.listener, headers };
        let held = open.recipients.iter().map(async |recipient| {
            let route = self.routes.route(facts, recipient)?;
            let way = Way::from(route);
            let entry = self.suppressions.find(open.reverse_path.as_ref(), &[way], recipient).await?;
            let outcome = Outcome::from_cause(self.suppressed_cause(&entry, &[way]));
            Some(Verdict { recipient: recipient.clone(), account: Arc::default(), outcome })
        });
        let held: Vec<Verdict> = join_all(held).await.into_iter().flatten().collect();
        self.metrics.suppressed.inc_by(held.len() as u64);
        open.recipients.retain(|recipient| held.iter().all(|verdict| verdict.recipient != *recipient));
        held
    }

    /// The recipients by the accounts that serve them; and those that no route is for.
    pub(super) fn parts(
        &self,
        transaction: &Transaction,
        open: Envelope,
        headers: &[(String, String)],
    ) -> (Vec<Part<'_>>, Vec<Verdict>) {
        if self.routes.0.is_empty() {
            return (vec![(self.accounts.values().collect(), open)], Vec::new());
        }
        let facts = Facts { envelope: &open, listener: &transaction.origin.listener, headers };
        let mut parts: Vec<(&[String], Vec<Address>)> = Vec::new();
        let mut lost = Vec::new();
        for recipient in &open.recipients {
            match self.routes.route(facts, recipient).map(|route| route.accounts.as_slice()) {
                None => lost.push(no_route(recipient)),
                Some(accounts) => match parts.iter_mut().find(|(known, _)| *known == accounts) {
                    Some((_, recipients)) => recipients.push(recipient.clone()),
                    None => parts.push((accounts, vec![recipient.clone()])),
                },
            }
        }
        let named = |names: &[String]| names.iter().filter_map(|name| self.accounts.get(name.as_str())).collect();
        let parts =
            parts.into_iter().map(|(names, recipients)| (named(names), Envelope { recipients, ..open.clone() }));
        (parts.collect(), lost)
    }

    /// Sends by the first account; by the next one for whom that could certainly not send. Each has time for one attempt,
    /// and leaves as much for those behind it as there is.
    pub(super) async fn serve(
        &self,
        transaction: &Transaction,
        mut open: Envelope,
        accounts: Vec<&Arc<Account>>,
        doubts: &[Doubt],
        deadline: Instant,
    ) -> Delivered {
        let mut whole = Delivered::default();
        for (n, account) in accounts.iter().enumerate() {
            let behind = accounts.get(n + 1..).unwrap_or_default();
            let reserve = behind.iter().map(|account| account.attempt_timeout()).sum();
            let by = deadline.checked_sub(reserve).unwrap_or(deadline);
            let by = by.max(Instant::now() + account.attempt_timeout()).min(deadline);
            let mut delivered = self.send_by(account, transaction, &open, doubts, by).await;
            if behind.first().is_none_or(|next| !next.has_time(deadline)) {
                whole.absorb(delivered);
                break;
            }
            let verdicts = std::mem::take(&mut delivered.verdicts).into_iter();
            let (goes_on, done): (Vec<Verdict>, Vec<Verdict>) =
                verdicts.partition(|verdict| verdict.outcome.cause().is_some_and(may_go_on));
            whole.absorb(Delivered { verdicts: done, ..delivered });
            if goes_on.is_empty() {
                break;
            }
            self.journal.moves_on(transaction, account.name(), &goes_on);
            open.recipients = goes_on.into_iter().map(|verdict| verdict.recipient).collect();
        }
        whole
    }

    /// Sends to these recipients by one account.
    async fn send_by(
        &self,
        account: &Account,
        transaction: &Transaction,
        open: &Envelope,
        doubts: &[Doubt],
        deadline: Instant,
    ) -> Delivered {
        match self.prepare(account, transaction, open) {
            Ok((message, mut plan)) => {
                plan.batches = plan.batches.into_iter().flat_map(|batch| by_marker(batch, doubts)).collect();
                self.deliver(account, &message, plan, transaction, deadline).await
            }
            Err(cause) => all(open, account.name(), &Outcome::from_cause(account.told(cause))),
        }
    }

    /// Everything before the first request: the message, and who gets it by which one.
    fn prepare(&self, account: &Account, transaction: &Transaction, open: &Envelope) -> Result<(Message, Plan), Cause> {
        let terms = account.terms(transaction.each);
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
        account: &Account,
        message: &Message,
        plan: Plan,
        transaction: &Transaction,
        deadline: Instant,
    ) -> Delivered {
        let (mut whole, controls) = (Delivered::default(), plan.controls);
        let mail = Mail { transaction, message, controls: &controls, ledger: &self.ledger };
        let sending = plan.batches.into_iter().map(async |batch| {
            // A bug in one request takes nothing from what became of the others: whoever was accepted is remembered, and
            // those of this one, who have no verdict, are told to come again.
            let sent = AssertUnwindSafe(account.deliver(mail, batch, deadline)).catch_unwind().await;
            let delivered = sent.unwrap_or_else(|_| {
                self.metrics.panics.inc();
                tracing::error!(id = %transaction.id, account = account.name(), "a bug of the relay ended this request");
                Delivered::default()
            });
            self.ledger.note(transaction, &delivered.verdicts, deadline).await;
            delivered
        });
        let mut sending = futures_util::stream::iter(sending).buffer_unordered(FAN_OUT);
        while let Some(delivered) = sending.next().await {
            whole.absorb(delivered);
        }
        drop(sending);
        whole.controls = controls;
        whole
    }
}

/// Whether another account may be tried: nothing was taken, by none of the attempts, and the mail is not at fault. Of what
/// may have been taken the operator alone can say "elsewhere".
fn may_go_on(cause: &Cause) -> bool {
    match cause.row.retry {
        Retry::Within => !cause.in_doubt,
        Retry::Elsewhere => !cause.in_doubt || cause.kind.leaves_doubt(),
        Retry::Never => false,
    }
}

fn no_route(recipient: &Address) -> Verdict {
    let cause = Cause::new(Kind::BadSender, "no route is for this mail; the operator can add one to [[routes]]");
    Verdict { recipient: recipient.clone(), account: Arc::default(), outcome: Outcome::from_cause(cause) }
}
