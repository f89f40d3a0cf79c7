//! The tables, how they are made, and how an older ledger becomes a newer one.

use super::sums::{ANSWERS, HISTORY, teach};
use super::{Ledger, LedgerError, SCHEMA_VERSION, classify, is_missing_table, path_in};
use rusqlite::Connection;
use std::path::Path;

/// Schema version 1. A new ledger begins with it, so that the way up is walked every time.
const VERSION_1: &str = include_str!("schema.sql");
/// Tables and views beside it, which older programs overlook.
const ADDITIONS: &str = include_str!("additions.sql");
const VERSION_2: &str = include_str!("v2.sql");
const VERSION_3: &str = include_str!("v3.sql");
const VERSION_4: &str = include_str!("v4.sql");

impl Ledger {
    /// Makes the tables of a new ledger, and those that an older one lacks: all of them, or none.
    pub(super) fn bring_up_to_date(&mut self) -> Result<(), LedgerError> {
        let path = path_in(&self.dir);
        let fails = |source| classify(&path, source);
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fails)?;
        let tables: u32 =
            transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(fails)?;
        if tables == 0 {
            transaction.execute_batch(VERSION_1).map_err(fails)?;
            transaction
                .execute(
                    "INSERT INTO meta VALUES ('schema_version', '1'), ('created_by', ?1)",
                    [format!("epsweep {}", env!("CARGO_PKG_VERSION"))],
                )
                .map_err(fails)?;
        }
        let version = version(&transaction, &path)?;
        transaction.execute_batch(ADDITIONS).map_err(fails)?;
        if version < 2 {
            transaction.execute_batch(VERSION_2).map_err(fails)?;
            for summed in ANSWERS.into_iter().chain([&HISTORY]) {
                transaction.execute_batch(&summed.fill()).map_err(fails)?;
            }
        }
        if version < 3 {
            transaction.execute_batch(VERSION_3).map_err(fails)?;
        }
        if version < 4 {
            transaction.execute_batch(VERSION_4).map_err(fails)?;
            let now = SCHEMA_VERSION.to_string();
            transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [now]).map_err(fails)?;
        }
        transaction.commit().map_err(fails)?;
        self.version = SCHEMA_VERSION;
        Ok(())
    }
}

/// The version of a database that we can read.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<u32, LedgerError> {
    let found: Result<String, _> =
        connection.query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0));
    let refused = |found: String| Err(LedgerError::Version { path: path.into(), found });
    match found {
        Ok(found) => match found.parse() {
            Ok(version @ 1..=SCHEMA_VERSION) => Ok(version),
            _ => refused(found),
        },
        Err(error @ rusqlite::Error::SqliteFailure(..)) if !is_missing_table(&error) => Err(classify(path, error)),
        Err(_) => refused("none".into()),
    }
}

/// A connection as this room uses it.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    teach(connection)
}
