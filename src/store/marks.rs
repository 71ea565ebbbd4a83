//! The ledger's marks, so that a restart forgets no recipient that was accepted already.

use std::time::SystemTime;

use rusqlite::{Row, params};

use super::sqlite::{millis, moment};
use super::{Answer, Mark, Store, writer};
use crate::address::{Address, Alphabet};

impl Store {
    /// Keeps marks; on the disk when this returns.
    ///
    /// # Errors
    /// The store cannot be written to; then none is kept.
    pub async fn mark(&self, marks: Vec<Mark>) -> Answer<()> {
        self.write(move |sql| {
            let mut insert = sql.prepare_cached(
                "INSERT OR REPLACE INTO marks (key, recipient, account, provider_id, marker, since)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for mark in &marks {
                let since = millis(mark.since);
                let Mark { key, recipient, account, provider_id, marker, .. } = mark;
                insert.execute(params![key, recipient.as_str(), account, provider_id, marker, since])?;
            }
            Ok(())
        })
        .await
    }

    /// Drops the marks of these recipients of a message, without waiting.
    pub fn unmark(&self, key: [u8; 32], recipients: Vec<Address>) {
        self.shared.writer.post(recipients.len(), writer::MOST_POSTED, move |sql| {
            let mut delete = sql.prepare_cached("DELETE FROM marks WHERE key = ?1 AND recipient = ?2")?;
            recipients.iter().try_for_each(|recipient| delete.execute(params![key, recipient.as_str()]).map(drop))
        });
    }

    /// All marks made since, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn marks(&self, since: SystemTime) -> Answer<Vec<Mark>> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT key, recipient, account, provider_id, marker, since FROM marks WHERE since >= ?1
                 ORDER BY since, key, recipient",
            )?;
            let marks = statement.query_map([millis(since)], read)?;
            Ok(marks.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
        .await
    }
}

/// A mark; `None`: its recipient is no address any more, by a later version's grammar.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Mark>> {
    let recipient: String = row.get("recipient")?;
    let Ok(recipient) = Address::parse_in(Alphabet::Utf8, &recipient) else { return Ok(None) };
    Ok(Some(Mark {
        key: row.get("key")?,
        recipient,
        account: row.get("account")?,
        provider_id: row.get("provider_id")?,
        marker: row.get("marker")?,
        since: moment(row, "since")?,
    }))
}
