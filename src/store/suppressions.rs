//! The list of suppressed addresses. What is one entry to everybody else is stored as claims: who says so, and why.

use std::time::SystemTime;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sqlite::{Conditions, count, millis, moment, page, page_size, time, word, word_or};
use super::{Answer, Page, Store, SuppressionQuery};
use crate::suppression::{Reason, Scope, Suppression};

const SELECT: &str = "SELECT address, scope, reason, source, since, until, evidence FROM suppressions";
/// What becomes of a claim that is there.
const SAID_TWICE: &str = "ON CONFLICT DO UPDATE SET
    evidence = iif((excluded.since, excluded.evidence) < (since, evidence), excluded.evidence, evidence),
    since = min(since, excluded.since),
    until = max(until, excluded.until)";
/// The same of one that was taken off the list.
const LIFTED_TWICE: &str = "ON CONFLICT DO UPDATE SET at = max(at, excluded.at)";

impl Store {
    /// The entry that keeps mail of one of these scopes from an address (its key) now, if there is one; the strongest.
    /// An entry for everybody counts in every scope.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn suppressed(&self, key: &str, scopes: &[Scope], now: SystemTime) -> Answer<Option<Suppression>> {
        if !self.shared.writer.listed().may_hold(key) {
            return Ok(None);
        }
        let (key, scopes) = (key.to_owned(), scopes.to_vec());
        self.look_up(move |sql| {
            let counts = |entry: &Suppression| entry.scope == Scope::Everywhere || scopes.contains(&entry.scope);
            let entries = entries(sql, &key, now)?.into_iter().filter(counts);
            Ok(entries.max_by_key(|entry| (entry.reason.strength(), entry.until.is_none())))
        })
        .await
    }

    /// Puts entries on the list. One that is there keeps the longer `until`, and the stronger reason with its date.
    /// Returns how many were new.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub async fn suppress(&self, entries: Vec<Suppression>) -> Answer<usize> {
        self.write(move |sql| {
            let mut new = 0;
            for entry in &entries {
                drop_expired(sql, entry)?;
                new += usize::from(!has_claim(sql, entry)?);
                claim(sql, entry)?;
            }
            Ok(new)
        })
        .await
    }

    /// Takes an address off the list, in one scope or in all; events from before `now` do not bring it back. Returns the
    /// entries that were there.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub async fn lift(&self, key: &str, scope: Option<Scope>, now: SystemTime) -> Answer<Vec<Suppression>> {
        let key = key.to_owned();
        self.write(move |sql| {
            let mut there = entries(sql, &key, now)?;
            there.retain(|entry| scope.as_ref().is_none_or(|scope| entry.scope == *scope));
            let scope = scope.map(|scope| scope.to_string());
            sql.prepare_cached("DELETE FROM suppressions WHERE address = ?1 AND (?2 IS NULL OR scope = ?2)")?
                .execute(params![key, scope])?;
            sql.prepare_cached(&format!("INSERT INTO lifted (address, scope, at) VALUES (?1, ?2, ?3) {LIFTED_TWICE}"))?
                .execute(params![key, scope.unwrap_or_default(), millis(now)])?;
            Ok(there)
        })
        .await
    }

    /// The scopes that there are entries of, and of how many addresses. It reads the whole list.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn scopes(&self) -> Answer<Vec<(Scope, u64)>> {
        self.read(|sql| {
            let mut statement = sql.prepare_cached(
                "SELECT scope, count(DISTINCT address) AS addresses FROM suppressions GROUP BY scope",
            )?;
            let scopes = statement.query_map([], |row| Ok((word(row, "scope")?, count(row, "addresses")?)))?;
            scopes.collect()
        })
        .await
    }

    /// The list, by address.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn suppressions(&self, query: SuppressionQuery) -> Answer<Page<Suppression>> {
        let now = SystemTime::now();
        self.read(move |sql| list(sql, query, now)).await
    }
}

fn list(sql: &Connection, query: SuppressionQuery, now: SystemTime) -> rusqlite::Result<Page<Suppression>> {
    let limit = page_size(query.limit);
    let mut conditions = Conditions::default();
    conditions
        .and("(until IS NULL OR until > ?)", Some(millis(now)))
        .and("address = ?", query.address)
        .and("scope = ?", query.scope.map(|scope| scope.to_string()));
    if let Some(after) = &query.after {
        let (address, scope) = after.split_once('\t').unwrap_or((after, ""));
        let values = [address, scope].map(|text| Value::from(text.to_owned()));
        conditions.and_all("(address, scope) > (?, ?)", values.into());
    }
    let (mut statement, values) = conditions.prepare(sql, SELECT, "ORDER BY address, scope")?;
    let mut rows = statement.query(values)?;
    let is_meant = |entry: &Suppression| query.reason.is_none_or(|reason| entry.reason == reason);
    let mut found: Vec<Suppression> = Vec::new();
    let mut open: Option<Suppression> = None;
    while let Some(row) = rows.next()? {
        let next = read(row)?;
        open = match open.take() {
            Some(entry) if entry.address == next.address && entry.scope == next.scope => Some(merged(entry, next)),
            over => {
                found.extend(over.filter(is_meant));
                Some(next)
            }
        };
        if found.len() > limit {
            break;
        }
    }
    if found.len() <= limit {
        found.extend(open.filter(is_meant));
    }
    Ok(page(found, limit, |entry| format!("{}\t{}", entry.address, entry.scope)))
}

/// The entries of an address that count now, one a scope.
fn entries(sql: &Connection, key: &str, now: SystemTime) -> rusqlite::Result<Vec<Suppression>> {
    let mut statement =
        sql.prepare_cached(&format!("{SELECT} WHERE address = ?1 AND (until IS NULL OR until > ?2)"))?;
    let claims = statement.query_map(params![key, millis(now)], read)?;
    let mut entries: Vec<Suppression> = Vec::new();
    for claim in claims {
        let claim = claim?;
        match entries.iter().position(|entry| entry.scope == claim.scope) {
            Some(at) => {
                let entry = entries.swap_remove(at);
                entries.push(merged(entry, claim));
            }
            None => entries.push(claim),
        }
    }
    Ok(entries)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Suppression> {
    Ok(Suppression {
        address: row.get("address")?,
        scope: word(row, "scope")?,
        reason: word_or(row, "reason", Reason::Manual)?,
        source: row.get("source")?,
        since: moment(row, "since")?,
        until: row.get::<_, Option<i64>>("until")?.map(time),
        evidence: row.get("evidence")?,
    })
}

/// Two claims as one entry: the stronger reason, or the earlier one of it, with its date, source and evidence; and the
/// longer `until`.
fn merged(one: Suppression, other: Suppression) -> Suppression {
    let until = one.until.zip(other.until).map(|(one, other)| one.max(other));
    let is_weaker = |one: &Suppression, other: &Suppression| {
        let rank = |claim: &Suppression| (claim.reason.strength(), std::cmp::Reverse(claim.since));
        rank(one) < rank(other)
    };
    let named = if is_weaker(&one, &other) { other } else { one };
    Suppression { until, ..named }
}

/// Puts all addresses into lower case: what was written by another policy is not lost by this one. Those that become one
/// have the claims of both. What cannot be read is left alone: each look at it tells why.
pub(super) fn fold(sql: &Connection) -> rusqlite::Result<()> {
    sql.create_scalar_function(
        "folded",
        1,
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC,
        |call| Ok(call.get_raw(0).as_str()?.to_lowercase()),
    )?;
    let is_other = |table: &str| {
        let sql_of = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE address <> folded(address))");
        sql.query_row(&sql_of, [], |row| row.get(0)).unwrap_or(false)
    };
    if !is_other("suppressions") && !is_other("lifted") {
        return Ok(());
    }
    sql.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         INSERT INTO suppressions (address, scope, reason, source, since, until, evidence)
             SELECT folded(address), scope, reason, source, since, until, evidence FROM suppressions
             WHERE address <> folded(address) {SAID_TWICE};
         DELETE FROM suppressions WHERE address <> folded(address);
         INSERT INTO lifted (address, scope, at)
             SELECT folded(address), scope, at FROM lifted WHERE address <> folded(address) {LIFTED_TWICE};
         DELETE FROM lifted WHERE address <> folded(address);
         COMMIT",
    ))
}

/// Writes a claim. Of the same one made twice the earlier `since` and the longer `until` stay, in whichever order they come.
pub(super) fn claim(sql: &Connection, entry: &Suppression) -> rusqlite::Result<()> {
    sql.prepare_cached(&format!(
        "INSERT INTO suppressions (address, scope, reason, source, since, until, evidence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) {SAID_TWICE}"
    ))?
    .execute(params![
        entry.address,
        entry.scope.to_string(),
        entry.reason.name(),
        entry.source,
        millis(entry.since),
        entry.until.map(millis),
        entry.evidence
    ])?;
    Ok(())
}

/// What was over when this entry began does not lengthen it.
fn drop_expired(sql: &Connection, entry: &Suppression) -> rusqlite::Result<()> {
    sql.prepare_cached("DELETE FROM suppressions WHERE address = ?1 AND scope = ?2 AND until <= ?3")?
        .execute(params![entry.address, entry.scope.to_string(), millis(entry.since)])?;
    Ok(())
}

fn has_claim(sql: &Connection, entry: &Suppression) -> rusqlite::Result<bool> {
    sql.prepare_cached("SELECT EXISTS (SELECT 1 FROM suppressions WHERE address = ?1 AND scope = ?2)")?
        .query_row(params![entry.address, entry.scope.to_string()], |row| row.get(0))
}

/// The strength of what is claimed of an address in a scope at a time; 0: nothing.
pub(super) fn strength(sql: &Connection, address: &str, scope: &Scope, at: SystemTime) -> rusqlite::Result<u8> {
    let there = entries(sql, address, at)?;
    Ok(there.iter().filter(|entry| entry.scope == *scope).map(|entry| entry.reason.strength()).max().unwrap_or(0))
}

/// When an operator last took an address off the list of this scope, in milliseconds; below 0: never.
pub(super) fn lifted(sql: &Connection, address: &str, scope: &Scope) -> rusqlite::Result<i64> {
    let at: Option<i64> = sql
        .prepare_cached("SELECT max(at) FROM lifted WHERE address = ?1 AND scope IN (?2, '')")?
        .query_row(params![address, scope.to_string()], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(at.unwrap_or(-1))
}
