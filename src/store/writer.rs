//! The one who writes: what is asked for is gathered and committed together, and each asker is told once it is on the disk.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::listed::Listed;
use super::sqlite::{Opened, Unopened};
use super::{Answer, Counters, Place, StoreError, sqlite, suppressions};

/// Most calls of one transaction: bounds how long the first of them waits.
const BATCH: usize = 512;
/// Most calls that wait to be written, those whose askers have given up among them: on a disk that hangs they would grow.
const MOST_CALLS: usize = 10_000;
/// Most lines of the message log that wait to be written: some 20 MB.
pub const MOST_LINES: usize = 20_000;
/// Most of all that nobody waits for. Dropped marks may go on when lines may not: one that stays makes the next mail with the
/// same octets look like one that was sent already.
pub const MOST_POSTED: usize = 200_000;

/// Does the work if the transaction stands, and says what is to be done when it is committed, or why the work failed.
type Run = Box<dyn FnOnce(Answer<&Connection>) -> (Told, Option<StoreError>) + Send>;
/// Tells the asker.
type Told = Box<dyn FnOnce(&Answer<()>) + Send>;

/// One call.
struct Job {
    /// How much of [`MOST_POSTED`] it takes.
    posted: usize,
    run: Run,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    posted: usize,
    /// Somebody works it off.
    running: bool,
}

/// Whether there is something to write to.
pub enum State {
    /// Not yet: it could not be opened, and is tried again.
    Waiting,
    /// There is.
    Open(Opened),
    /// No more.
    Closed,
}

impl State {
    /// The connection, for work between transactions.
    pub fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Open(opened) => Some(&opened.connection),
            Self::Waiting | Self::Closed => None,
        }
    }
}

/// The writer of one store. Nothing runs while there is nothing to write.
pub struct Writer {
    place: Place,
    /// Whether the list has all addresses in lower case.
    folds: bool,
    state: Mutex<State>,
    is_open: AtomicBool,
    queue: Mutex<Queue>,
    trouble: Mutex<Option<StoreError>>,
    /// Where the file is damaged, as somebody has seen who read or wrote: that a write succeeds elsewhere does not mend it.
    damage: Mutex<Option<StoreError>>,
    listed: Arc<Listed>,
    commits: AtomicU64,
    writes: AtomicU64,
    lost: AtomicU64,
    forwards_lost: AtomicU64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({:?})", self.place)
    }
}

impl Writer {
    /// A writer to a place that is not open.
    pub fn new(place: Place, folds: bool) -> Self {
        Self {
            place,
            folds,
            state: Mutex::new(State::Waiting),
            is_open: AtomicBool::new(false),
            queue: Mutex::default(),
            trouble: Mutex::default(),
            damage: Mutex::default(),
            listed: Listed::new(),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            forwards_lost: AtomicU64::new(0),
        }
    }

    /// Opens the place, unless it is open or was closed. What is in the way is the trouble until it can be opened.
    pub fn open(&self) -> Result<(), Unopened> {
        let mut state = self.state();
        if !matches!(*state, State::Waiting) {
            return Ok(());
        }
        let opened = Opened::at(&self.place).inspect_err(|unopened| {
            *lock(&self.trouble) = Some(unopened.error.clone());
        })?;
        *lock(&self.damage) = None;
        self.prepare(&opened.connection).map_err(|e| self.explain(&e)).inspect_err(|error| {
            *lock(&self.trouble) = Some(error.clone());
        })?;
        *state = State::Open(opened);
        *lock(&self.trouble) = None;
        self.is_open.store(true, Ordering::Release);
        Ok(())
    }

    fn prepare(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.folds {
            suppressions::fold(connection)?;
        }
        self.listed.follow(connection)?;
        // Mail flows without the list, and upkeep tries again.
        let _ = self.listed.sort_out(connection).map_err(|e| self.explain(&e));
        Ok(())
    }

    /// That the place is open, or why not.
    pub fn ready(&self) -> Answer<()> {
        if self.is_open.load(Ordering::Acquire) { Ok(()) } else { Err(self.trouble().unwrap_or_else(|| self.closed())) }
    }

    /// Which addresses may be on the list.
    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// That the place is open, and sound as far as anybody has seen; or why not. Reading goes on where it can.
    fn sound(&self) -> Answer<()> {
        self.ready()?;
        lock(&self.damage).clone().map_or(Ok(()), Err)
    }

    /// Why the last write failed, if it did, or that the file is damaged.
    pub fn trouble(&self) -> Option<StoreError> {
        lock(&self.damage).clone().or_else(|| lock(&self.trouble).clone())
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            commits: read(&self.commits),
            writes: read(&self.writes),
            lost: read(&self.lost),
            forwards_lost: read(&self.forwards_lost),
        }
    }

    /// The words for an error. Every one goes through here, so that none that tells of damage is forgotten.
    pub fn explain(&self, error: &rusqlite::Error) -> StoreError {
        let explained = sqlite::explain(&self.place, error);
        if sqlite::is_damage(error) {
            *lock(&self.damage) = Some(explained.clone());
        }
        explained
    }

    /// Writes, and waits until it is on the disk. Work that fails leaves nothing, and takes nothing from others. Once
    /// called and polled it is done even if nobody waits any more.
    pub async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        if lock(&self.queue).jobs.len() >= MOST_CALLS {
            return Err(StoreError(format!("{} does not keep up; is its disk slow?", self.place.name())));
        }
        let (tell, told) = oneshot::channel();
        // The asker may be gone.
        self.push(0, self.job(work, move |answer| drop(tell.send(answer))));
        told.await.unwrap_or_else(|_| Err(StoreError(format!("{}: a write was given up", self.place.name()))))
    }

    /// Writes without waiting. `weight`: how much it is; `most`: how much there may be then of all that does not wait.
    /// `failed` is told if there is no room for it, or it fails.
    pub fn post(
        self: &Arc<Self>,
        weight: usize,
        most: usize,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
        failed: impl FnOnce() + Send + 'static,
    ) {
        let has_room = lock(&self.queue).posted.saturating_add(weight) <= most;
        if has_room {
            let told = move |answer: Answer<()>| {
                if answer.is_err() {
                    failed();
                }
            };
            self.push(weight, self.job(work, told));
        } else {
            failed();
        }
    }

    /// So much of what nobody waited for was not written.
    pub fn lose(&self, weight: usize) {
        self.lost.fetch_add(weight as u64, Ordering::Relaxed);
    }

    /// So many events were dropped that the application had not got.
    pub fn lose_forwards(&self, events: u64) {
        self.forwards_lost.fetch_add(events, Ordering::Relaxed);
    }

    fn job<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        tell: impl FnOnce(Answer<T>) + Send + 'static,
    ) -> Run {
        let writer = Arc::clone(self);
        Box::new(move |sql| {
            let done = sql.and_then(|sql| apart(sql, work).map_err(|e| writer.explain(&e)));
            let failed = done.as_ref().err().cloned();
            (Box::new(move |committed: &Answer<()>| tell(committed.clone().and(done))), failed)
        })
    }

    /// Queues a job, and sees to it that somebody works the queue off. Not a thread of its own: a runtime whose clock is
    /// paused knows that blocking tasks run, and lets no time pass meanwhile.
    fn push(self: &Arc<Self>, posted: usize, run: Run) {
        let mut queue = lock(&self.queue);
        queue.jobs.push_back(Job { posted, run });
        queue.posted += posted;
        if std::mem::replace(&mut queue.running, true) {
            return;
        }
        drop(queue);
        let turn = Turn { writer: Arc::clone(self) };
        // Without a runtime (a drop at the very end) there is nobody to be held up.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(turn))),
            Err(_) => drop(turn),
        }
    }

    /// Works the queue off.
    fn drain(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let most = queue.jobs.len().min(BATCH);
            let batch: Vec<Job> = queue.jobs.drain(..most).collect();
            queue.posted -= batch.iter().map(|job| job.posted).sum::<usize>();
            queue.running = !batch.is_empty();
            drop(queue);
            if batch.is_empty() {
                return;
            }
            self.commit(batch);
        }
    }

    fn commit(&self, batch: Vec<Job>) {
        let size = batch.len() as u64;
        let state = self.state();
        let (told, committed) = match (&*state, self.sound()) {
            (State::Open(opened), Ok(())) => self.transact(opened, batch),
            (_, ready) => {
                let error = ready.err().unwrap_or_else(|| self.closed());
                (refuse(batch, &error), Err(error))
            }
        };
        drop(state);
        if committed.is_ok() {
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.writes.fetch_add(size, Ordering::Relaxed);
        }
        for tell in told {
            tell(&committed);
        }
    }

    /// One transaction. After some errors (no room, I/O) SQLite has rolled all of it back; then it failed for everybody.
    fn transact(&self, opened: &Opened, batch: Vec<Job>) -> (Vec<Told>, Answer<()>) {
        let sql = &opened.connection;
        let before = sql.total_changes();
        let mut told = Vec::with_capacity(batch.len());
        let mut trouble = None;
        let mut stands = opened.check(&self.place).and_then(|()| begin(sql).map_err(|e| self.explain(&e)));
        for job in batch {
            let (tell, failed) = (job.run)(stands.clone().map(|()| sql));
            told.push(tell);
            if let (Ok(()), Some(failed)) = (&stands, failed) {
                if sql.is_autocommit() {
                    stands = Err(failed.clone());
                }
                trouble = Some(failed);
            }
        }
        let committed = stands.and_then(|()| sql.execute_batch("COMMIT").map_err(|e| self.explain(&e)));
        // A rollback that fails leaves a transaction, which the next begin ends.
        if committed.is_err() && !sql.is_autocommit() {
            let _ = sql.execute_batch("ROLLBACK");
        }
        if let Err(e) = &committed {
            trouble = Some(e.clone());
        }
        self.learn(trouble, sql.total_changes() != before);
        (told, committed)
    }

    /// What the transaction told about the store. One that changed nothing does not prove that it can be written to.
    fn learn(&self, trouble: Option<StoreError>, changed: bool) {
        if trouble.is_some() || changed {
            *lock(&self.trouble) = trouble;
        }
    }

    /// For work between transactions.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What calls are told once it is closed.
    pub fn closed(&self) -> StoreError {
        StoreError(format!("{} is closed", self.place.name()))
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        lock(&self.queue).jobs.is_empty()
    }

    /// Closes the file, with all that was committed in the file itself.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        let state = std::mem::replace(&mut *self.state(), State::Closed);
        if let Some(connection) = state.connection() {
            checkpoint(connection);
        }
    }
}

/// Moves what was committed from the log of writes to the file, and empties that log. If a reader is in the way it is done
/// later: those who write must not wait for it.
pub fn checkpoint(sql: &Connection) {
    let _ = sql.busy_timeout(Duration::ZERO);
    let _ = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    let _ = sql.busy_timeout(sqlite::PATIENCE);
}

/// The duty to work the queue off; done wherever it is dropped, be it that the runtime ends before the task has begun.
struct Turn {
    writer: Arc<Writer>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let drain = || self.writer.drain();
        // A bug in a job: those in its transaction learn that it was given up, and the others get theirs.
        while std::panic::catch_unwind(std::panic::AssertUnwindSafe(drain)).is_err() {}
    }
}

fn refuse(batch: Vec<Job>, error: &StoreError) -> Vec<Told> {
    batch.into_iter().map(|job| (job.run)(Err(error.clone())).0).collect()
}

fn begin(sql: &Connection) -> rusqlite::Result<()> {
    if !sql.is_autocommit() {
        sql.execute_batch("ROLLBACK")?;
    }
    sql.execute_batch("BEGIN IMMEDIATE")
}

/// Work whose failure undoes itself alone.
fn apart<T>(sql: &Connection, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let say = |words: &str| sql.prepare_cached(words)?.execute([]);
    say("SAVEPOINT job")?;
    let done = work(sql);
    if sql.is_autocommit() {
        return done;
    }
    if done.is_err() {
        say("ROLLBACK TO job")?;
    }
    say("RELEASE job")?;
    done
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
