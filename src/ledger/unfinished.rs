//! Where training runs are that have not come to their end.

use super::{Ledger, LedgerError};
use crate::plan::TaskKey;
use rusqlite::OptionalExtension;

/// The state of an unfinished training run: a file among the artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub artifact: String,
    /// Steps it has taken.
    pub step: u64,
}

impl Ledger {
    /// The furthest state of a run that anybody has sent.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn unfinished(&self, task: TaskKey) -> Result<Option<Unfinished>, LedgerError> {
        let query = || -> rusqlite::Result<Option<Unfinished>> {
            let sql = "SELECT artifact, step FROM unfinished WHERE train = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let read = |row: &rusqlite::Row| {
                Ok(Unfinished { artifact: row.get(0)?, step: row.get::<_, i64>(1)?.max(0) as u64 })
            };
            statement.query_row([task.0], read).optional()
        };
        query().map_err(|source| self.fails(source))
    }

    /// Whether any run can go on from this artifact.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn names_unfinished(&self, artifact: &str) -> Result<bool, LedgerError> {
        let query = || -> rusqlite::Result<bool> {
            let sql = "SELECT EXISTS (SELECT 1 FROM unfinished WHERE artifact = ?1)";
            self.connection.prepare_cached(sql)?.query_row([artifact], |row| row.get(0))
        };
        query().map_err(|source| self.fails(source))
    }

    /// Puts a state in the place of any earlier one of the run.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_unfinished(&mut self, task: TaskKey, state: &Unfinished) -> Result<(), LedgerError> {
        self.begin()?;
        let sql = "INSERT OR REPLACE INTO unfinished (train, artifact, step) VALUES (?1, ?2, ?3)";
        self.execute(sql, (task.0, &state.artifact, i64::try_from(state.step).unwrap_or(i64::MAX)))
    }

    /// The run has ended.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn remove_unfinished(&mut self, task: TaskKey) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute("DELETE FROM unfinished WHERE train = ?1", [task.0])
    }
}
