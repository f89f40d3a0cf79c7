//! Rows of the history that nobody wrote.

use super::history::read_record;
use crate::engine::{Engine, Settings};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Reads rows: for each column a byte for its type, a byte for its length, and the content. What can be read is
/// replayed: a history may be nonsense, and its replay total all the same.
pub fn record(mut bytes: &[u8]) {
    thread_local!(static MEMORY: Connection = Connection::open_in_memory().expect("memory"));
    let mut column = || {
        let (kind, rest) = bytes.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let length = usize::from(length).min(rest.len());
        let (content, rest) = rest.split_at(length);
        bytes = rest;
        let mut number = [0; 8];
        number[..length.min(8)].copy_from_slice(&content[..length.min(8)]);
        Some(match kind % 6 {
            0 => Value::Null,
            1 => Value::Integer(i64::from_le_bytes(number)),
            2 => Value::Real(f64::from_le_bytes(number)),
            3 => Value::Text(String::from_utf8_lossy(content).into_owned()),
            // What a task's key looks like: without it, hardly any row would be read to its end.
            4 => Value::Blob(vec![content.first().copied().unwrap_or(0); 32]),
            _ => Value::Blob(content.to_vec()),
        })
    };
    let mut engine = Engine::new(Settings::default());
    for _ in 0..16 {
        let row: Vec<Value> = (0..7).map(|_| column().unwrap_or(Value::Null)).collect();
        let read = MEMORY.with(|memory| {
            let mut statement = memory.prepare_cached("SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7").expect("a query");
            statement.query_row(params_from_iter(row), |row| Ok(read_record(row))).expect("a row")
        });
        let Ok(record) = read else { return };
        engine.replay(&record, 0);
    }
}
