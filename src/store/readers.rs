//! Those who read: a few connections beside the writer's, each used by one at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::writer::Writer;
use super::{Answer, Place, Shared, Store, StoreError, sqlite};

/// Most that read at a time: each is a thread and some megabytes of pages.
const MOST: usize = 4;

/// The readers of one store. Of one in memory there is one connection, which the writer shares.
#[derive(Debug)]
pub struct Readers {
    path: Option<PathBuf>,
    writer: Arc<Writer>,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Readers of that place; a connection is made when it is needed.
    pub fn new(place: &Place, writer: &Arc<Writer>) -> Self {
        let path = match place {
            Place::Memory => None,
            Place::File(path) => Some(path.clone()),
        };
        let permits = Arc::new(Semaphore::new(MOST));
        Self { path, writer: Arc::clone(writer), idle: Mutex::default(), permits }
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Answer<T> {
        let explain = |e| self.writer.explain(&e);
        self.writer.ready()?;
        let Some(path) = &self.path else {
            let state = self.writer.state();
            return work(state.connection().ok_or_else(|| self.writer.closed())?).map_err(explain);
        };
        let idle = self.idle().pop();
        let connection = idle.map_or_else(|| sqlite::open_reader(path), Ok).map_err(explain)?;
        let done = work(&connection).map_err(explain);
        if !self.permits.is_closed() {
            self.idle().push(connection);
        }
        done
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads any more.
    pub fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }
}

impl Store {
    /// Reads on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.read_by(|shared| &shared.readers, work).await
    }

    /// The same for what must be quick.
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.read_by(|shared| &shared.lookups, work).await
    }

    async fn read_by<T: Send + 'static>(
        &self,
        readers: fn(&Shared) -> &Readers,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let shared = Arc::clone(&self.shared);
        let permit = Arc::clone(&readers(&shared).permits).acquire_owned().await;
        let permit = permit.map_err(|_| shared.writer.closed())?;
        let done = tokio::task::spawn_blocking(move || {
            let done = readers(&shared).read(work);
            drop(permit);
            done
        });
        done.await.unwrap_or_else(|e| Err(StoreError(format!("a read of the store stopped: {e}"))))
    }

    /// See [`Writer::write`].
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.shared.writer.write(work).await
    }
}
