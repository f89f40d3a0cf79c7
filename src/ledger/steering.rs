//! What people asked of a sweep besides its file: how urgent it is, and that it waits.

use super::{Ledger, LedgerError};
use crate::engine::{DEFAULT_PRIORITY, Record, SweepId};
use crate::plan::TaskKey;
use rusqlite::OptionalExtension;

/// Survives a restart; a new revision of a sweep starts unpaused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    pub priority: u32,
    /// Why it is paused, and by whom; `None` when it is not.
    pub paused: Option<String>,
}

impl Default for Steering {
    fn default() -> Self {
        Steering { priority: DEFAULT_PRIORITY, paused: None }
    }
}

/// One record about a task, with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// Unix time.
    pub at_ms: i64,
    pub record: Record,
    /// The last lines of the worker's log, where it sent them.
    pub log: String,
}

impl Ledger {
    /// # Errors
    /// When SQLite fails.
    pub fn steer(&mut self, sweep: SweepId, steering: &Steering) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute(
            "INSERT OR REPLACE INTO steering VALUES (?1, ?2, ?3)",
            (sweep, steering.priority, &steering.paused),
        )
    }

    /// # Errors
    /// When SQLite fails.
    pub fn steering(&self, sweep: SweepId) -> Result<Steering, LedgerError> {
        let query = || {
            self.connection
                .prepare_cached("SELECT priority, paused FROM steering WHERE sweep = ?1")?
                .query_row([sweep], |row| Ok(Steering { priority: row.get(0)?, paused: row.get(1)? }))
                .optional()
        };
        Ok(query().map_err(|source| self.fails(source))?.unwrap_or_default())
    }

    /// Every task that an attempt at has ever failed, in the order of its first failure.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn ever_failed(&self) -> Result<Vec<TaskKey>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<TaskKey>> {
            self.connection
                .prepare_cached("SELECT task FROM history WHERE event = 'failed' GROUP BY task ORDER BY min(seq)")?
                .query_map([], |row| row.get(0).map(TaskKey))?
                .collect()
        };
        query().map_err(|source| self.fails(source))
    }

    /// Keeps the end of a worker's log beside the failure that it explains.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_log(&mut self, task: TaskKey, attempt: u32, log: &str) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute("INSERT OR REPLACE INTO attempt_logs VALUES (?1, ?2, ?3)", (task.0, attempt, log))
    }

    /// The log that [`Ledger::store_log`] kept; empty when there is none.
    pub(super) fn attempt_log(&self, task: TaskKey, attempt: u32) -> Result<String, LedgerError> {
        let query = || {
            self.connection
                .prepare_cached("SELECT log FROM attempt_logs WHERE task = ?1 AND attempt = ?2")?
                .query_row((task.0, attempt), |row| row.get(0))
                .optional()
        };
        Ok(query().map_err(|source| self.fails(source))?.unwrap_or_default())
    }
}
