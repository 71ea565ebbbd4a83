//! Whom the relay does not send to: asked at RCPT, asked again where only the headers tell the route, and learned from the
//! API's own refusals.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::info;

use super::account::Account;
use super::heard::Heard;
use crate::address::Address;
use crate::envelope::Transaction;
use crate::metrics::Histogram;
use crate::outcome::{Cause, Kind, Row, Verdict};
use crate::recent::Recent;
use crate::reply::Reply;
use crate::route::Route;
use crate::store::Store;
use crate::suppression::{Policy, Reason, Scope, Suppression, remove_command, say};

/// Longest wait for an API's own list at RCPT.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest text of a reply: its line of 512 octets (RFC 5321 §4.5.3.1.5) without codes and CRLF.
const LONGEST_TEXT: usize = 490;

/// The list, and the rules about it.
#[derive(Debug)]
pub struct Suppressions {
    store: Store,
    policy: Policy,
    /// Whom the APIs had on none of their lists when they were asked.
    clear: Arc<Recent>,
    heard: Heard,
    /// How long each look at the list took.
    seconds: Histogram,
}

/// One way that a mail may take.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The accounts of the route, in their order.
    pub accounts: &'a [String],
    /// Whether it also goes to those who only unsubscribed.
    pub transactional: bool,
}

impl<'a> From<&'a Route> for Way<'a> {
    fn from(route: &'a Route) -> Self {
        Self { accounts: &route.accounts, transactional: route.transactional }
    }
}

impl Suppressions {
    /// The list in this store.
    pub fn new(store: Store, policy: Policy, clear: Arc<Recent>, seconds: Histogram) -> Self {
        Self { store, policy, clear, heard: Heard::of("the list of suppressed addresses"), seconds }
    }

    /// The entry that keeps mail of this sender from a recipient, whichever of the ways it takes. An account that may not
    /// send to it closes its whole way: what follows in a route is for failures, not for getting round a list.
    ///
    /// Without the store mail flows: the provider has a list of its own.
    pub async fn find(&self, sender: Option<&Address>, ways: &[Way<'_>], recipient: &Address) -> Option<Suppression> {
        let key = self.policy.key(recipient);
        let mut found = None;
        for way in ways {
            let accounts = way.accounts.iter().map(|name| Scope::Account(name.clone()));
            let domain = sender.map(|sender| Scope::SenderDomain(sender.domain().to_owned()));
            let scopes: Vec<Scope> = accounts.chain(domain).collect();
            let began = Instant::now();
            let entry = self.heard.answer(self.store.suppressed(&key, &scopes, SystemTime::now())).await;
            self.seconds.observe(began.elapsed().as_secs_f64());
            let entry = entry??;
            // The weakest of reasons: where it is the one named, there is no other.
            if way.transactional && entry.reason == Reason::Unsubscribe {
                return None;
            }
            found = Some(entry);
        }
        found
    }

    /// Asks the accounts of these ways whose API can be asked, and was not lately. What they say is on the list then.
    pub async fn ask(&self, accounts: impl Iterator<Item = &Arc<Account>>, recipient: &Address) {
        let now = SystemTime::now();
        let by = Instant::now() + PATIENCE;
        let digest = |account: &Account| self.clear.digest(&[account.name(), &self.policy.key(recipient)]);
        let unknown = accounts.filter(|account| !self.clear.holds(&digest(account), Instant::now()));
        let asked = unknown.map(async |account| (account, account.ask_lists(recipient, by).await));
        let mut entries = Vec::new();
        for (account, answer) in join_all(asked).await {
            match answer {
                None => {}
                Some(found) if found.is_empty() => self.clear.remember(digest(account), Instant::now()),
                Some(found) => entries.extend(found.into_iter().map(|(reason, listed)| Suppression {
                    address: self.policy.key(recipient),
                    scope: Scope::Account(account.name().to_owned()),
                    reason,
                    source: format!("api:{}", account.name()),
                    since: listed.since.map_or(now, |since| since.min(now)),
                    until: self.policy.expiry(Reason::Refused).map(|expiry| now + expiry),
                    evidence: listed.words,
                })),
            }
        }
        if !entries.is_empty() {
            self.heard.answer(self.store.suppress(entries)).await;
        }
    }

    /// Remembers who the API itself would not send to. `by`: when the transaction has to end. What it says to a client that
    /// brought a key of its own is about that customer's list, and nobody else's.
    pub async fn learn(&self, transaction: &Transaction, verdicts: &[Verdict], by: Instant) {
        if transaction.origin.api_key.is_some() {
            return;
        }
        let now = SystemTime::now();
        let refused = verdicts.iter().filter(|verdict| !verdict.account.is_empty());
        // Whatever the operator lets be told of it.
        let is_told = |cause: &&Cause| cause.kind == Kind::Suppressed && cause.status.is_some();
        let refused = refused.filter_map(|verdict| Some((verdict, verdict.outcome.cause().filter(is_told)?)));
        let entry = |(verdict, cause): (&Verdict, &Cause)| Suppression {
            address: self.policy.key(&verdict.recipient),
            scope: Scope::Account(verdict.account.to_string()),
            reason: Reason::Refused,
            source: format!("api:{}", verdict.account),
            since: now,
            until: self.policy.expiry(Reason::Refused).map(|expiry| now + expiry),
            evidence: format!("{} {}", cause.status.unwrap_or_default(), cause.detail).trim().to_owned(),
        };
        let entries: Vec<Suppression> = refused.map(entry).collect();
        if entries.is_empty() {
            return;
        }
        if let Some(learned) =
            self.heard.answer_by(by, self.store.suppress(entries)).await.filter(|learned| *learned > 0)
        {
            info!(id = %transaction.id, learned, "the API's own suppressions are remembered, and refused at RCPT");
        }
    }
}

/// The reply to RCPT (`providers/README` §3.2: 550 5.7.1, policy), as the account tells it. An address so long that the line
/// would be cut is told without the command.
pub fn refusal(recipient: &Address, entry: &Suppression, told: &Row) -> Reply {
    let what = format!("<{recipient}> suppressed: {}", say(entry.reason, entry.since));
    let command = format!(" ({})", remove_command(recipient.as_str()));
    let command = if what.len() + command.len() <= LONGEST_TEXT { command } else { String::new() };
    Reply::new(told.code, told.enhanced, what + &command)
}
