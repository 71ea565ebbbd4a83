//! Dropping what is too old or too much, a little at a time, so that nobody who writes waits long.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::sqlite::{millis, span};
use super::{Answer, Place, Store, writer};

/// Most rows of one step.
const STEP: i64 = 500;
/// For so long the providers send an event again (`providers/README`: at most some days); its id is known at least as long.
/// And an hour: a request is believed for that week, by a clock that may be some minutes ahead.
const KNOWN: Duration = Duration::from_hours(24 * 7 + 1);
/// Most of those ids in memory: some 15 MB.
const MOST_SEEN_IN_MEMORY: u64 = 100_000;
/// How long a client may take to try again.
const MARKS: Duration = Duration::from_hours(24);

/// One kind of row that goes: an SQL condition on the table with one value `?1`; the rows are dropped by `key`.
struct Rule {
    table: &'static str,
    key: &'static str,
    which: &'static str,
}

const EXPIRED: Rule = Rule { table: "suppressions", key: "address, scope, reason, source", which: "WHERE until <= ?1" };
const LIFTED: Rule = Rule { table: "lifted", key: "address, scope", which: "WHERE at < ?1" };
const SEEN: Rule = Rule { table: "seen", key: "account, event_id", which: "WHERE received < ?1" };
const OLD_MARKS: Rule = Rule { table: "marks", key: "key, recipient", which: "WHERE since < ?1" };
const OLD_MESSAGES: Rule = Rule { table: "messages", key: "number", which: "WHERE at < ?1" };

impl Store {
    /// Drops what is older than the settings keep; what is too much went when it was written. Returns how many rows. It also is the try that finds out
    /// whether the store can be written to again.
    ///
    /// # Errors
    /// The store cannot be read or written to; a part may be done.
    pub async fn prune(&self, now: SystemTime) -> Answer<usize> {
        if self.trouble().is_some() {
            self.reopen().await?;
            self.write(probe).await?;
        }
        self.unmark_owed();
        let now = millis(now);
        let settings = self.shared.settings.clone();
        let (messages, events) = (span(settings.keep_messages), span(settings.keep_events));
        let known = now - span(KNOWN);
        let mut gone = 0;
        let ages = [
            (EXPIRED, now),
            // An event may come so late, and is kept so long after that.
            (LIFTED, now - events.max(span(KNOWN)) - span(KNOWN)),
            (SEEN, known),
            (OLD_MARKS, now - span(MARKS)),
            (OLD_MESSAGES, now - messages),
        ];
        for (rule, before) in ages {
            gone += self.steps(i64::MAX, move |sql, most| rule.drop(sql, before, most)).await?;
        }
        let old = "WHERE received < ?1 ORDER BY received";
        let shared = Arc::clone(&self.shared);
        gone += self
            .steps(i64::MAX, move |sql, most| {
                let dropped = drop_events(sql, old, now - events, known, most)?;
                shared.writer.lose_forwards(dropped.unforwarded);
                Ok(dropped.events)
            })
            .await?;
        gone += self.drop_surplus(settings.max_messages).await?;
        self.tidy().await?;
        Ok(gone)
    }

    /// Lines that the settings kept once and do not keep now; and in memory the ids, which in a file are small change.
    async fn drop_surplus(&self, max_messages: u64) -> Answer<usize> {
        let gone = self.steps(i64::MAX, move |sql, _| drop_oldest_messages(sql, max_messages)).await?;
        if self.shared.settings.url != Place::Memory {
            return Ok(gone);
        }
        let surplus = self.read(|sql| surplus(sql, "seen", MOST_SEEN_IN_MEMORY)).await?;
        let oldest = Rule { table: "seen", key: "account, event_id", which: "WHERE ?1 = 0 ORDER BY received" };
        Ok(gone + self.steps(surplus, move |sql, most| oldest.drop(sql, 0, most)).await?)
    }

    /// Drops at most `most` rows, some at a time; others write in between.
    async fn steps(
        &self,
        mut most: i64,
        step: impl Fn(&Connection, i64) -> rusqlite::Result<usize> + Send + Sync + 'static,
    ) -> Answer<usize> {
        let step = Arc::new(step);
        let mut gone = 0;
        while most > 0 {
            let (work, some) = (Arc::clone(&step), most.min(STEP));
            let dropped = self.write(move |sql| work(sql, some)).await?;
            gone += dropped;
            most -= some;
            if i64::try_from(dropped).is_ok_and(|dropped| dropped < some) {
                break;
            }
        }
        Ok(gone)
    }

    /// Opens what could not be opened at the start.
    async fn reopen(&self) -> Answer<()> {
        let shared = Arc::clone(&self.shared);
        let opened = tokio::task::spawn_blocking(move || shared.writer.open().map_err(|unopened| unopened.error));
        opened.await.unwrap_or_else(|e| Err(super::StoreError(format!("the store stopped: {e}"))))
    }

    /// What is done when nobody waits to write: empties SQLite's log of writes, or it would keep the size it once had, and
    /// forgets who is on the list no more.
    async fn tidy(&self) -> Answer<()> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || match shared.writer.state().connection() {
            Some(connection) if shared.writer.is_idle() => {
                writer::checkpoint(connection);
                shared.writer.listed().sort_out(connection).map_err(|e| shared.writer.explain(&e))
            }
            _ => Ok(()),
        });
        done.await.unwrap_or_else(|e| Err(super::StoreError(format!("the store stopped: {e}"))))
    }
}

impl Rule {
    fn drop(&self, sql: &Connection, value: i64, most: i64) -> rusqlite::Result<usize> {
        let Self { table, key, which } = self;
        let delete = format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} {which} LIMIT ?2)");
        sql.prepare_cached(&delete)?.execute([value, most])
    }
}

/// Drops the oldest events beyond those that are kept, at most `most` of them: none whose effects are not done; and those
/// that the application has not got yet only when there are twice as many. `received`: when the newest came. Returns how
/// many the application never got.
pub(super) fn drop_oldest_events(
    sql: &Connection,
    kept: u64,
    received: SystemTime,
    most: usize,
) -> rusqlite::Result<u64> {
    let surplus = "WHERE number <= (SELECT max(number) FROM events) - ?1
                   AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.number = events.number)";
    let arrived = format!("{surplus} AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.number = events.number)");
    let (kept, most) = (i64::try_from(kept).unwrap_or(i64::MAX), i64::try_from(most).unwrap_or(i64::MAX));
    let known = millis(received) - span(KNOWN);
    drop_events(sql, &format!("{arrived} ORDER BY number"), kept, known, most)?;
    let dropped = drop_events(sql, &format!("{surplus} ORDER BY number"), kept.saturating_mul(2), known, most)?;
    Ok(dropped.unforwarded)
}

/// What was dropped of events.
#[derive(Default)]
struct Dropped {
    events: usize,
    /// Those of them that waited to be forwarded.
    unforwarded: u64,
}

/// Drops events, and remembers the ids of those that may come again (received after `known`).
fn drop_events(sql: &Connection, which: &str, value: i64, known: i64, most: i64) -> rusqlite::Result<Dropped> {
    let select = format!("SELECT number FROM events {which} LIMIT ?2");
    let numbers =
        sql.prepare_cached(&select)?.query_map([value, most], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let mut dropped = Dropped { events: numbers.len(), unforwarded: 0 };
    for number in &numbers {
        sql.prepare_cached(
            "INSERT OR IGNORE INTO seen SELECT account, event_id, received FROM events WHERE number = ?1 AND received >= ?2",
        )?
        .execute(params![number, known])?;
        let drop_from =
            |table: &str| sql.prepare_cached(&format!("DELETE FROM {table} WHERE number = ?1"))?.execute([number]);
        dropped.unforwarded += drop_from("outbox")? as u64;
        drop_from("waiting")?;
        drop_from("events")?;
    }
    Ok(dropped)
}

/// Drops the oldest lines of the message log beyond those that are kept, at most [`STEP`] of them.
pub(super) fn drop_oldest_messages(sql: &Connection, kept: u64) -> rusqlite::Result<usize> {
    let oldest = Rule {
        table: "messages",
        key: "number",
        which: "WHERE number <= (SELECT max(number) FROM messages) - ?1 ORDER BY number",
    };
    oldest.drop(sql, i64::try_from(kept).unwrap_or(i64::MAX), STEP)
}

/// How many rows there are too many.
fn surplus(sql: &Connection, table: &str, most: u64) -> rusqlite::Result<i64> {
    let rows: i64 = sql.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(rows.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)))
}

/// A write that leaves nothing.
fn probe(sql: &Connection) -> rusqlite::Result<()> {
    sql.execute("INSERT OR REPLACE INTO lifted (address, scope, at) VALUES ('', '', 0)", [])?;
    sql.execute("DELETE FROM lifted WHERE address = ''", params_from_iter(Vec::<Value>::new())).map(drop)
}
