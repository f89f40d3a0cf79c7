//! Answers to measures: small texts with many numbers, compressed.

use super::sums::MEASURES;
use super::{Ledger, LedgerError, is_missing_table};
use crate::measure::{MeasureAnswer, Measured};
use crate::plan::{Plan, TaskKey, Work};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::OptionalExtension;
use std::collections::HashMap;
use std::io::{Read, Write};

/// By training run, epoch and position of the measure: what its tasks have answered.
pub(super) type MeasuredAt = HashMap<(TaskKey, u32, u16), Measured>;

impl Ledger {
    /// Stores what was measured; an answer that is there already stays.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_measure(&mut self, task: TaskKey, answer: &MeasureAnswer) -> Result<(), LedgerError> {
        self.begin()?;
        let json = serde_json::to_vec(answer).expect("answers hold finite numbers");
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let content = encoder.write_all(&json).and_then(|()| encoder.finish()).expect("memory can be written");
        self.execute(MEASURES.insert(), (task.0, content))
    }

    fn measure_answer(&self, task: TaskKey) -> Result<Option<MeasureAnswer>, LedgerError> {
        let query = || -> rusqlite::Result<Option<Vec<u8>>> {
            let sound = self.is_sound(&MEASURES);
            let sql = format!("SELECT answer FROM measure_answers r WHERE task = ?1 AND {sound}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_row([task.0], |row| row.get(0)).optional()
        };
        let content = match query() {
            Err(error) if is_missing_table(&error) => None, // of an earlier release
            content => content.map_err(|source| self.fails(source))?,
        };
        let Some(content) = content else { return Ok(None) };
        let corrupt =
            |error: &dyn std::fmt::Display| self.corrupt(format!("the measure of task {}: {error}", task.short()));
        let mut json = Vec::new();
        ZlibDecoder::new(&content[..]).read_to_end(&mut json).map_err(|error| corrupt(&error))?;
        serde_json::from_slice(&json).map(Some).map_err(|error| corrupt(&error))
    }

    /// What was measured, where all units of a checkpoint are there. Marks the trials that still lack
    /// some, and counts the answers that are there.
    pub(super) fn measured(&self, plan: &Plan, open: &mut [bool]) -> Result<(MeasuredAt, usize), LedgerError> {
        let (mut found, mut answered) = (HashMap::<_, Option<Vec<MeasureAnswer>>>::new(), 0);
        for task in &plan.tasks {
            let Work::Measure { epoch, measure, .. } = task.work else { continue };
            let train = plan.trials[task.trial as usize].key;
            let answers = found.entry((train, epoch, measure)).or_insert_with(|| Some(Vec::new()));
            match self.measure_answer(task.key)? {
                Some(answer) => {
                    answered += 1;
                    answers.iter_mut().for_each(|answers| answers.push(answer.clone()));
                }
                None => {
                    *answers = None;
                    open[task.trial as usize] = true;
                }
            }
        }
        let whole = found.into_iter().filter_map(|(at, answers)| Some((at, Measured::join(answers?)?)));
        Ok((whole.collect(), answered))
    }
}
