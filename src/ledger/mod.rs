//! What has happened: one SQLite file that survives everything, and that people can query.
//!
//! One process writes (held by a lock file); it groups whatever arrived together into one
//! transaction, and no answer leaves the coordinator before that is on disk. On start the history
//! is replayed through the engine's own transition, so a killed run goes on where it was.
//! Reports read the same file, also while a sweep runs. The schema is src/ledger/schema.sql, additions.sql and v2.sql to v4.sql.
//!
//! Every record and every answer carries a checksum. A damaged row is dropped with a line in the log and in the
//! table `damage`, and what it said is computed again; a damaged page ends the start, with a remedy.

mod care;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod measures;
mod read;
mod schema;
mod steering;
mod store;
mod sums;
mod unfinished;
mod witnesses;

pub use care::{Compacted, Salvaged};
pub use read::{FailedTask, SweepResults};
pub use steering::{Steering, TaskEvent};
pub use store::{CheckpointAnswer, Cost, EvaluateAnswer, NewSweep, StoredSweep, WitnessAnswer, WorkerInfo};
pub use sums::Damaged;
pub use unfinished::Unfinished;
pub use witnesses::StoredWitnesses;

use crate::engine::SweepId;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The schema this program reads and writes.
pub const SCHEMA_VERSION: u32 = 4;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LedgerError {
    #[error("cannot write to the state directory {dir}", dir = .dir.display())]
    #[diagnostic(help(
        "check its permissions and that the disk is neither full nor mounted read-only, or choose another with --out or --state; what was computed stays"
    ))]
    Unwritable { dir: PathBuf, source: std::io::Error },
    #[error("another epsweep is at work on {dir}", dir = .dir.display())]
    #[diagnostic(help("wait for it, stop it, or give this run a directory of its own"))]
    Locked { dir: PathBuf },
    #[error("there is no ledger in {dir}", dir = .dir.display())]
    #[diagnostic(help("name the directory that `epsweep run --out` or `epsweep serve --state` was given"))]
    Missing { dir: PathBuf },
    #[error("{path} has schema version {found}, this epsweep reads versions up to {SCHEMA_VERSION}", path = .path.display())]
    #[diagnostic(help("use the epsweep that wrote it, or a newer one; nothing in it was changed"))]
    Version { path: PathBuf, found: String },
    #[error("the disk that holds {path} is full", path = .path.display())]
    #[diagnostic(help("nothing that was computed is lost: free some space and start the same command again"))]
    Full { path: PathBuf, source: rusqlite::Error },
    #[error("cannot write to the ledger {path}", path = .path.display())]
    #[diagnostic(help(
        "nothing that was computed is lost: see to the disk (full? over quota? a file size limit?) and start the same command again"
    ))]
    Write { path: PathBuf, source: rusqlite::Error },
    #[error("the ledger {path} gave a transaction up after one of its statements had failed", path = .path.display())]
    #[diagnostic(help("nothing that was computed is lost: the statement's own error stands before this one"))]
    Undone { path: PathBuf },
    #[error("the ledger {path} failed", path = .path.display())]
    #[diagnostic(help(
        "if the disk is sound, keep the file and report this; `sqlite3 FILE 'PRAGMA integrity_check'` says more"
    ))]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the ledger {path} holds something unreadable: {what}", path = .path.display())]
    #[diagnostic(help("keep the file and report this"))]
    Corrupt { path: PathBuf, what: String },
    #[error("the ledger {path} is damaged", path = .path.display())]
    #[diagnostic(help(
        "its pages cannot be read: put a backup in its place (`epsweep backup` makes them), or let `epsweep salvage {dir} TO` copy what is readable to a new directory; nothing was changed",
        dir = .path.parent().unwrap_or(Path::new(".")).display()
    ))]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("the ledger in {dir} holds no sweep{named}", dir = .dir.display())]
    #[diagnostic(help("{known}"))]
    NoSweep { dir: PathBuf, named: String, known: String },
}

/// An open ledger. Only the one that holds the lock may write.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    dir: PathBuf,
    in_transaction: bool,
    /// Of the file: readers take older ones as they are.
    version: u32,
    /// The next record's, once it was looked up; only the writer counts.
    next_seq: Option<i64>,
    /// Released by the operating system when the process ends, however it ends.
    _lock: Option<File>,
}

/// The ledger's file in a state directory.
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join("ledger.sqlite")
}

impl Ledger {
    /// Opens the ledger of `dir` for writing, and makes both when they do not exist.
    ///
    /// # Errors
    /// When the directory cannot be written, another process writes there, or the file was made
    /// by a newer epsweep.
    pub fn open(dir: &Path) -> Result<Ledger, LedgerError> {
        let unwritable = |source| LedgerError::Unwritable { dir: dir.into(), source };
        std::fs::create_dir_all(dir).map_err(unwritable)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join("lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(LedgerError::Locked { dir: dir.into() }),
            Err(std::fs::TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let path = path_in(dir);
        let fails = |source| classify(&path, source);
        let connection = Connection::open(&path).map_err(fails)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 16000;",
            )
            .map_err(fails)?;
        schema::prepare(&connection).map_err(fails)?;
        let (in_transaction, version, next_seq) = (false, SCHEMA_VERSION, None);
        let mut ledger = Ledger { connection, dir: dir.into(), in_transaction, version, next_seq, _lock: Some(lock) };
        ledger.bring_up_to_date()?;
        Ok(ledger)
    }

    /// Opens the ledger of `dir` for reading, also while somebody writes.
    ///
    /// # Errors
    /// When there is none, or it has another schema version.
    pub fn read(dir: &Path) -> Result<Ledger, LedgerError> {
        let path = path_in(dir);
        if !path.exists() {
            return Err(LedgerError::Missing { dir: dir.into() });
        }
        // Opened for writing because a reader may have to recover the journal of a killed writer.
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .map_err(|source| classify(&path, source))?;
        schema::prepare(&connection).map_err(|source| classify(&path, source))?;
        let version = schema::version(&connection, &path)?;
        Ok(Ledger { connection, dir: dir.into(), in_transaction: false, version, next_seq: None, _lock: None })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether rows carry checksums; those of a ledger of schema version 1, opened for reading, do not.
    fn has_sums(&self) -> bool {
        self.version >= 2
    }

    /// Opens a transaction unless one is open; whatever is written next belongs to it.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn begin(&mut self) -> Result<(), LedgerError> {
        if self.in_transaction && self.connection.is_autocommit() {
            // SQLite gave the transaction up when a statement failed: what follows must not be stored without it.
            return Err(LedgerError::Undone { path: path_in(&self.dir) });
        }
        if !self.in_transaction {
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|source| self.fails(source))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Makes everything since `begin` durable. Without a transaction it does nothing.
    ///
    /// # Errors
    /// When the disk is full or fails; nothing of the transaction then counts.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        if self.in_transaction {
            self.connection.execute_batch("COMMIT").map_err(|source| self.fails(source))?;
            self.in_transaction = false;
        }
        Ok(())
    }

    /// Drops everything since `begin`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn roll_back(&mut self) -> Result<(), LedgerError> {
        (self.in_transaction, self.next_seq) = (false, None);
        match self.connection.is_autocommit() {
            true => Ok(()),
            false => self.connection.execute_batch("ROLLBACK").map_err(|source| self.fails(source)),
        }
    }

    /// Whether a transaction is open.
    pub fn is_writing(&self) -> bool {
        self.in_transaction
    }

    /// Writes a little more than nothing, and commits it with whatever is open: has the disk space for it?
    ///
    /// # Errors
    /// When it has not, or SQLite fails; nothing of the transaction then counts.
    pub fn try_to_write(&mut self) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute("INSERT OR REPLACE INTO meta VALUES ('room', zeroblob(65536))", ())?;
        self.commit()?;
        self.begin()?;
        self.execute("DELETE FROM meta WHERE key = 'room'", ())?;
        self.commit()
    }

    /// A disk that is full at so many pages, or has room again.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: Option<u32>) {
        let pages = pages.unwrap_or(u32::MAX - 2);
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("a limit");
    }

    /// Folds the write-ahead log into the main file, so that copying that one file copies everything.
    ///
    /// # Errors
    /// When the disk is full or fails; nothing is lost by that.
    pub fn fold(&mut self) -> Result<(), LedgerError> {
        self.commit()?;
        let fold = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        fold.map_err(|source| self.fails(source))
    }

    fn fails(&self, source: rusqlite::Error) -> LedgerError {
        classify(&path_in(&self.dir), source)
    }

    fn corrupt(&self, what: impl Into<String>) -> LedgerError {
        LedgerError::Corrupt { path: path_in(&self.dir), what: what.into() }
    }

    /// Writes down how a sweep ended.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn end_sweep(&mut self, sweep: SweepId, state: &str, at_ms: i64) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute("UPDATE sweeps SET state = ?2, ended_ms = ?3 WHERE id = ?1", (sweep, state, at_ms))
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), LedgerError> {
        let run = || self.connection.prepare_cached(sql)?.execute(parameters);
        run().map(|_| ()).map_err(|source| self.fails(source))
    }
}

fn is_missing_table(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such table")
}

/// Full disks and read-only folders deserve better than a code.
fn classify(path: &Path, source: rusqlite::Error) -> LedgerError {
    use rusqlite::ErrorCode;
    let dir = || path.parent().unwrap_or(Path::new(".")).to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            LedgerError::Damaged { path: path.into(), source }
        }
        Some(ErrorCode::DiskFull) => LedgerError::Full { path: path.into(), source },
        Some(ErrorCode::SystemIoFailure) => LedgerError::Write { path: path.into(), source },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            LedgerError::Unwritable { dir: dir(), source: std::io::Error::other(source) }
        }
        _ => LedgerError::Sqlite { path: path.into(), source },
    }
}

#[cfg(test)]
mod tests;
