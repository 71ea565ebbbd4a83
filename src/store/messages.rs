//! The message log: what was told to clients, joined with what is known since.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sqlite::{Conditions, count, millis, moment, page, page_size, word};
use super::upkeep::drop_oldest_messages;
use super::{Answer, MessageQuery, MessageRecord, Page, Store, writer};

const SELECT: &str = "SELECT number, id, at, client, principal, sender, recipient, account, provider_id, outcome, reply, \
                      bytes FROM messages";

impl Store {
    /// Puts lines into the message log, without waiting: mail does not wait for its log. What there is no room for is
    /// counted.
    pub fn log(&self, lines: Vec<MessageRecord>) {
        if self.shared.settings.max_messages > 0 {
            let (weight, most) = (lines.len(), self.shared.settings.max_messages);
            let (writer, lost) = (&self.shared.writer, Arc::clone(&self.shared));
            let work = move |sql: &Connection| {
                lines.iter().try_for_each(|line| insert(sql, line))?;
                // Upkeep comes once an hour, and what is in memory must not grow until then.
                drop_oldest_messages(sql, most).map(drop)
            };
            writer.post(weight, writer::MOST_LINES, work, move || lost.writer.lose(weight));
        }
    }

    /// The lines of the message log, the newest first, each with the last event about it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn messages(&self, query: MessageQuery) -> Answer<Page<MessageRecord>> {
        self.read(move |sql| {
            let limit = page_size(query.limit);
            let end = format!("ORDER BY at DESC, number DESC LIMIT {}", limit + 1);
            let (mut statement, values) = conditions(&query).prepare(sql, SELECT, &end)?;
            let lines = statement.query_map(values, |row| Ok((row.get::<_, i64>("number")?, read(row)?)))?;
            let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
            let part = page(lines, limit, |(number, line)| format!("{}-{number}", millis(line.at)));
            let mut items: Vec<MessageRecord> = part.items.into_iter().map(|(_, line)| line).collect();
            items.iter_mut().try_for_each(|line| join_event(sql, line))?;
            Ok(Page { items, next: part.next })
        })
        .await
    }
}

fn conditions(query: &MessageQuery) -> Conditions {
    let folded = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
    let mut conditions = Conditions::default();
    conditions
        .and("(id = ? OR provider_id = ?)", query.id.clone())
        .and("folded = ?", folded(&query.recipient))
        .and("folded_sender = ?", folded(&query.sender))
        .and("account = ?", query.account.clone())
        .and("outcome = ?", query.outcome.clone())
        .and("at >= ?", query.since.map(millis))
        .and("at < ?", query.until.map(millis));
    if let Some(after) = &query.after {
        // What is no cursor of ours is behind the end.
        let (at, number) = after.split_once('-').unwrap_or_default();
        let values = [at, number].map(|part| Value::from(part.parse().unwrap_or(0_i64)));
        conditions.and_all("(at, number) < (?, ?)", values.into());
    }
    conditions
}

fn insert(sql: &Connection, line: &MessageRecord) -> rusqlite::Result<()> {
    sql.prepare_cached(
        "INSERT INTO messages (id, at, client, principal, sender, recipient, account, provider_id, outcome, reply, bytes,
             folded, folded_sender)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT DO UPDATE SET at = excluded.at, client = excluded.client, sender = excluded.sender,
             folded_sender = excluded.folded_sender, account = excluded.account, provider_id = excluded.provider_id,
             outcome = excluded.outcome, reply = excluded.reply",
    )?
    .execute(params![
        line.id,
        millis(line.at),
        line.client,
        line.principal,
        line.sender,
        line.recipient,
        line.account,
        line.provider_id,
        line.outcome,
        line.reply,
        i64::try_from(line.bytes).unwrap_or(i64::MAX),
        line.recipient.to_lowercase(),
        line.sender.as_ref().map(|sender| sender.to_lowercase()),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<MessageRecord> {
    Ok(MessageRecord {
        id: row.get("id")?,
        at: moment(row, "at")?,
        client: row.get("client")?,
        principal: row.get("principal")?,
        sender: row.get("sender")?,
        recipient: row.get("recipient")?,
        account: row.get("account")?,
        provider_id: row.get("provider_id")?,
        outcome: row.get("outcome")?,
        reply: row.get("reply")?,
        bytes: count(row, "bytes")?,
        last_event: None,
    })
}

/// The last event about a line, by the time it happened at. Another account's provider may have given the same id. (`+`: a
/// message has few events, a recipient may have many.)
fn join_event(sql: &Connection, line: &mut MessageRecord) -> rusqlite::Result<()> {
    let Some(provider_id) = &line.provider_id else { return Ok(()) };
    line.last_event = sql
        .prepare_cached(
            "SELECT kind, at FROM events WHERE message_id = ?1 AND +account = ?2 AND +folded = ?3
             ORDER BY at DESC, number DESC LIMIT 1",
        )?
        .query_row(params![provider_id, line.account, line.recipient.to_lowercase()], |row| {
            Ok((word(row, "kind")?, moment(row, "at")?))
        })
        .optional()?;
    Ok(())
}
