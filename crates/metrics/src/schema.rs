//! Opening the database: who wrote it, in which format, and bringing it up to date. See `FORMAT.md`.

use std::path::Path;
use std::time::Duration;

use evoseal_types::ErrorClass;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::Error;

/// `EVMT`, so that the file says whose it is.
const APPLICATION_ID: i64 = 0x4556_4D54;
/// The newest format that this program writes and reads.
const FORMAT_VERSION: i64 = 2;
/// How long a writer waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the switch to WAL is tried again, for which SQLite does not always wait by itself.
const WAL_ATTEMPTS: u32 = 100;
const WAL_PAUSE: Duration = Duration::from_millis(20);

/// What brings format `i` to format `i + 1`, `i` being the place in this list.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    unit TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('increase', 'decrease'))
) STRICT;
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY,
    version_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    test_results TEXT NOT NULL,
    tags TEXT NOT NULL
) STRICT;
CREATE INDEX records_by_version ON records (version_id, sequence);
CREATE TABLE samples (
    sequence INTEGER NOT NULL REFERENCES records (sequence),
    position INTEGER NOT NULL,
    metric_id INTEGER NOT NULL REFERENCES metrics (id),
    samples BLOB NOT NULL,
    PRIMARY KEY (sequence, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX samples_by_metric ON samples (metric_id, sequence);
CREATE TABLE accepted (version_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
",
    // Tags can be asked for. The JSON stays: it is what is read back.
    "
CREATE TABLE record_tags (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    sequence INTEGER NOT NULL REFERENCES records (sequence),
    PRIMARY KEY (key, value, sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO record_tags
    SELECT tag.key, tag.value, records.sequence FROM records, json_each(records.tags) AS tag;
",
];

/// What goes wrong below, before the path is known.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Io(std::io::Error),
    Format(String),
    Damaged(String),
    Other(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    pub(crate) fn into_error(self, action: &'static str, path: &Path) -> Error {
        let path = path.to_owned();
        let supported = || format!("format {FORMAT_VERSION} of evoseal metrics");
        match self {
            Self::Other(error) => error,
            Self::Format(found) => Error::Format { path, found, supported: supported() },
            Self::Damaged(problem) => Error::Damaged { path, problem },
            Self::Io(error) => {
                let class = ErrorClass::of_io(&error);
                Error::Database { action, path, source: Box::new(error), class }
            }
            Self::Sql(error) => match class_of(&error) {
                Ok(class) if is_storage_full(&error) => {
                    let error = std::io::Error::new(std::io::ErrorKind::StorageFull, error);
                    Error::Database { action, path, source: Box::new(error), class }
                }
                Ok(class) => Error::Database { action, path, source: Box::new(error), class },
                Err(ErrorCode::NotADatabase) => {
                    Error::Format { path, found: "no SQLite database".to_owned(), supported: supported() }
                }
                Err(_) => Error::Damaged { path, problem: error.to_string() },
            },
        }
    }
}

/// Whether SQLite found no room, for the database or for the index of its log.
fn is_storage_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// What the caller can do; the code itself for the two that have errors of their own.
fn class_of(error: &rusqlite::Error) -> Result<ErrorClass, ErrorCode> {
    Ok(match error.sqlite_error_code() {
        Some(code @ (ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)) => return Err(code),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            ErrorClass::Transient
        }
        Some(
            ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => ErrorClass::Environment,
        Some(ErrorCode::TooBig) => ErrorClass::Invalid,
        _ => ErrorClass::Internal,
    })
}

/// Opens or creates the database.
pub(crate) fn open(path: &Path) -> Result<Connection, Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(Failure::Io)?;
    }
    // Not SQLITE_OPEN_URI: a path that looks like a URI is a path.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if format_of(&connection)? != FORMAT_VERSION {
        migrate(&mut connection)?;
    }
    switch_to_wal(&connection)?;
    Ok(connection)
}

/// The format version, 0 for an empty file. Refuses files of others and of the future.
fn format_of(connection: &Connection) -> Result<i64, Failure> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, 1..=FORMAT_VERSION) => Ok(version),
        (APPLICATION_ID, _) => Err(Failure::Format(format!("format {version}"))),
        _ => Err(Failure::Format(format!("application id {application:#x}"))),
    }
}

/// Brings the database to the newest format, all or nothing. The format is asked for again under the write lock, for
/// another process may have been faster.
fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = format_of(&transaction)?;
    for (from, sql) in (0_i64..).zip(MIGRATIONS) {
        if from >= found {
            transaction.execute_batch(sql)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn switch_to_wal(connection: &Connection) -> Result<(), Failure> {
    for attempt in 1.. {
        let answer =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match answer {
            Ok(_) => break,
            Err(error) if attempt < WAL_ATTEMPTS && class_of(&error) == Ok(ErrorClass::Transient) => {
                std::thread::sleep(WAL_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
