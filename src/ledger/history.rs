//! The engine's records, to and from rows.

use super::sums::{HISTORY, row_sum};
use super::{Damaged, Ledger, LedgerError, TaskEvent};
use crate::engine::{Failure, Lease, Record};
use crate::plan::TaskKey;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

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
            Record::Withdrawn { task, epochs } => {
                let detail = Detail { epochs: epochs.clone(), ..Detail::default() };
                ("withdrawn", Lease { task: *task, attempt: 0 }, None, detail)
            }
        };
        let detail = serde_json::to_string(&detail).expect("details hold text and numbers");
        let detail = (detail != "{}").then_some(detail);
        let seq = self.next_seq()?;
        let row = [
            ValueRef::Integer(seq),
            ValueRef::Integer(at_ms),
            text(Some(event)),
            ValueRef::Blob(&lease.task.0),
            ValueRef::Integer(lease.attempt.into()),
            text(worker.map(|worker| &**worker)),
            text(detail.as_deref()),
            ValueRef::Null,
        ];
        let sum = row_sum(HISTORY.table, row);
        self.execute(
            "INSERT INTO history (seq, at_ms, event, task, attempt, worker, detail, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (seq, at_ms, event, lease.task.0, lease.attempt, worker.map(|worker| &**worker), &detail, sum),
        )?;
        self.next_seq = Some(seq + 1);
        Ok(())
    }

    /// All that has happened to some tasks, oldest first. Reads the whole history once.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn histories(&self, tasks: &[TaskKey]) -> Result<HashMap<TaskKey, Vec<TaskEvent>>, LedgerError> {
        let mut found: HashMap<TaskKey, Vec<TaskEvent>> = tasks.iter().map(|&task| (task, Vec::new())).collect();
        let fails = |source| self.fails(source);
        let sql = "SELECT seq, at_ms, event, task, attempt, worker, detail FROM history ORDER BY seq";
        let mut statement = self.connection.prepare_cached(sql).map_err(fails)?;
        let mut rows = statement.query([]).map_err(fails)?;
        while let Some(row) = rows.next().map_err(fails)? {
            let task: Result<[u8; 32], _> = row.get(3);
            let Some(events) = task.ok().and_then(|task| found.get_mut(&TaskKey(task))) else { continue };
            let record = read_record(row).map_err(|what| self.corrupt(format!("history: {what}")))?;
            let log = match &record {
                Record::Failed { lease, .. } => self.attempt_log(lease.task, lease.attempt)?,
                _ => String::new(),
            };
            events.push(TaskEvent { at_ms: row.get(1).map_err(fails)?, record, log });
        }
        Ok(found)
    }

    /// A record's number is part of its sum, so it is chosen here and not by SQLite.
    fn next_seq(&mut self) -> Result<i64, LedgerError> {
        if let Some(seq) = self.next_seq {
            return Ok(seq);
        }
        let last =
            self.connection.query_row("SELECT coalesce(max(seq), 0) FROM history", [], |row| row.get::<_, i64>(0));
        last.map(|last| last + 1).map_err(|source| self.fails(source))
    }

    /// Hands every record, oldest first, to `replay`; returns the rows that are not as they were written, and left out.
    ///
    /// # Errors
    /// When SQLite fails or a sound row cannot be understood; the error names its `seq`.
    pub fn replay(&self, mut replay: impl FnMut(Record)) -> Result<Vec<Damaged>, LedgerError> {
        let fails = |source| self.fails(source);
        let sums = if self.has_sums() { "leased_ms, sum" } else { "NULL, NULL" };
        let sql = format!("SELECT seq, at_ms, event, task, attempt, worker, detail, {sums} FROM history ORDER BY seq");
        let mut statement = self.connection.prepare(&sql).map_err(fails)?;
        let mut rows = statement.query([]).map_err(fails)?;
        let mut damaged = Vec::new();
        while let Some(row) = rows.next().map_err(fails)? {
            let seq: i64 = row.get(0).map_err(fails)?;
            if self.has_sums() && !is_sound(row).map_err(fails)? {
                damaged.push(Damaged { table: HISTORY.table, row: seq.to_string(), task: None, epoch: None });
                continue;
            }
            replay(read_record(row).map_err(|what| self.corrupt(format!("history row {seq}: {what}")))?);
        }
        Ok(damaged)
    }
}

fn text(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

fn is_sound(row: &rusqlite::Row<'_>) -> rusqlite::Result<bool> {
    let values: [ValueRef<'_>; 8] = [
        row.get_ref(0)?,
        row.get_ref(1)?,
        row.get_ref(2)?,
        row.get_ref(3)?,
        row.get_ref(4)?,
        row.get_ref(5)?,
        row.get_ref(6)?,
        row.get_ref(7)?,
    ];
    Ok(row.get_ref(8)? == ValueRef::Integer(row_sum(HISTORY.table, values)))
}

pub(super) fn read_record(row: &rusqlite::Row<'_>) -> Result<Record, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let event: &str = row.get_ref(2).and_then(|event| Ok(event.as_str()?)).map_err(text)?;
    let lease = Lease { task: TaskKey(row.get(3).map_err(text)?), attempt: row.get(4).map_err(text)? };
    let worker = || row.get_ref(5).and_then(|worker| Ok(worker.as_str()?)).map(Into::into).map_err(text);
    let detail: Detail = match row.get_ref(6).and_then(|detail| Ok(detail.as_str_or_null()?)).map_err(text)? {
        Some(json) => serde_json::from_str(json).map_err(|error| error.to_string())?,
        None => Detail::default(),
    };
    Ok(match event {
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
        "withdrawn" => Record::Withdrawn { task: lease.task, epochs: detail.epochs },
        other => return Err(format!("unknown event {other:?}")),
    })
}
