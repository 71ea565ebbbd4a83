//! What came by webhooks, each event once, as it came.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sqlite::{Conditions, count, millis, moment, page, page_size, word_or};
use super::upkeep::drop_oldest_events;
use super::{Answer, EventQuery, EventRecord, Page, Store, forwards};
use crate::address::{Address, Alphabet};
use crate::feedback::{EventKind, Feedback};

/// The columns of [`read`].
pub(super) const COLUMNS: &str = "events.number, account, event_id, received, kind, word, at, message_id, recipient, \
                                  reason, raw, NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.number = events.number) \
                                  AS processed";

impl Store {
    /// Keeps events; on the disk when this returns. For each: whether it is new (false: its id came before).
    /// `forward`: they also wait to be forwarded.
    ///
    /// # Errors
    /// The store cannot be written to; then none is kept.
    pub async fn take(
        &self,
        account: &str,
        events: Vec<Feedback>,
        received: SystemTime,
        forward: bool,
    ) -> Answer<Vec<bool>> {
        let (account, kept) = (account.to_owned(), self.shared.settings.max_events);
        let shared = Arc::clone(&self.shared);
        self.write(move |sql| {
            let mut new = Vec::with_capacity(events.len());
            for event in &events {
                let number = insert(sql, &account, event, received)?;
                if let Some(number) = number {
                    sql.prepare_cached("INSERT INTO waiting (number) VALUES (?1)")?.execute([number])?;
                    learn_domain(sql, number)?;
                    if forward {
                        forwards::wait(sql, number, received)?;
                    }
                }
                new.push(number.is_some());
            }
            // More than came, should the settings have been higher once; not so many that others wait.
            let unforwarded = drop_oldest_events(sql, kept, received, events.len() * 2 + 10)?;
            shared.writer.lose_forwards(unforwarded);
            Ok(new)
        })
        .await
    }

    /// Lets the events that the query means wait for [`Store::act`] again; all of them, whatever its `after` and `limit`.
    /// Returns how many they are.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub async fn replay(&self, query: EventQuery) -> Answer<usize> {
        self.write(move |sql| {
            let query = EventQuery { after: None, ..query };
            let (mut statement, values) = conditions(&query).prepare(sql, "SELECT count(*) FROM events", "")?;
            let found: i64 = statement.query_row(values, |row| row.get(0))?;
            let wait = "INSERT OR IGNORE INTO waiting SELECT number FROM events";
            let (mut statement, values) = conditions(&query).prepare(sql, wait, "")?;
            statement.execute(values)?;
            Ok(usize::try_from(found).unwrap_or_default())
        })
        .await
    }

    /// Puts what was read anew from the raw bodies of these events in the place of what was read before.
    ///
    /// # Errors
    /// The store cannot be written to; then nothing is changed.
    pub async fn revise(&self, events: Vec<(u64, Feedback)>) -> Answer<()> {
        self.write(move |sql| {
            for (number, event) in &events {
                let recipient = event.recipient.as_ref().map(Address::as_str);
                let number = i64::try_from(*number).unwrap_or_default();
                sql.prepare_cached(
                    "UPDATE events SET kind = ?2, word = ?3, at = ?4, message_id = ?5, recipient = ?6, folded = ?7, reason = ?8
                     WHERE number = ?1",
                )?
                .execute(params![
                    number,
                    event.kind.name(),
                    event.word,
                    millis(event.at),
                    event.message_id,
                    recipient,
                    recipient.map(str::to_lowercase),
                    event.reason,
                ])?;
                learn_domain(sql, number)?;
            }
            Ok(())
        })
        .await
    }

    /// The events, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn events(&self, query: EventQuery) -> Answer<Page<EventRecord>> {
        self.read(move |sql| {
            let limit = page_size(query.limit);
            let start = format!("SELECT {COLUMNS} FROM events");
            let end = format!("ORDER BY number DESC LIMIT {}", limit + 1);
            let (mut statement, values) = conditions(&query).prepare(sql, &start, &end)?;
            let found = statement.query_map(values, read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(page(found, limit, |event| event.number.to_string()))
        })
        .await
    }

    /// The event of this number, if it is kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn event(&self, number: u64) -> Answer<Option<EventRecord>> {
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE number = ?1"))?;
            statement.query_row([number], read).optional()
        })
        .await
    }
}

fn conditions(query: &EventQuery) -> Conditions {
    let mut conditions = Conditions::default();
    conditions
        // By its number, not by the index of ids.
        .and("+account = ?", query.account.clone())
        .and("kind = ?", query.kind.map(|kind| kind.name().to_owned()))
        .and("folded = ?", query.recipient.as_ref().map(|recipient| recipient.to_lowercase()))
        .and("message_id = ?", query.message_id.clone())
        .and("received >= ?", query.since.map(millis))
        .and("received < ?", query.until.map(millis))
        // What is no cursor of ours is behind the end.
        .and("number < ?", query.after.as_ref().map(|after| after.parse().unwrap_or(0_i64)));
    conditions
}

/// The number of a new event; `None`: its id came before. (It is looked for first: a row that is offered and not taken
/// uses up a number all the same, and how many events there are is told by their numbers.)
fn insert(sql: &Connection, account: &str, event: &Feedback, received: SystemTime) -> rusqlite::Result<Option<i64>> {
    let recipient = event.recipient.as_ref().map(Address::as_str);
    let inserted = sql
        .prepare_cached(
            "INSERT INTO events
                 (account, event_id, received, kind, word, at, message_id, recipient, folded, reason, raw)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
             WHERE NOT EXISTS (SELECT 1 FROM seen WHERE account = ?1 AND event_id = ?2)
                 AND NOT EXISTS (SELECT 1 FROM events WHERE account = ?1 AND event_id = ?2)",
        )?
        .execute(params![
            account,
            event.event_id,
            millis(received),
            event.kind.name(),
            event.word,
            millis(event.at),
            event.message_id,
            recipient,
            recipient.map(str::to_lowercase),
            event.reason,
            &event.raw[..],
        ])?;
    Ok((inserted > 0).then(|| sql.last_insert_rowid()))
}

/// Finds the domain of the sender of the mail that an event is about, where the message log has it, and keeps it with the
/// event: the log is shorter than the list.
pub(super) fn learn_domain(sql: &Connection, number: i64) -> rusqlite::Result<Option<String>> {
    let sender: Option<Option<String>> = sql
        .prepare_cached(
            "SELECT messages.sender FROM events JOIN messages ON provider_id = message_id
                 AND messages.account = events.account
             WHERE events.number = ?1 ORDER BY messages.number DESC LIMIT 1",
        )?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let sender = sender.flatten();
    let domain = sender.as_ref().and_then(|sender| sender.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
    if domain.is_some() {
        sql.prepare_cached("UPDATE events SET domain = ?2 WHERE number = ?1")?.execute(params![number, domain])?;
    }
    Ok(domain)
}

/// Reads the [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let recipient: Option<String> = row.get("recipient")?;
    Ok(EventRecord {
        number: count(row, "number")?,
        account: row.get("account")?,
        received: moment(row, "received")?,
        processed: row.get("processed")?,
        feedback: Feedback {
            event_id: row.get("event_id")?,
            kind: word_or(row, "kind", EventKind::Unknown)?,
            word: row.get("word")?,
            at: moment(row, "at")?,
            message_id: row.get("message_id")?,
            recipient: recipient.and_then(|text| Address::parse_in(Alphabet::Utf8, &text).ok()),
            reason: row.get("reason")?,
            raw: Bytes::from(row.get::<_, Vec<u8>>("raw")?),
        },
    })
}
