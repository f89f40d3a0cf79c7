//! Checksums of rows. SQLite's journal has its own; its pages, and so our rows, have none.
//!
//! A row's sum is the first 8 bytes of BLAKE3 over the name of its table and its columns, each with its type and
//! length. It stands in the row, is computed when the row is written, and is compared whenever it is read.

use super::LedgerError;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Value, ValueRef};
use std::collections::HashMap;
use std::sync::LazyLock;

/// A table whose rows carry sums.
#[derive(Debug)]
pub(super) struct Summed {
    pub table: &'static str,
    /// What the sum is over, in this order.
    pub columns: &'static str,
    /// The columns that name a row.
    pub key: &'static str,
}

pub(super) const HISTORY: Summed =
    Summed { table: "history", columns: "seq, at_ms, event, task, attempt, worker, detail, leased_ms", key: "seq" };
pub(super) const TRAIN: Summed = Summed {
    table: "train_answers",
    columns: "train, epoch, train_loss, train_seconds, artifact, bytes",
    key: "train, epoch",
};
pub(super) const FACTS: Summed =
    Summed { table: "checkpoint_facts", columns: "train, epoch, facts", key: "train, epoch" };
pub(super) const LEVELS: Summed =
    Summed { table: "evaluate_answers", columns: "task, family, epsilons, first, levels", key: "task" };
pub(super) const WITNESSES: Summed =
    Summed { table: "witness_files", columns: "task, artifact, count, bytes", key: "task" };
pub(super) const TRUST: Summed = Summed { table: "trust", columns: "task, facts", key: "task" };
pub(super) const MEASURES: Summed = Summed { table: "measure_answers", columns: "task, answer", key: "task" };

/// The answers; the history is checked as it is replayed.
pub(super) const ANSWERS: [&Summed; 6] = [&TRAIN, &FACTS, &LEVELS, &WITNESSES, &TRUST, &MEASURES];

impl Summed {
    /// Inserts a row whose values are bound to `?1` and so on; one that is there already stays.
    pub fn insert(&self) -> &'static str {
        static ALL: LazyLock<HashMap<&str, String>> =
            LazyLock::new(|| ANSWERS.into_iter().map(|summed| (summed.table, summed.write_insert())).collect());
        &ALL[self.table]
    }

    fn write_insert(&self) -> String {
        let Summed { table, columns, .. } = self;
        let values: Vec<String> = (1..=columns.split(',').count()).map(|n| format!("?{n}")).collect();
        let values = values.join(", ");
        format!("INSERT OR IGNORE INTO {table} ({columns}, sum) VALUES ({values}, row_sum('{table}', {values}))")
    }

    /// An SQL condition: the row is as it was written. `row` is how a query calls the table.
    pub fn is_sound(&self, row: &str) -> String {
        let columns: Vec<String> = self.columns.split(", ").map(|column| format!("{row}.{column}")).collect();
        format!("({row}.sum IS row_sum('{}', {}))", self.table, columns.join(", "))
    }

    /// Gives every row its sum.
    pub fn fill(&self) -> String {
        format!("UPDATE {0} SET sum = row_sum('{0}', {1})", self.table, self.columns)
    }
}

/// The sum of a row with these values.
pub(super) fn row_sum<'a>(table: &str, values: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(table.as_bytes());
    for value in values {
        let (kind, content): (u8, &[u8]) = match &value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => (1, &number.to_le_bytes()),
            ValueRef::Real(number) => (2, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    let hash = blake3::hash(&bytes);
    i64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

/// Makes `row_sum` known to SQL.
pub(super) fn teach(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("row_sum", -1, flags, |row| {
        let table = row.get_raw(0).as_str()?;
        Ok(row_sum(table, (1..row.len()).map(|column| row.get_raw(column))))
    })
}

/// A row that is not as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Damaged {
    pub table: &'static str,
    /// Its key, as far as that can be read.
    pub row: String,
    /// Whose answer it was part of; unknown where the key itself is damaged, or for the history.
    pub task: Option<crate::plan::TaskKey>,
    /// Of a checkpoint.
    pub epoch: Option<u32>,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table {}, row {}", self.table, self.row)
    }
}

/// A key's columns for people.
pub(super) fn in_words(values: &[Value]) -> String {
    let word = |value: &Value| match value {
        Value::Null => "NULL".to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(blob) => blob.iter().take(6).map(|byte| format!("{byte:02x}")).collect(),
    };
    values.iter().map(word).collect::<Vec<_>>().join(", ")
}

impl super::Ledger {
    /// Every row of the answers that is not as it was written.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn damaged_answers(&self) -> Result<Vec<Damaged>, LedgerError> {
        let mut damaged = Vec::new();
        if !self.has_sums() {
            return Ok(damaged);
        }
        for summed in ANSWERS {
            let query = || -> rusqlite::Result<Vec<Vec<Value>>> {
                let Summed { table, key, .. } = summed;
                let sql = format!("SELECT {key} FROM {table} r WHERE NOT {}", summed.is_sound("r"));
                let mut statement = self.connection.prepare(&sql)?;
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?;
                rows.collect()
            };
            for key in query().map_err(|source| self.fails(source))? {
                let task = match &key[0] {
                    Value::Blob(blob) => blob.as_slice().try_into().ok().map(crate::plan::TaskKey),
                    _ => None,
                };
                let epoch = match key.get(1) {
                    Some(Value::Integer(epoch)) => u32::try_from(*epoch).ok(),
                    _ => None,
                };
                damaged.push(Damaged { table: summed.table, row: in_words(&key), task, epoch });
            }
        }
        Ok(damaged)
    }
}
