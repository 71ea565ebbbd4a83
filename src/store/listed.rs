//! Which addresses may be on the list: kept in memory, so that mail to all the others waits for no disk and no thread.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// An address is added as soon as it is written, committed or not, by whichever statement: no caller can forget it.
const TRIGGER: &str =
    "CREATE TEMP TRIGGER listed AFTER INSERT ON suppressions BEGIN SELECT remember_listed(new.address); END";
/// How many may be here that are on the list no more before they are sorted out, beside as many as are on it.
const STALE: usize = 10_000;

/// Digests of all addresses on the list, and of some that were. One that is not here is not on the list.
pub struct Listed {
    /// Under a key of this process: nobody can make up addresses with the digests of others.
    digest: RandomState,
    digests: RwLock<Digests>,
}

#[derive(Default)]
struct Digests {
    /// Half a digest costs half the memory (10 MB for a million), and one address in 4,000 a look at the disk. `None`: the
    /// list could not be read, as a whole; each look at it tells why.
    all: Option<HashSet<u32>>,
    /// How many there were when they were last read from the list.
    read: usize,
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listed")
    }
}

impl Listed {
    /// Of a list that nobody has read: each address may be on it.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { digest: RandomState::new(), digests: RwLock::default() })
    }

    /// What this connection adds to the list is added here. Those that are on it come with the first [`Listed::sort_out`].
    ///
    /// # Errors
    /// The connection takes no function or trigger.
    pub fn follow(self: &Arc<Self>, writer: &Connection) -> rusqlite::Result<()> {
        let follower = Arc::clone(self);
        writer.create_scalar_function("remember_listed", 1, FunctionFlags::SQLITE_UTF8, move |call| {
            follower.add(call.get_raw(0).as_str()?);
            Ok(true)
        })?;
        writer.execute_batch(TRIGGER)
    }

    /// Whether an address (its key) may be on the list; false: it is not. Never waits: while others are added, each may be.
    pub fn may_hold(&self, address: &str) -> bool {
        let digests = match self.digests.try_read() {
            Ok(digests) => digests,
            Err(TryLockError::Poisoned(digests)) => digests.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        digests.all.as_ref().is_none_or(|all| all.contains(&self.digest(address)))
    }

    /// Takes those on the list; later, sorts out those that are on it no more, when they may be many. Nobody may write
    /// meanwhile.
    ///
    /// # Errors
    /// The list cannot be read; nothing is sorted out.
    pub fn sort_out(&self, writer: &Connection) -> rusqlite::Result<()> {
        let digests = self.write();
        let most = digests.read.saturating_mul(2).saturating_add(STALE);
        let is_fine = digests.all.as_ref().is_some_and(|all| all.len() <= most);
        drop(digests);
        if is_fine { Ok(()) } else { self.read(writer) }
    }

    fn read(&self, sql: &Connection) -> rusqlite::Result<()> {
        let mut statement = sql.prepare("SELECT address FROM suppressions")?;
        let digests = statement.query_map([], |row| Ok(self.digest(row.get_ref(0)?.as_str()?)))?;
        let all = digests.collect::<rusqlite::Result<HashSet<u32>>>()?;
        *self.write() = Digests { read: all.len(), all: Some(all) };
        Ok(())
    }

    fn add(&self, address: &str) {
        let digest = self.digest(address);
        if let Some(all) = &mut self.write().all {
            all.insert(digest);
        }
    }

    fn digest(&self, address: &str) -> u32 {
        (self.digest.hash_one(address) >> 32) as u32
    }

    fn write(&self) -> RwLockWriteGuard<'_, Digests> {
        self.digests.write().unwrap_or_else(PoisonError::into_inner)
    }
}
