//! SQLite: opening a file, its schema, and what its errors mean to an operator.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, Row, params_from_iter};

use super::{Answer, Page, Place, StoreError};

/// What is done to a file of each schema version to make it the next one's; `user_version` counts them.
const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), "CREATE INDEX outbox_order ON outbox (tries, number, next_at)"];
/// `application_id`: the file is sidepost's. The letters "side".
const APPLICATION: i32 = 0x7369_6465;
/// How long is waited for somebody else who writes: an operator's sqlite3, a backup.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Statements that a connection keeps ready.
const STATEMENTS: usize = 64;
/// Most items of a page.
const LARGEST_PAGE: usize = 1000;
/// The last millisecond of the year 9999: no later time has a date in four digits.
const LAST: i64 = 253_402_300_799_999;

/// The database, open for writing.
#[derive(Debug)]
pub struct Opened {
    /// The connection that writes.
    pub connection: Connection,
    /// Its files, each with its device and number.
    files: Vec<(PathBuf, Identity)>,
    /// The file itself, to look at its head. Never closed before the connection is: that would end SQLite's locks (POSIX).
    head: Option<File>,
    /// Held as long as the file is open: one sidepost a file.
    _lock: Option<File>,
}

/// Device and number of a file, if there is one.
type Identity = Option<(u64, u64)>;

/// Why a database is not open.
#[derive(Debug)]
pub struct Unopened {
    /// What the operator should know.
    pub error: StoreError,
    /// Whether it is the disk, or somebody's lock: that may be well again, and is no slip in the configuration.
    pub may_pass: bool,
    /// Whether it is no database at all.
    is_foreign: bool,
}

impl From<StoreError> for Unopened {
    fn from(error: StoreError) -> Self {
        Self { error, may_pass: false, is_foreign: false }
    }
}

impl Unopened {
    fn of(place: &Place, error: &rusqlite::Error) -> Self {
        use ErrorCode::{CannotOpen, DatabaseBusy, DatabaseCorrupt, DiskFull, ReadOnly, SystemIoFailure};
        let of_disk = [CannotOpen, DatabaseBusy, DatabaseCorrupt, DiskFull, ReadOnly, SystemIoFailure];
        let may_pass = error.sqlite_error_code().is_some_and(|code| of_disk.contains(&code));
        let is_foreign = error.sqlite_error_code() == Some(ErrorCode::NotADatabase);
        let foreign = || StoreError(format!("{} is no SQLite database; give state.url another path", place.name()));
        Self { error: if is_foreign { foreign() } else { explain(place, error) }, may_pass, is_foreign }
    }

    /// The same of a file that a sidepost has had open: what is no database now was one, and its head is damaged.
    fn of_a_store(self, place: &Place) -> Self {
        if !self.is_foreign {
            return self;
        }
        Self { error: damaged(place, "it is no database any more"), may_pass: true, is_foreign: true }
    }
}

impl Opened {
    /// Opens the place, with its schema up to date, for this process alone.
    pub fn at(place: &Place) -> Result<Self, Unopened> {
        let was_open = matches!(place, Place::File(path) if lock_path(path).exists());
        let lock = lock(place)?;
        let connection =
            open(place).map_err(|unopened| if was_open { unopened.of_a_store(place) } else { unopened })?;
        let head = match place {
            Place::File(path) => File::open(path).ok(),
            Place::Memory => None,
        };
        Ok(Self { connection, files: files(place), head, _lock: lock })
    }

    /// Whether the files that are open are still those at their paths: what is written to a deleted one is gone with the
    /// process. The log of writes (`-wal`) counts: a copy put in its place while it runs takes it away first.
    ///
    /// # Errors
    /// They are not, or the file was emptied or written over: SQLite itself would go on, in the log of writes alone.
    pub fn check(&self, place: &Place) -> Answer<()> {
        if self.head.as_ref().is_some_and(|file| has_head(file).is_ok_and(|has| !has)) {
            return Err(damaged(place, "it was emptied or written over while it was open"));
        }
        if self.files.iter().all(|(path, there)| identity(path) == *there) {
            return Ok(());
        }
        Err(StoreError(format!(
            "{}, or its -wal file, was deleted or replaced while it was open; save the list (sidepost suppressions export), then put it back, or restart sidepost",
            place.name()
        )))
    }
}

/// Takes the lock that says: this file is in use. A file of its own, since closing the database file anywhere in the
/// process would end SQLite's own locks on it (POSIX).
fn lock(place: &Place) -> Result<Option<File>, Unopened> {
    let Place::File(path) = place else { return Ok(None) };
    let locked = lock_path(path);
    let file = create(&locked).map_err(|e| {
        let is_folder = e.kind() == io::ErrorKind::NotFound;
        unopenable(if is_folder { path } else { &locked }, &e)
    })?;
    // Made by root for a relay that runs as somebody else, it would keep that one out.
    if let Ok(database) = std::fs::metadata(path) {
        let _ = fchown(&file, Some(database.uid()), Some(database.gid()));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let path = path.display();
            let words = format!("{path} is in use by another sidepost; stop that one, or give each its own state.url");
            Err(StoreError(words).into())
        }
        Err(TryLockError::Error(e)) => Err(unopenable(path, &e)),
    }
}

/// Whether somebody holds the lock; `None` if it is not there, or not ours to read.
pub fn is_locked(place: &Place) -> Option<bool> {
    let Place::File(path) = place else { return None };
    let file = File::open(lock_path(path)).ok()?;
    Some(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether a file begins as SQLite's do (sqlite.org/fileformat2, §1.3), which one that is open does since it was opened.
///
/// # Errors
/// It cannot be read.
fn has_head(file: &File) -> io::Result<bool> {
    let mut head = [0; 16];
    let read = file.read_at(&mut head, 0)?;
    Ok(head.get(..read) == Some(b"SQLite format 3\0"))
}

fn identity(path: &Path) -> Identity {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The database, and what SQLite has beside it.
fn files(place: &Place) -> Vec<(PathBuf, Identity)> {
    let Place::File(path) = place else { return Vec::new() };
    let all = [path.clone(), beside(path, "-wal"), beside(path, "-shm")];
    all.map(|path| (path.clone(), identity(&path))).into()
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// The name of a file beside the database itself: one database has one of each, by whatever link it is named.
fn beside(path: &Path, end: &str) -> PathBuf {
    let in_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let real = path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned());
    let mut name = real.into_os_string();
    name.push(end);
    name.into()
}

/// Opens a file for reading and writing; a new one is for its owner alone, since addresses are personal data. SQLite gives
/// the files beside it the same mode.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The connection that writes, with the schema up to date.
fn open(place: &Place) -> Result<Connection, Unopened> {
    let explain = |e: rusqlite::Error| Unopened::of(place, &e);
    let mut connection = match place {
        Place::Memory => Connection::open_in_memory().map_err(explain)?,
        Place::File(path) => {
            drop(create(path).map_err(|e| unopenable(path, &e))?);
            // That the file is there has to survive, too. Where folders cannot be synced, SQLite does without as well.
            let _ = path.parent().map(|folder| File::open(folder)?.sync_all());
            connect(path).map_err(explain)?
        }
    };
    set_up(&connection).map_err(explain)?;
    check_owner(place, &connection)?;
    if let Place::File(path) = place {
        keep_safe(path, &connection).map_err(explain)??;
    }
    migrate(place, &mut connection)?;
    Ok(connection)
}

/// A connection that reads beside the writer.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    set_up(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // One thread at a time uses a connection, and the path is a path, not a URI.
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Or a statement is compiled anew for each value of a `LIMIT ?`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // A container's root may be read-only and without /tmp.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// What was committed is on the disk: a 200 to a webhook means that.
fn keep_safe(path: &Path, connection: &Connection) -> rusqlite::Result<Answer<()>> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let words = format!("the file system of {} cannot carry the store; put it on a local disk", path.display());
        return Ok(Err(StoreError(words)));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    Ok(Ok(()))
}

/// A file with something in it has to be sidepost's, and not one of a later sidepost.
fn check_owner(place: &Place, connection: &Connection) -> Result<(), Unopened> {
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(|e| Unopened::of(place, &e));
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if tables > 0 && number("PRAGMA application_id")? != APPLICATION {
        let words = format!("{} is another program's database; give state.url another path", place.name());
        return Err(StoreError(words).into());
    }
    let version = number("PRAGMA user_version")?;
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) {
        return Err(StoreError(format!(
            "{} was written by a newer sidepost (schema {version}; this one knows {}); run that one, or another file",
            place.name(),
            MIGRATIONS.len()
        ))
        .into());
    }
    Ok(())
}

fn migrate(place: &Place, connection: &mut Connection) -> Result<(), Unopened> {
    let run = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let done: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
        for (number, step) in (1..).zip(MIGRATIONS).skip(done) {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", number)?;
        }
        transaction.commit()
    };
    run(connection).map_err(|e| Unopened::of(place, &e))
}

impl Place {
    /// What it is called in an error.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Memory => "the store in memory".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn unopenable(path: &Path, error: &io::Error) -> Unopened {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let folder = path.parent().unwrap_or(path).display();
    let advice = match error.kind() {
        io::ErrorKind::NotFound => format!("make the folder {folder}, owned by the user that sidepost runs as"),
        io::ErrorKind::PermissionDenied => {
            format!("let the user that sidepost runs as write to it and to the folder {folder}")
        }
        ReadOnlyFilesystem => "mount a volume that can be written to there".to_owned(),
        StorageFull | QuotaExceeded => format!("make room on the disk of {folder}"),
        io::ErrorKind::IsADirectory => "write the path of a file, not of a folder".to_owned(),
        _ => "correct state.url, or the file".to_owned(),
    };
    Unopened {
        error: StoreError(format!("{} cannot be opened: {error}; {advice}", path.display())),
        may_pass: matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull),
        is_foreign: false,
    }
}

/// What an operator should know of an error.
pub fn explain(place: &Place, error: &rusqlite::Error) -> StoreError {
    let name = place.name();
    StoreError(match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("no room to write {name}; make room on its disk"),
        Some(ErrorCode::SystemIoFailure) => format!("{name} cannot be read or written ({error}); look at its disk"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => format!(
            "{name} cannot be written to ({error}); let the user that sidepost runs as write to it and to its folder"
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{name} is locked by another program; end what else has it open")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return damaged(place, &error.to_string()),
        _ => format!("{name}: {error}"),
    })
}

/// Whether it says that the file is not what was written into it.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn damaged(place: &Place, why: &str) -> StoreError {
    let name = place.name();
    StoreError(format!(
        "{name} is damaged ({why}); stop sidepost, move it away with its -wal file, and restore a copy or begin anew"
    ))
}

/// Milliseconds since 1970. What is before, or absurdly late, is brought into the range: a provider's slip is no error.
pub fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

/// The same as a time.
pub fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// So long, in milliseconds.
pub fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

/// Reads a column that holds one of our own words; one of a later version's is `other`. One row must not hold up the rest.
pub fn word_or<T: std::str::FromStr>(row: &Row<'_>, column: &str, other: T) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    Ok(text.parse().unwrap_or(other))
}

/// Reads a column that holds one of our own words.
pub fn word<T: std::str::FromStr<Err = String>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|e: String| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, e.into()))
}

/// Reads a column that holds a time.
pub fn moment(row: &Row<'_>, column: &str) -> rusqlite::Result<SystemTime> {
    Ok(time(row.get(column)?))
}

/// Reads a column that counts something.
pub fn count<T: TryFrom<i64> + Default>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    Ok(T::try_from(row.get(column)?).unwrap_or_default())
}

/// A number of rows for SQL; in a query for a page there are at most [`LARGEST_PAGE`], and 0 means that.
pub fn page_size(limit: usize) -> usize {
    if limit == 0 { LARGEST_PAGE } else { limit.min(LARGEST_PAGE) }
}

/// The conditions of a WHERE, and their values.
#[derive(Debug, Default)]
pub struct Conditions {
    terms: Vec<&'static str>,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a term if there is a value for its question marks (each of which gets it).
    pub fn and(&mut self, term: &'static str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            let value = value.into();
            self.terms.push(term);
            self.values.extend(term.matches('?').map(|_| value.clone()));
        }
        self
    }

    /// Adds a term of several values.
    pub fn and_all(&mut self, term: &'static str, values: Vec<Value>) -> &mut Self {
        self.terms.push(term);
        self.values.extend(values);
        self
    }

    /// `start WHERE … end`, ready to run, and its values.
    pub fn prepare<'c>(
        self,
        sql: &'c Connection,
        start: &str,
        end: &str,
    ) -> rusqlite::Result<(CachedStatement<'c>, rusqlite::ParamsFromIter<Vec<Value>>)> {
        let terms = if self.terms.is_empty() { "TRUE".to_owned() } else { self.terms.join(" AND ") };
        Ok((sql.prepare_cached(&format!("{start} WHERE {terms} {end}"))?, params_from_iter(self.values)))
    }
}

/// One page of what a query finds: it reads one item more to know whether there is a next page.
pub fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}
