//! Keeping a ledger: damaged rows out, superfluous history out, copies made and verified.

use super::sums::{ANSWERS, HISTORY, Summed};
use super::{Damaged, Ledger, LedgerError, SCHEMA_VERSION, classify, is_missing_table, path_in, schema};
use crate::data::DataInfo;
use crate::plan::TaskKey;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// What compaction has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Records there were, and records there are.
    pub before: u64,
    pub after: u64,
}

/// What salvaging has copied of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    pub table: String,
    pub rows: u64,
    /// Whether something of it could not be read.
    pub incomplete: bool,
}

impl Ledger {
    /// The SQL condition that `summed`'s row, called `r` in the query, is as it was written.
    pub(super) fn is_sound(&self, summed: &Summed) -> String {
        if self.has_sums() { summed.is_sound("r") } else { "1".into() }
    }

    /// Takes damaged rows out, and writes down in `damage` that they were there. What they were part of goes with
    /// them: an answer is whole, or it is computed again. Returns the tasks that are no longer answered, and of a
    /// training run the epoch.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn drop_damaged(
        &mut self,
        damaged: &[Damaged],
        at_ms: i64,
    ) -> Result<Vec<(TaskKey, Option<u32>)>, LedgerError> {
        let mut lost = Vec::new();
        if damaged.is_empty() {
            return Ok(lost);
        }
        self.begin()?;
        for row in damaged {
            let what = match row.task {
                _ if row.table == HISTORY.table => "a record of what had happened to a task".to_string(),
                Some(task) => format!("the answer of task {}", task.short()),
                None => "an answer".to_string(),
            };
            let place = row.to_string();
            self.execute("INSERT INTO damage (at_ms, place, lost) VALUES (?1, ?2, ?3)", (at_ms, place, what))?;
            if let Some(task) = row.task {
                lost.push((task, row.epoch));
            }
        }
        for summed in ANSWERS.into_iter().chain([&HISTORY]) {
            let sql = format!("DELETE FROM {} AS r WHERE NOT {}", summed.table, summed.is_sound("r"));
            if damaged.iter().any(|row| row.table == summed.table) {
                self.execute(&sql, ())?;
            }
        }
        if damaged.iter().any(|row| row.task.is_none() && row.table != HISTORY.table) {
            lost.extend(self.unanswered()?);
        }
        for (task, epoch) in &lost {
            self.drop_answer(*task, *epoch)?;
        }
        Ok(lost)
    }

    /// Removes an answer, so that another can take its place; of a training run the checkpoint after `epoch`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn drop_answer(&mut self, task: TaskKey, epoch: Option<u32>) -> Result<(), LedgerError> {
        self.begin()?;
        match epoch {
            Some(epoch) => ["train_answers", "checkpoint_facts"].iter().try_for_each(|table| {
                self.execute(&format!("DELETE FROM {table} WHERE train = ?1 AND epoch = ?2"), (task.0, epoch))
            }),
            None => ["evaluate_answers", "witness_files", "trust", "measure_answers"]
                .iter()
                .try_for_each(|table| self.execute(&format!("DELETE FROM {table} WHERE task = ?1"), [task.0])),
        }
    }

    /// The checkpoints that are kept in this file.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn checkpoints_in(&self, artifact: &str) -> Result<Vec<(TaskKey, u32)>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<(TaskKey, u32)>> {
            let mut statement =
                self.connection.prepare("SELECT train, epoch FROM train_answers WHERE artifact = ?1")?;
            statement.query_map([artifact], |row| Ok((TaskKey(row.get(0)?), row.get(1)?)))?.collect()
        };
        query().map_err(|source| self.fails(source))
    }

    /// Tasks whose last word is an answer that is not there: its row's key was damaged.
    fn unanswered(&self) -> Result<Vec<(TaskKey, Option<u32>)>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<(TaskKey, Option<u32>)>> {
            let sql = "SELECT DISTINCT h.task, e.value FROM history h
                       LEFT JOIN json_each(coalesce(json_extract(h.detail, '$.epochs'), '[null]')) e
                       WHERE h.event = 'committed' AND NOT EXISTS (
                         SELECT 1 FROM train_answers a WHERE a.train = h.task AND a.epoch = e.value)
                       AND h.task NOT IN (SELECT task FROM evaluate_answers)
                       AND h.task NOT IN (SELECT task FROM measure_answers)";
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([], |row| Ok((TaskKey(row.get(0)?), row.get(1)?)))?.collect()
        };
        query().map_err(|source| self.fails(source))
    }

    // ---- compaction ------------------------------------------------------------------------------

    /// Drops what the history need not hold of tasks that are answered: leases, hand-backs and failures before
    /// the answer. Their number and the time of the answer's lease stay, and with them every report.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn compact(&mut self) -> Result<Compacted, LedgerError> {
        let count = |ledger: &Ledger| {
            let count = ledger.connection.query_row("SELECT count(*) FROM history", [], |row| row.get::<_, i64>(0));
            count.map(|count| count as u64).map_err(|source| ledger.fails(source))
        };
        let before = count(self)?;
        self.begin()?;
        // Only where the answer came from the newest attempt, whose number must not be forgotten.
        let steps = [
            "CREATE INDEX compacting ON history (task)",
            "CREATE TEMP TABLE answered AS
               SELECT task, max(seq) AS last FROM history GROUP BY task
               HAVING max(attempt) = max(CASE event WHEN 'committed' THEN attempt END)
                  AND max(seq) = max(CASE event WHEN 'committed' THEN seq END)
                  AND count(*) > sum(event = 'committed')",
            "INSERT INTO retried
               SELECT h.task, sum(h.event IN ('released', 'failed')) FROM history h JOIN answered a ON a.task = h.task
               GROUP BY h.task HAVING sum(h.event IN ('released', 'failed')) > 0
               ON CONFLICT (task) DO UPDATE SET retries = retries + excluded.retries",
            "UPDATE history SET leased_ms = (
               SELECT max(l.at_ms) FROM history l
               WHERE l.task = history.task AND l.attempt = history.attempt AND l.event = 'leased')
             WHERE event = 'committed' AND leased_ms IS NULL AND task IN (SELECT task FROM answered)",
            "DELETE FROM history WHERE event <> 'committed' AND task IN (SELECT task FROM answered)",
        ];
        for step in steps {
            self.execute(step, ())?;
        }
        let fill = format!("{} WHERE task IN (SELECT task FROM answered)", HISTORY.fill());
        self.execute(&fill, ())?;
        self.execute("DROP TABLE answered", ())?;
        self.execute("DROP INDEX compacting", ())?;
        self.next_seq = None;
        Ok(Compacted { before, after: count(self)? })
    }

    /// Gives what the file no longer needs back to the disk. Needs as much free space as the file takes.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn shrink(&mut self) -> Result<(), LedgerError> {
        self.commit()?;
        self.connection.execute_batch("VACUUM").map_err(|source| self.fails(source))?;
        self.fold()
    }

    /// By task, the attempts whose records were compacted away.
    pub(super) fn retried(&self) -> Result<Vec<(TaskKey, u64)>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<(TaskKey, u64)>> {
            let mut statement = self.connection.prepare("SELECT task, retries FROM retried")?;
            statement.query_map([], |row| Ok((TaskKey(row.get(0)?), row.get::<_, i64>(1)? as u64)))?.collect()
        };
        match query() {
            Err(error) if is_missing_table(&error) => Ok(Vec::new()), // of an earlier release
            found => found.map_err(|source| self.fails(source)),
        }
    }

    // ---- copies ----------------------------------------------------------------------------------

    /// Copies the ledger as it is at this moment into the directory `to`, also while a coordinator writes, and
    /// reads the copy to its last row before it gets its name. Returns how many records it holds.
    ///
    /// # Errors
    /// When either side fails, or the copy is not sound: the ledger itself is damaged then.
    pub fn back_up(&self, to: &Path) -> Result<u64, LedgerError> {
        let unwritable = |source| LedgerError::Unwritable { dir: to.into(), source };
        std::fs::create_dir_all(to).map_err(unwritable)?;
        let partial = to.join("ledger.sqlite.partial");
        for leftover in [partial.clone(), to.join("ledger.sqlite.partial-wal"), to.join("ledger.sqlite.partial-shm")] {
            match std::fs::remove_file(leftover) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(error)),
                _ => {}
            }
        }
        let fails = |source| classify(&partial, source);
        let mut copy = Connection::open(&partial).map_err(fails)?;
        let backup = rusqlite::backup::Backup::new(&self.connection, &mut copy).map_err(fails)?;
        // All pages in one step: a snapshot of one moment, which no writer can disturb.
        backup.run_to_completion(i32::MAX, Duration::from_millis(50), None).map_err(fails)?;
        drop(backup);
        copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(fails)?;
        let sound: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(fails)?;
        if sound != "ok" {
            return Err(self.corrupt(format!("integrity_check says: {sound}")));
        }
        schema::prepare(&copy).map_err(fails)?;
        let version = schema::version(&copy, &partial)?;
        let (dir, in_transaction, next_seq) = (self.dir.clone(), false, None);
        let copy = Ledger { connection: copy, dir, in_transaction, version, next_seq, _lock: None };
        let mut records = 0;
        let mut damaged = copy.replay(|_| records += 1)?;
        damaged.extend(copy.damaged_answers()?);
        if let Some(row) = damaged.first() {
            return Err(self.corrupt(format!("{} damaged rows, the first of them: {row}", damaged.len())));
        }
        drop(copy);
        let durable = || {
            std::fs::File::open(&partial)?.sync_all()?;
            std::fs::rename(&partial, path_in(to))?;
            std::fs::File::open(to)?.sync_all()
        };
        durable().map_err(unwritable)?;
        Ok(records)
    }

    /// The files that belong to it: checkpoints, and witnesses.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn artifacts(&self) -> Result<(Vec<String>, Vec<String>), LedgerError> {
        let query = |table: &str| -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(&format!("SELECT DISTINCT artifact FROM {table}"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let both = || Ok((query("train_answers")?, query("witness_files")?));
        both().map_err(|source| self.fails(source))
    }

    /// What this ledger is known by where several share a place, copies of it included; given to it by the first who
    /// asks.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn identity(&mut self, new: &str) -> Result<String, LedgerError> {
        self.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?1)", [new])?;
        Ok(self.known_identity()?.unwrap_or_else(|| new.into()))
    }

    /// What [`Ledger::identity`] has said before, if it was ever asked.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn known_identity(&self) -> Result<Option<String>, LedgerError> {
        let query = "SELECT value FROM meta WHERE key = 'identity'";
        let found = self.connection.query_row(query, [], |row| row.get(0)).optional();
        found.map_err(|source| self.fails(source))
    }

    /// All artifacts that anything here names: those of [`Ledger::artifacts`], the files that sweeps brought along, and the
    /// states of unfinished runs.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn named(&self) -> Result<HashSet<String>, LedgerError> {
        let (checkpoints, witnesses) = self.artifacts()?;
        let mut named: HashSet<String> = checkpoints.into_iter().chain(witnesses).collect();
        let query = |sql: &str| -> rusqlite::Result<Vec<String>> {
            self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        named.extend(query("SELECT artifact FROM unfinished").map_err(|source| self.fails(source))?);
        for data in query("SELECT data FROM sweeps").map_err(|source| self.fails(source))? {
            let data: DataInfo =
                serde_json::from_str(&data).map_err(|error| self.corrupt(format!("sweeps: {error}")))?;
            named.extend(data.given.into_values().map(|given| given.digest));
        }
        Ok(named)
    }

    /// Copies whatever can still be read of a damaged ledger in `from` into this one, which is new.
    ///
    /// # Errors
    /// When nothing can be read, or this ledger cannot be written.
    pub fn salvage(&mut self, from: &Path) -> Result<Vec<Salvaged>, LedgerError> {
        let path = path_in(from);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE; // a killed writer's journal may have to be recovered
        let source = Connection::open_with_flags(&path, flags)
            .or_else(|_| Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .map_err(|source| classify(&path, source))?;
        self.connection.execute_batch("PRAGMA foreign_keys = OFF").map_err(|source| self.fails(source))?;
        self.begin()?;
        let mut report = Vec::new();
        for table in self.tables()? {
            report.push(self.salvage_table(&source, &table)?);
        }
        let version = SCHEMA_VERSION.to_string();
        self.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?1)", [version])?;
        if columns_of(&source, HISTORY.table).is_ok_and(|columns| !columns.iter().any(|(name, ..)| name == "sum")) {
            for summed in ANSWERS.into_iter().chain([&HISTORY]) {
                self.execute(&summed.fill(), ())?;
            }
        }
        if report.iter().all(|table| table.rows == 0 || table.table == "meta") {
            self.roll_back()?;
            let unreadable = source.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).err();
            let source = unreadable.unwrap_or(rusqlite::Error::QueryReturnedNoRows);
            return Err(LedgerError::Damaged { path, source });
        }
        self.commit()?;
        Ok(report)
    }

    fn tables(&self) -> Result<Vec<String>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
            self.connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        query().map_err(|source| self.fails(source))
    }

    fn salvage_table(&self, source: &Connection, table: &str) -> Result<Salvaged, LedgerError> {
        let mut columns = columns_of(&self.connection, table).map_err(|source| self.fails(source))?;
        // Of an older ledger some are missing, and most tables of a damaged one can still be described.
        let there = columns_of(source, table).unwrap_or_default();
        columns.retain(|column| there.is_empty() || there.iter().any(|(name, ..)| *name == column.0));
        let names: Vec<&str> = columns.iter().map(|(name, ..)| name.as_str()).collect();
        let (list, values) = (names.join(", "), vec!["?"; names.len()].join(", "));
        let insert = format!("INSERT OR REPLACE INTO {table} ({list}) VALUES ({values})");
        let keyed = if there.is_empty() { columns.clone() } else { there };
        let keys: Vec<&str> = keyed.iter().filter(|(.., pk)| *pk > 0).map(|(name, ..)| name.as_str()).collect();
        let first = names.iter().position(|name| Some(name) == keys.first()).unwrap_or(0);
        let mut copy = Copy { ledger: self, source, insert, columns: names.len(), key: first, last: None };
        let select = format!("SELECT {list} FROM {table}");
        let incomplete = !copy.rows(&select)?;
        if incomplete {
            // From both ends up to the damage, and then what stands between.
            let backwards: Vec<String> = keys.iter().map(|key| format!("{key} DESC")).collect();
            copy.rows(&format!("{select} ORDER BY {}", keys.join(", ")))?;
            let low = copy.last.take();
            copy.rows(&format!("{select} ORDER BY {}", backwards.join(", ")))?;
            match (low, copy.last.take()) {
                (Some(Value::Integer(low)), Some(Value::Integer(high))) => {
                    copy.range(&select, names[first], (low, high), &|n| n.to_string())?;
                }
                (Some(Value::Blob(low)), Some(Value::Blob(high))) => {
                    let begins =
                        |key: &[u8]| i64::from(u16::from_be_bytes([0, 1].map(|at| key.get(at).copied().unwrap_or(0))));
                    copy.range(&select, names[first], (begins(&low), begins(&high) + 1), &prefix)?;
                }
                _ => {}
            }
        }
        let count = format!("SELECT count(*) FROM {table}");
        let rows = self.connection.query_row(&count, [], |row| row.get::<_, i64>(0));
        Ok(Salvaged { table: table.into(), rows: rows.map_err(|source| self.fails(source))? as u64, incomplete })
    }
}

/// Name, type and position in the primary key.
fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String, u32)>> {
    let mut statement = connection.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
    statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// The keys that begin with these two bytes start here.
fn prefix(bytes: i64) -> String {
    if bytes > 0xffff { format!("x'{}'", "ff".repeat(64)) } else { format!("x'{bytes:04x}'") }
}

/// Rows on their way from one database to another.
struct Copy<'a> {
    ledger: &'a Ledger,
    source: &'a Connection,
    insert: String,
    columns: usize,
    /// Which column the rows are found by, and what it held in the last row that could be read.
    key: usize,
    last: Option<Value>,
}

impl Copy<'_> {
    /// Copies what a query yields; false when it broke off.
    fn rows(&mut self, sql: &str) -> Result<bool, LedgerError> {
        let Ok(mut statement) = self.source.prepare(sql) else { return Ok(false) };
        let Ok(mut rows) = statement.query([]) else { return Ok(false) };
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(true),
                Err(_) => return Ok(false),
            };
            let values: rusqlite::Result<Vec<Value>> = (0..self.columns).map(|column| row.get(column)).collect();
            let Ok(values) = values else { return Ok(false) };
            self.last = values.get(self.key).cloned();
            self.ledger.execute(&self.insert, rusqlite::params_from_iter(values))?;
        }
    }

    /// Copies the rows whose key lies in a range, halving what breaks off: only what stands beside the damage is lost.
    fn range(
        &mut self,
        select: &str,
        key: &str,
        (low, high): (i64, i64),
        literal: &dyn Fn(i64) -> String,
    ) -> Result<(), LedgerError> {
        let whole = self.rows(&format!("{select} WHERE {key} >= {} AND {key} < {}", literal(low), literal(high)))?;
        if whole || high.saturating_sub(low) <= 1 {
            return Ok(());
        }
        let middle = low + (high - low) / 2;
        self.range(select, key, (low, middle), literal)?;
        self.range(select, key, (middle, high), literal)
    }
}
