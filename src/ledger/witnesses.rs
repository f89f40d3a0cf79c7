//! What the ledger knows beside levels: files of witnesses, and facts about trust.

use super::sums::{TRUST, WITNESSES};
use super::{Ledger, LedgerError, is_missing_table};
use crate::outcome::Level;
use crate::plan::TaskKey;
use crate::trust::Trust;
use rusqlite::OptionalExtension;
use std::collections::HashSet;

/// A file of witnesses, with the answer that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredWitnesses {
    pub task: TaskKey,
    /// Names the file in `witnesses/`.
    pub artifact: String,
    pub count: u32,
    pub bytes: u64,
    /// The grid that the answer's levels refer to.
    pub epsilons: Vec<f64>,
    /// Index of the shard's first test example.
    pub first: u32,
    pub levels: Vec<Level>,
}

impl Ledger {
    /// Every file of witnesses that any sweep has left, by task.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn witness_files(&self) -> Result<Vec<StoredWitnesses>, LedgerError> {
        type Row = ([u8; 32], String, u32, i64, String, u32, String);
        let query = || -> rusqlite::Result<Vec<Row>> {
            let sql = format!(
                "SELECT r.task, r.artifact, r.count, r.bytes, e.epsilons, e.first, e.levels
                 FROM witness_files r JOIN evaluate_answers e ON e.task = r.task WHERE {} ORDER BY r.task",
                self.is_sound(&WITNESSES)
            );
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
            })?;
            rows.collect()
        };
        let rows = match query() {
            Err(error) if is_missing_table(&error) => return Ok(Vec::new()), // of an earlier release
            rows => rows.map_err(|source| self.fails(source))?,
        };
        let read = |(task, artifact, count, bytes, epsilons, first, levels): Row| {
            let task = TaskKey(task);
            let corrupt = |error| self.corrupt(format!("the answer of task {}: {error}", task.short()));
            let epsilons = serde_json::from_str(&epsilons).map_err(corrupt)?;
            let levels = serde_json::from_str(&levels).map_err(corrupt)?;
            Ok(StoredWitnesses { task, artifact, count, bytes: bytes as u64, epsilons, first, levels })
        };
        rows.into_iter().map(read).collect()
    }

    /// The evaluation tasks that have an answer.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn answered_evaluations(&self) -> Result<HashSet<TaskKey>, LedgerError> {
        let query = || -> rusqlite::Result<HashSet<TaskKey>> {
            let mut statement = self.connection.prepare("SELECT task FROM evaluate_answers")?;
            statement.query_map([], |row| row.get(0).map(TaskKey))?.collect()
        };
        query().map_err(|source| self.fails(source))
    }

    /// What the evaluation `task` noticed; `None` for answers of earlier releases.
    ///
    /// # Errors
    /// When SQLite fails or the row cannot be understood.
    pub fn trust(&self, task: TaskKey) -> Result<Option<Trust>, LedgerError> {
        let query = || -> rusqlite::Result<Option<String>> {
            let sql = format!("SELECT facts FROM trust r WHERE task = ?1 AND {}", self.is_sound(&TRUST));
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_row([task.0], |row| row.get(0)).optional()
        };
        let facts = match query() {
            Err(error) if is_missing_table(&error) => return Ok(None),
            facts => facts.map_err(|source| self.fails(source))?,
        };
        let read = |facts: String| serde_json::from_str(&facts);
        facts.map(read).transpose().map_err(|error| self.corrupt(format!("trust of task {}: {error}", task.short())))
    }
}
