//! What an earlier try of the client may have got accepted: asked for before anything is sent again, and sent again so that
//! it is found whichever try the API took.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Relay;
use super::account::Mail;
use super::dispatch::Part;
use super::ledger::Doubt;
use crate::address::Address;
use crate::envelope::{Envelope, Transaction};
use crate::outcome::Verdict;
use crate::plan::prepare;
use crate::provider::Batch;

impl Relay {
    /// Those in doubt whose mail the account that sent it shows by now.
    pub(super) async fn recheck(&self, transaction: &Transaction, doubts: &[Doubt], deadline: Instant) -> Vec<Verdict> {
        let mails: BTreeSet<(&str, &str)> = doubts.iter().map(|doubt| (&*doubt.account, &*doubt.marker)).collect();
        let mut found = Vec::new();
        for mail in mails {
            let doubts: Vec<&Doubt> = doubts.iter().filter(|d| (&*d.account, &*d.marker) == mail).collect();
            found.extend(self.recheck_mail(transaction, &doubts, deadline).await);
        }
        found
    }

    /// The same for one account and one marker.
    async fn recheck_mail(&self, transaction: &Transaction, doubts: &[&Doubt], deadline: Instant) -> Vec<Verdict> {
        let Some(first) = doubts.first() else { return Vec::new() };
        let Some(account) = self.accounts.get(&*first.account) else { return Vec::new() };
        let recipients = doubts.iter().map(|doubt| doubt.recipient.clone()).collect();
        let open = Envelope { recipients, ..transaction.envelope.clone() };
        let terms = account.terms(transaction.each);
        let prepared = prepare(transaction.data.clone(), &transaction.envelope, &open, &self.policies, terms);
        // What cannot be prepared any more is told by the attempt to send it.
        let Ok((message, plan)) = prepared else { return Vec::new() };
        let mail = Mail { transaction, message: &message, controls: &plan.controls, ledger: &self.ledger };
        let since = doubts.iter().map(|doubt| doubt.since).min().unwrap_or(first.since);
        let mut found = Vec::new();
        for mut batch in plan.batches {
            batch.marker = Some(Arc::clone(&first.marker));
            found.extend(account.look_again(mail, &batch, since, deadline).await);
        }
        found
    }
}

/// For so long a mail in doubt is kept from other accounts: one that it may have been taken by and that can never be asked
/// again must not keep it for ever.
const HELD: Duration = Duration::from_mins(10);

/// The recipients that an account may have sent to are that account's, for a while: another one could only send to them
/// twice.
pub(super) fn by_doubt<'a>((accounts, open): Part<'a>, doubts: &[Doubt]) -> Vec<Part<'a>> {
    if accounts.len() < 2 {
        return vec![(accounts, open)];
    }
    let held_by = |recipient: &Address| {
        let is_fresh = |doubt: &&Doubt| doubt.since.elapsed().is_ok_and(|age| age < HELD);
        let mut doubts = doubts.iter().filter(|doubt| doubt.recipient == *recipient).filter(is_fresh);
        doubts.find_map(|doubt| accounts.iter().position(|account| account.name() == &*doubt.account))
    };
    let mut parts: Vec<(Option<usize>, Vec<Address>)> = Vec::new();
    for recipient in &open.recipients {
        let holder = held_by(recipient);
        match parts.iter_mut().find(|(known, _)| *known == holder) {
            Some((_, part)) => part.push(recipient.clone()),
            None => parts.push((holder, vec![recipient.clone()])),
        }
    }
    let of =
        |holder: Option<usize>| holder.and_then(|n| accounts.get(n)).map_or_else(|| accounts.clone(), |&a| vec![a]);
    let part = |(holder, recipients)| (of(holder), Envelope { recipients, ..open.clone() });
    parts.into_iter().map(part).collect()
}

/// The batch in parts that carry one marker each: the one of the doubts where all of a group have the same, and a new one
/// for all others. A group with others in it gets a new one, too: under the old one the API may have a mail to those that is
/// another matter.
pub(super) fn by_marker(batch: Batch, doubts: &[Doubt]) -> Vec<Batch> {
    let marker_of = |recipient: &Address| {
        let doubt = doubts.iter().find(|doubt| doubt.recipient == *recipient);
        doubt.map(|doubt| Arc::clone(&doubt.marker))
    };
    let mut parts: Vec<Batch> = Vec::new();
    for group in batch.personalizations {
        let markers: BTreeSet<Option<Arc<str>>> = group.mailboxes().map(|m| marker_of(&m.address)).collect();
        let marker = if markers.len() == 1 { markers.into_iter().next().flatten() } else { None };
        match parts.iter_mut().find(|part| part.marker == marker) {
            Some(part) => part.personalizations.push(group),
            None => parts.push(Batch { personalizations: vec![group], marker }),
        }
    }
    parts
}
