//! The engine's records, to and from rows.

use super::{Ledger, LedgerError, TaskEvent};
use crate::engine::{Failure, Lease, Record};
use crate::plan::TaskKey;
use serde::{Deserialize, Serialize};

/// What a record holds beyond the common columns. JSON, so that a person can read it and a field
/// can be added; a row that does not parse stops the start with its number.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Detail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epochs: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fatal: bool,
}

impl Ledger {
    /// Appends one record to the open transaction.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn append(&mut self, record: &Record, at_ms: i64) -> Result<(), LedgerError> {
        self.begin()?;
        let (event, lease, worker, detail) = match record {
            Record::Leased { lease, worker } => ("leased", *lease, Some(worker), Detail::default()),
            Record::Released { lease, why } => {
                ("released", *lease, None, Detail { why: Some(why.clone()), ..Detail::default() })
            }
            Record::Committed { lease, worker, epochs } => {
                ("committed", *lease, Some(worker), Detail { epochs: epochs.clone(), ..Detail::default() })
            }
            Record::Failed { lease, worker, failure, message, fatal } => {
                let why = Some(message.clone());
                let detail = Detail { why, failure: Some(*failure), fatal: *fatal, ..Detail::default() };
                ("failed", *lease, Some(worker), detail)
            }
            Record::Revived { task } => ("revived", Lease { task: *task, attempt: 0 }, None, Detail::default()),
        };
        let detail = serde_json::to_string(&detail).expect("details hold text and numbers");
        self.execute(
            "INSERT INTO history (at_ms, event, task, attempt, worker, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (at_ms, event, lease.task.0, lease.attempt, worker.map(|w| &**w), (detail != "{}").then_some(detail)),
        )
    }

    /// All that has happened to a task, oldest first.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn history_of(&self, task: TaskKey) -> Result<Vec<TaskEvent>, LedgerError> {
        let fails = |source| self.fails(source);
        let sql = "SELECT seq, event, task, attempt, worker, detail, at_ms FROM history WHERE task = ?1 ORDER BY seq";
        let mut statement = self.connection.prepare_cached(sql).map_err(fails)?;
        let mut rows = statement.query([task.0]).map_err(fails)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(fails)? {
            let record = read_record(row).map_err(|what| self.corrupt(format!("history: {what}")))?;
            let log = match &record {
                Record::Failed { lease, .. } => self.attempt_log(task, lease.attempt)?,
                _ => String::new(),
            };
            events.push(TaskEvent { at_ms: row.get(6).map_err(fails)?, record, log });
        }
        Ok(events)
    }

    /// Hands every record, oldest first, to `replay`.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood; the error names its `seq`.
    pub fn replay(&self, mut replay: impl FnMut(Record)) -> Result<(), LedgerError> {
        let fails = |source| self.fails(source);
        let sql = "SELECT seq, event, task, attempt, worker, detail FROM history ORDER BY seq";
        let mut statement = self.connection.prepare(sql).map_err(fails)?;
        let mut rows = statement.query([]).map_err(fails)?;
        while let Some(row) = rows.next().map_err(fails)? {
            let record = read_record(row).map_err(|what| {
                let seq = row.get::<_, i64>(0).unwrap_or_default();
                self.corrupt(format!("history row {seq}: {what}"))
            })?;
            replay(record);
        }
        Ok(())
    }
}

fn read_record(row: &rusqlite::Row<'_>) -> Result<Record, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let event: String = row.get(1).map_err(text)?;
    let lease = Lease { task: TaskKey(row.get(2).map_err(text)?), attempt: row.get(3).map_err(text)? };
    let worker = || row.get::<_, String>(4).map(Into::into).map_err(text);
    let detail: Detail = match row.get::<_, Option<String>>(5).map_err(text)? {
        Some(json) => serde_json::from_str(&json).map_err(|error| error.to_string())?,
        None => Detail::default(),
    };
    Ok(match event.as_str() {
        "leased" => Record::Leased { lease, worker: worker()? },
        "released" => Record::Released { lease, why: detail.why.unwrap_or_default() },
        "committed" => Record::Committed { lease, worker: worker()?, epochs: detail.epochs },
        "failed" => Record::Failed {
            lease,
            worker: worker()?,
            failure: detail.failure.ok_or("a failure without its kind")?,
            message: detail.why.unwrap_or_default(),
            fatal: detail.fatal,
        },
        "revived" => Record::Revived { task: lease.task },
        other => return Err(format!("unknown event {other:?}")),
    })
}
