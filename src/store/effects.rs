//! What events do to the list. Each effect is derived from the events that are kept, by the times they happened at: so it is
//! the same however often and in whichever order they come.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rusqlite::{Connection, Row, ToSql, named_params, params};

use super::sqlite::{millis, moment, span, time, word_or};
use super::suppressions::{claim, lifted, strength};
use super::{Acted, Answer, Changed, Store, events};
use crate::address::{Address, Alphabet};
use crate::feedback::EventKind;
use crate::suppression::{Effect, Policy, Reason, Scope, ScopeOfEvents, Suppression};

impl Store {
    /// Does what the next at most `most` events that wait ask for, in the order they came in.
    ///
    /// # Errors
    /// The store cannot be written to; then nothing was done.
    pub async fn act(&self, policy: &Policy, most: usize) -> Answer<Acted> {
        let policy = policy.clone();
        self.write(move |sql| act(sql, &policy, most)).await
    }
}

/// By how much an event may seem older than the operator's removal that it came after: providers give whole seconds, by a
/// clock of their own. In milliseconds.
const GRACE: i64 = 60_000;

/// What an effect needs of an event.
#[derive(Debug)]
struct Told {
    number: i64,
    account: String,
    event_id: String,
    kind: EventKind,
    at: SystemTime,
    received: SystemTime,
    /// As [`Policy::key`] writes it, and in lower case.
    address: Option<(String, String)>,
    domain: Option<String>,
    reason: Option<String>,
}

/// The events of one recipient at one account, told by the named parameters `:account`, `:folded` and `:exact`.
const OF_RECIPIENT: &str = "account = :account AND folded = :folded AND (:exact IS NULL OR recipient = :exact)";

fn act(sql: &Connection, policy: &Policy, most: usize) -> rusqlite::Result<Acted> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let scene = Scene { sql, policy };
    let waiting = scene.read(
        "number IN (SELECT number FROM waiting ORDER BY number LIMIT :most) ORDER BY number",
        &[(":most", &most)],
    )?;
    let mut acted = Acted { events: waiting.len(), ..Acted::default() };
    for mut event in waiting {
        if event.domain.is_none() {
            event.domain = events::learn_domain(sql, event.number)?;
        }
        sql.prepare_cached("DELETE FROM waiting WHERE number = ?1")?.execute(params![event.number])?;
        let lifted = match scene.effect(&event)? {
            Change::None => continue,
            Change::Unaddressed => {
                acted.unaddressed.push(changed(event, false));
                continue;
            }
            Change::Suppressed => false,
            Change::Lifted => true,
        };
        *(if lifted { &mut acted.lifted } else { &mut acted.suppressed }) += 1;
        acted.changes.push(changed(event, lifted));
    }
    Ok(acted)
}

fn changed(event: Told, lifted: bool) -> Changed {
    let address = key(&event).to_owned();
    let Told { account, kind, event_id, reason, .. } = event;
    Changed { address, lifted, account, kind, event_id, reason }
}

/// What an event did.
enum Change {
    None,
    /// It would have done something, and names nobody.
    Unaddressed,
    Suppressed,
    Lifted,
}

impl From<bool> for Change {
    fn from(suppressed: bool) -> Self {
        if suppressed { Self::Suppressed } else { Self::None }
    }
}

struct Scene<'a> {
    sql: &'a Connection,
    policy: &'a Policy,
}

impl Scene<'_> {
    fn effect(&self, event: &Told) -> rusqlite::Result<Change> {
        let effect = self.policy.effect(event.kind);
        if event.address.is_none() {
            return Ok(if effect == Effect::None { Change::None } else { Change::Unaddressed });
        }
        match effect {
            Effect::Suppress(Reason::Unsubscribe, _) if self.is_resubscribed(event)? => Ok(Change::None),
            Effect::Suppress(reason, _) => Ok(self.suppress(event, reason)?.into()),
            Effect::CountSoft => Ok(self.count_soft(event)?.into()),
            Effect::Resubscribe => self.resubscribe(event),
            Effect::None if event.kind == EventKind::Delivered => self.delivered(event),
            Effect::None => Ok(Change::None),
        }
    }

    /// Whether this put the address on the list, or made its entry a stronger one.
    fn suppress(&self, event: &Told, reason: Reason) -> rusqlite::Result<bool> {
        let scope = self.scope(event);
        let until = self.policy.expiry(reason).map(|expiry| event.at + expiry);
        let lifted = lifted(self.sql, key(event), &scope)?;
        if millis(event.received) <= lifted || millis(event.at) <= lifted - GRACE {
            return Ok(false);
        }
        self.put(event, reason, scope, until)
    }

    fn put(&self, event: &Told, reason: Reason, scope: Scope, until: Option<SystemTime>) -> rusqlite::Result<bool> {
        let address = key(event).to_owned();
        let before = strength(self.sql, &address, &scope, event.at)?;
        let evidence = match &event.reason {
            Some(reason) => format!("{reason} (event {})", event.event_id),
            None => format!("event {}", event.event_id),
        };
        let source = source(event);
        claim(self.sql, &Suppression { address, scope, reason, source, since: event.at, until, evidence })?;
        Ok(before < reason.strength())
    }

    fn scope(&self, event: &Told) -> Scope {
        match (self.policy.scope, &event.domain) {
            (ScopeOfEvents::Everywhere, _) => Scope::Everywhere,
            (ScopeOfEvents::SenderDomain, Some(domain)) => Scope::SenderDomain(domain.clone()),
            (ScopeOfEvents::SenderDomain | ScopeOfEvents::Account, _) => Scope::Account(event.account.clone()),
        }
    }

    // --- unsubscribe and resubscribe: the later one counts ---

    /// When the recipient last wanted mail again. What is said to be yet to happen happened when it came: it must not outdo
    /// an unsubscribe that follows.
    fn resubscribed(&self, event: &Told) -> rusqlite::Result<Option<i64>> {
        self.last(event, EventKind::Resubscribed, "min(at, received)")
    }

    /// Whether the recipient wanted mail again after this.
    fn is_resubscribed(&self, event: &Told) -> rusqlite::Result<bool> {
        Ok(self.resubscribed(event)?.is_some_and(|last| last > millis(event.at)))
    }

    /// Takes back the unsubscribes from before the last resubscribe, this account's and those of an import.
    fn resubscribe(&self, event: &Told) -> rusqlite::Result<Change> {
        let Some(last) = self.resubscribed(event)? else { return Ok(Change::None) };
        let gone = self
            .sql
            .prepare_cached(
                "DELETE FROM suppressions
                 WHERE address = ?1 AND reason = ?2 AND since < ?3 AND (source = ?4
                     OR (source NOT LIKE 'webhook:%' AND scope IN ('*', ?5, ?6)))",
            )?
            .execute(params![
                key(event),
                Reason::Unsubscribe.name(),
                last,
                source(event),
                Scope::Account(event.account.clone()).to_string(),
                self.scope(event).to_string()
            ])?;
        let mut again = false;
        if matches!(self.policy.effect(EventKind::Unsubscribed), Effect::Suppress(..)) {
            for later in self.run(event, EventKind::Unsubscribed, (last - 1, -1), "ORDER BY at, event_id")? {
                again |= self.suppress(&later, Reason::Unsubscribe)?;
            }
        }
        Ok(if gone > 0 && !again { Change::Lifted } else { Change::None })
    }

    // --- soft bounces: those since the last delivery count ---

    /// Suppresses if there are enough of them, in each scope that they touch: from the one on that made them enough, until
    /// some time after the newest.
    fn count_soft(&self, event: &Told) -> rusqlite::Result<bool> {
        let delivered = self.last(event, EventKind::Delivered, "at")?.unwrap_or(-1);
        let mut suppressed = false;
        for scope in self.scopes_of_run(event, delivered)? {
            let lifted = lifted(self.sql, key(event), &scope)?;
            let run =
                |order: &str| self.run(event, EventKind::BouncedSoft, (delivered.max(lifted - GRACE), lifted), order);
            let nth = self.policy.soft_bounce_limit.saturating_sub(1);
            let limit = run(&format!("ORDER BY at, event_id LIMIT 1 OFFSET {nth}"))?;
            let newest = run("ORDER BY at DESC LIMIT 1")?;
            if let (Some(limit), Some(newest)) = (limit.first(), newest.first()) {
                let until = millis(newest.at).saturating_add(span(self.policy.soft_bounce_expiry));
                suppressed |= self.put(limit, Reason::SoftBounces, scope, Some(time(until)))?;
            }
        }
        Ok(suppressed)
    }

    fn scopes_of_run(&self, event: &Told, delivered: i64) -> rusqlite::Result<BTreeSet<Scope>> {
        // The only scope that events of one account and recipient do not have in common.
        if self.policy.scope != ScopeOfEvents::SenderDomain {
            return Ok([self.scope(event)].into());
        }
        let run = self.run(event, EventKind::BouncedSoft, (delivered, -1), "")?;
        Ok(run.iter().map(|bounce| self.scope(bounce)).collect())
    }

    /// The bounces before it count no more.
    fn delivered(&self, event: &Told) -> rusqlite::Result<Change> {
        if self.policy.soft_bounce_limit == 0 {
            return Ok(Change::None);
        }
        let gone = self
            .sql
            .prepare_cached("DELETE FROM suppressions WHERE address = ?1 AND reason = ?2 AND source = ?3")?
            .execute(params![key(event), Reason::SoftBounces.name(), source(event)])?;
        let again = gone > 0 && self.count_soft(event)?;
        Ok(if gone > 0 && !again { Change::Lifted } else { Change::None })
    }

    // --- the events that are kept ---

    /// When the recipient's last event of a kind happened, in milliseconds, by this expression in SQL.
    fn last(&self, event: &Told, kind: EventKind, time: &str) -> rusqlite::Result<Option<i64>> {
        let sql = format!("SELECT max({time}) FROM events WHERE {OF_RECIPIENT} AND kind = :kind");
        let (folded, exact) = self.names(event);
        self.sql.prepare_cached(&sql)?.query_row(
            named_params! {":account": event.account, ":folded": folded, ":exact": exact, ":kind": kind.name()},
            |row| row.get(0),
        )
    }

    /// The recipient's events of a kind that happened, and were received, after these times in milliseconds.
    fn run(&self, event: &Told, kind: EventKind, after: (i64, i64), order: &str) -> rusqlite::Result<Vec<Told>> {
        let (folded, exact) = self.names(event);
        self.read(
            &format!("{OF_RECIPIENT} AND kind = :kind AND at > :at AND received > :received {order}"),
            named_params! {
                ":account": event.account, ":folded": folded, ":exact": exact, ":kind": kind.name(),
                ":at": after.0, ":received": after.1
            },
        )
    }

    /// The recipient in lower case; and as it is if only that is meant.
    fn names<'e>(&self, event: &'e Told) -> (&'e str, Option<&'e str>) {
        let (key, folded) = event.address.as_ref().map_or(("", ""), |(key, folded)| (key, folded));
        (folded, (!self.policy.fold_local_part).then_some(key))
    }

    fn read(&self, which: &str, values: &[(&str, &dyn ToSql)]) -> rusqlite::Result<Vec<Told>> {
        let columns = "number, account, event_id, kind, at, received, recipient, folded, domain, reason";
        let mut statement = self.sql.prepare_cached(&format!("SELECT {columns} FROM events WHERE {which}"))?;
        statement.query_map(values, |row| self.told(row))?.collect()
    }

    fn told(&self, row: &Row<'_>) -> rusqlite::Result<Told> {
        let recipient: Option<String> = row.get("recipient")?;
        let recipient = recipient.and_then(|text| Address::parse_in(Alphabet::Utf8, &text).ok());
        let folded: Option<String> = row.get("folded")?;
        Ok(Told {
            number: row.get("number")?,
            account: row.get("account")?,
            event_id: row.get("event_id")?,
            kind: word_or(row, "kind", EventKind::Unknown)?,
            at: moment(row, "at")?,
            received: moment(row, "received")?,
            address: recipient.map(|recipient| self.policy.key(&recipient)).zip(folded),
            domain: row.get("domain")?,
            reason: row.get("reason")?,
        })
    }
}

fn key(event: &Told) -> &str {
    event.address.as_ref().map_or("", |(key, _)| key)
}

fn source(event: &Told) -> String {
    format!("webhook:{}", event.account)
}
