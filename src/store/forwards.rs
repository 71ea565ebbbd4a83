//! Events on their way to the application.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::sqlite::{count, millis, time};
use super::{Answer, Forward, Store, events};

/// Nothing is to be tried again later than that, in milliseconds: what seems to be was put there by a clock that has been
/// set back since.
const FURTHEST: i64 = 2 * 60 * 60 * 1000;

impl Store {
    /// The events that are due to be forwarded now: those that were tried least, the oldest of them first. So what the
    /// application does not want keeps nothing else from it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn forwards(&self, now: SystemTime, most: usize) -> Answer<Vec<Forward>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.read(move |sql| {
            let select = format!(
                "SELECT {}, tries FROM (
                     SELECT number AS place, tries FROM outbox WHERE next_at <= ?1 OR next_at > ?1 + ?3
                     ORDER BY tries, number LIMIT ?2
                 ) JOIN events ON events.number = place ORDER BY tries, place",
                events::COLUMNS
            );
            let mut statement = sql.prepare_cached(&select)?;
            let due = statement.query_map(params![millis(now), most, FURTHEST], |row| {
                let event = events::read(row)?;
                Ok(Forward { number: event.number, tries: count(row, "tries")?, event })
            })?;
            due.collect()
        })
        .await
    }

    /// When the next event is due to be forwarded; `None`: none waits.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn next_forward(&self) -> Answer<Option<SystemTime>> {
        self.read(|sql| {
            let next: Option<i64> = sql.query_row("SELECT min(next_at) FROM outbox", [], |row| row.get(0))?;
            Ok(next.map(time))
        })
        .await
    }

    /// How many events wait to be forwarded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn forwards_waiting(&self) -> Answer<u64> {
        self.read(|sql| {
            let waiting = |row: &rusqlite::Row<'_>| count(row, "waiting");
            sql.query_row("SELECT count(*) AS waiting FROM outbox", [], waiting)
        })
        .await
    }

    /// It arrived (`None`), or is to be tried again then.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub async fn forwarded(&self, number: u64, again: Option<SystemTime>) -> Answer<()> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.write(move |sql| {
            match again {
                None => sql.prepare_cached("DELETE FROM outbox WHERE number = ?1")?.execute([number])?,
                Some(again) => sql
                    .prepare_cached("UPDATE outbox SET tries = tries + 1, next_at = ?2 WHERE number = ?1")?
                    .execute(params![number, millis(again)])?,
            };
            Ok(())
        })
        .await
    }
}

/// Puts an event in line.
pub(super) fn wait(sql: &Connection, number: i64, at: SystemTime) -> rusqlite::Result<()> {
    sql.prepare_cached("INSERT INTO outbox (number, tries, next_at) VALUES (?1, 0, ?2)")?
        .execute(params![number, millis(at)])?;
    Ok(())
}
