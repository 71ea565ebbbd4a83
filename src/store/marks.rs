//! The ledger's marks, so that a restart forgets no recipient that was accepted already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::sqlite::{millis, moment};
use super::{Answer, Mark, Store, writer};
use crate::address::{Address, Alphabet};

/// A mark: the message's digest, and the recipient.
type Key = ([u8; 32], Address);

/// Marks that are still to be dropped.
#[derive(Debug, Default)]
pub struct Owed(Mutex<Vec<Key>>);

impl Owed {
    fn take(&self) -> Vec<Key> {
        std::mem::take(&mut *self.all())
    }

    /// How many there is no room for.
    fn put(&self, keys: &[Key]) -> usize {
        let mut all = self.all();
        let room = writer::MOST_POSTED.saturating_sub(all.len());
        all.extend(keys.iter().take(room).cloned());
        keys.len().saturating_sub(room)
    }

    /// These are marked anew.
    fn forget(&self, keys: &[Key]) {
        self.all().retain(|key| !keys.contains(key));
    }

    fn all(&self) -> MutexGuard<'_, Vec<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Keeps marks; on the disk when this returns.
    ///
    /// # Errors
    /// The store cannot be written to; then none is kept.
    pub async fn mark(&self, marks: Vec<Mark>) -> Answer<()> {
        let keys: Vec<Key> = marks.iter().map(|mark| (mark.key, mark.recipient.clone())).collect();
        let kept = self
            .write(move |sql| {
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
            .await;
        // What was to be dropped before that is not to be dropped now.
        self.shared.owed.forget(&keys);
        kept
    }

    /// Drops the marks of these recipients of a message, without waiting. Should the write fail, it is tried again with the
    /// next one, and by upkeep: a mark that stayed would make a later mail of the same octets look like one that was sent.
    pub fn unmark(&self, key: [u8; 32], recipients: Vec<Address>) {
        let mut due = self.shared.owed.take();
        due.extend(recipients.into_iter().map(|recipient| (key, recipient)));
        self.unmark_all(due);
    }

    /// Drops those whose write has failed.
    pub(super) fn unmark_owed(&self) {
        let due = self.shared.owed.take();
        if !due.is_empty() {
            self.unmark_all(due);
        }
    }

    fn unmark_all(&self, due: Vec<Key>) {
        let (due, shared) = (Arc::new(due), Arc::clone(&self.shared));
        let left = Arc::clone(&due);
        let work = move |sql: &Connection| {
            let mut delete = sql.prepare_cached("DELETE FROM marks WHERE key = ?1 AND recipient = ?2")?;
            due.iter().try_for_each(|(key, recipient)| delete.execute(params![key, recipient.as_str()]).map(drop))
        };
        let weight = left.len();
        self.shared.writer.post(weight, writer::MOST_POSTED, work, move || {
            let lost = shared.owed.put(&left);
            shared.writer.lose(lost);
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
