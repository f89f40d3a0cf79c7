//! Sweeps, answers, costs and workers: the rows beside the history.

use super::sums::{FACTS, LEVELS, TRAIN, TRUST, WITNESSES};
use super::{Ledger, LedgerError};
use crate::data::DataInfo;
use crate::engine::SweepId;
use crate::outcome::{Known, Level};
use crate::plan::facts::Facts;
use crate::plan::{Plan, TaskKey, Work};
use crate::trust::Trust;
use rusqlite::OptionalExtension;

/// A sweep as it was handed in.
#[derive(Debug, Clone)]
pub struct NewSweep<'a> {
    pub yaml: &'a str,
    pub source: &'a str,
    pub base_dir: &'a str,
    pub plan: &'a Plan,
    /// Unix time.
    pub at_ms: i64,
}

/// A sweep as it lies in the ledger.
#[derive(Debug, Clone)]
pub struct StoredSweep {
    pub id: SweepId,
    pub name: String,
    pub yaml: String,
    pub source: String,
    pub base_dir: String,
    pub data: DataInfo,
    pub state: String,
    pub submitted_ms: i64,
    pub ended_ms: Option<i64>,
}

/// One trained checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointAnswer {
    pub epoch: u32,
    pub train_loss: f64,
    pub train_seconds: f64,
    pub artifact: String,
    pub bytes: u64,
    pub facts: Facts,
}

/// The levels of one shard.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateAnswer {
    pub family: TaskKey,
    pub epsilons: Vec<f64>,
    pub first: u32,
    pub levels: Vec<Level>,
    /// Where the question asked for them.
    pub witnesses: Option<WitnessAnswer>,
    pub trust: Option<Trust>,
}

/// The adversarial examples of one shard: a file in `witnesses/`.
#[derive(Debug, Clone, PartialEq)]
pub struct WitnessAnswer {
    pub artifact: String,
    pub count: u32,
    pub bytes: u64,
}

/// What an attempt took.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    pub task: TaskKey,
    pub attempt: u32,
    pub kind: String,
    pub worker: String,
    pub seconds: f64,
    pub forwards: u64,
    pub backwards: u64,
    pub examples: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WorkerInfo {
    pub worker: String,
    pub host: String,
    pub slots: u32,
    pub device: String,
    pub version: String,
    pub libtorch: String,
}

impl Ledger {
    /// Stores a sweep with its trials and tasks; earlier rows of the same name are marked replaced.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn add_sweep(&mut self, new: &NewSweep) -> Result<SweepId, LedgerError> {
        self.begin()?;
        let (plan, evaluate) = (new.plan, &new.plan.sweep.evaluate);
        let name = &plan.sweep.name;
        self.execute(
            "UPDATE sweeps SET state = 'replaced', ended_ms = ?2 WHERE name = ?1 AND state = 'running'",
            (name, new.at_ms),
        )?;
        // The layout of replaced revisions serves nobody; their answers stay.
        for table in ["sweep_tasks", "sweep_trials"] {
            let sql = format!("DELETE FROM {table} WHERE sweep IN (SELECT id FROM sweeps WHERE name = ?1)");
            self.execute(&sql, [name])?;
        }
        self.execute(
            "INSERT INTO sweeps (name, yaml, source, base_dir, data, norm, epsilons, submitted_ms, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'running')",
            (
                name,
                new.yaml,
                new.source,
                new.base_dir,
                to_json(&plan.data),
                to_json(&evaluate.norm).trim_matches('"'),
                to_json(&evaluate.epsilons),
                new.at_ms,
            ),
        )?;
        let id = self.connection.last_insert_rowid() as SweepId;
        if self.sweep_count()? > 1 {
            // From now on answers may be built on; while there is one sweep, nobody looks for them.
            self.execute("CREATE INDEX IF NOT EXISTS evaluate_answers_by_family ON evaluate_answers (family)", ())?;
        }
        self.add_trials(id, plan)?;
        self.add_tasks(id, plan)?;
        Ok(id)
    }

    fn add_trials(&self, id: SweepId, plan: &Plan) -> Result<(), LedgerError> {
        for (position, (planned, trial)) in plan.trials.iter().zip(&plan.sweep.trials).enumerate() {
            let axes: serde_json::Map<_, _> = plan
                .sweep
                .axes
                .iter()
                .zip(&trial.axes)
                .map(|(axis, value)| (axis.clone(), value.clone().into()))
                .collect();
            self.execute(
                "INSERT INTO sweep_trials VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    id,
                    position as i64,
                    planned.key.short(),
                    planned.key.0,
                    &planned.config,
                    to_json(&axes),
                    trial.seed as i64,
                ),
            )?;
        }
        Ok(())
    }

    fn add_tasks(&self, id: SweepId, plan: &Plan) -> Result<(), LedgerError> {
        for (position, task) in plan.tasks.iter().enumerate() {
            let (epoch, attack) = match task.work {
                Work::Train => (None, None),
                Work::Evaluate { epoch, attack, .. } => {
                    (Some(epoch), Some(plan.sweep.evaluate.attacks[usize::from(attack)].name.as_str()))
                }
                Work::Certify { epoch, certificate, .. } => {
                    (Some(epoch), Some(plan.sweep.evaluate.certify[usize::from(certificate)].name.as_str()))
                }
                Work::Measure { epoch, measure, .. } => {
                    (Some(epoch), Some(plan.sweep.measures[usize::from(measure)].name.as_str()))
                }
            };
            self.execute(
                "INSERT INTO sweep_tasks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (id, position as i64, task.key.0, task.work.kind(), task.trial, epoch, attack),
            )?;
        }
        Ok(())
    }

    /// How many files were ever handed in.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn sweep_count(&self) -> Result<i64, LedgerError> {
        let query = || self.connection.prepare_cached("SELECT count(*) FROM sweeps")?.query_row([], |row| row.get(0));
        query().map_err(|source| self.fails(source))
    }

    /// The newest revision of every sweep, oldest first.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn sweeps(&self) -> Result<Vec<StoredSweep>, LedgerError> {
        let fails = |source| self.fails(source);
        let sql =
            "SELECT id, name, yaml, source, base_dir, data, state, submitted_ms, ended_ms FROM live_sweeps ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql).map_err(fails)?;
        let rows = statement
            .query_map([], |row| {
                let data: String = row.get(5)?;
                let sweep = |data| -> rusqlite::Result<StoredSweep> {
                    Ok(StoredSweep {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        yaml: row.get(2)?,
                        source: row.get(3)?,
                        base_dir: row.get(4)?,
                        data,
                        state: row.get(6)?,
                        submitted_ms: row.get(7)?,
                        ended_ms: row.get(8)?,
                    })
                };
                Ok(serde_json::from_str(&data).map(sweep))
            })
            .map_err(fails)?;
        rows.map(|row| match row.map_err(fails)? {
            Ok(sweep) => sweep.map_err(fails),
            Err(error) => Err(self.corrupt(format!("sweeps.data: {error}"))),
        })
        .collect()
    }

    /// Stores the checkpoints of a training run; those that are there already stay as they are.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_checkpoints(&mut self, train: TaskKey, answers: &[CheckpointAnswer]) -> Result<(), LedgerError> {
        self.begin()?;
        for answer in answers {
            self.execute(
                TRAIN.insert(),
                (train.0, answer.epoch, answer.train_loss, answer.train_seconds, &answer.artifact, answer.bytes as i64),
            )?;
            if !answer.facts.is_empty() {
                self.execute(FACTS.insert(), (train.0, answer.epoch, to_json(&answer.facts)))?;
            }
        }
        Ok(())
    }

    /// Stores one shard's levels; an answer that is there already stays.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_levels(&mut self, task: TaskKey, answer: &EvaluateAnswer) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute(
            LEVELS.insert(),
            (task.0, answer.family.0, to_json(&answer.epsilons), answer.first, levels_to_json(&answer.levels)),
        )?;
        if let Some(WitnessAnswer { artifact, count, bytes }) = &answer.witnesses {
            self.execute(WITNESSES.insert(), (task.0, artifact, count, *bytes as i64))?;
        }
        if let Some(trust) = &answer.trust {
            self.execute(TRUST.insert(), (task.0, to_json(trust)))?;
        }
        Ok(())
    }

    /// Stores what an accepted attempt took.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_cost(&mut self, cost: &Cost) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute(
            "INSERT INTO costs (task, attempt, kind, worker, seconds, forwards, backwards, examples)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                cost.task.0,
                cost.attempt,
                &cost.kind,
                &cost.worker,
                cost.seconds,
                cost.forwards as i64,
                cost.backwards as i64,
                cost.examples as i64,
            ),
        )
    }

    /// Notes who took part.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_worker(&mut self, worker: &WorkerInfo, at_ms: i64) -> Result<(), LedgerError> {
        self.begin()?;
        self.execute(
            "INSERT OR IGNORE INTO workers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (&worker.worker, &worker.host, worker.slots, &worker.device, &worker.version, &worker.libtorch, at_ms),
        )
    }

    /// The artifact id of a checkpoint; none where its row is damaged.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn checkpoint(&self, train: TaskKey, epoch: u32) -> Result<Option<String>, LedgerError> {
        let query = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT artifact FROM train_answers r WHERE train = ?1 AND epoch = ?2 AND {}",
                    self.is_sound(&TRAIN)
                ))?
                .query_row((train.0, epoch), |row| row.get(0))
                .optional()
        };
        query().map_err(|source| self.fails(source))
    }

    /// Earlier answers of a question's family; damaged ones are left out.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn known(&self, family: TaskKey) -> Result<Vec<Known>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<(String, String)>> {
            self.connection
                .prepare_cached(&format!(
                    "SELECT epsilons, levels FROM evaluate_answers r WHERE family = ?1 AND {} ORDER BY task",
                    self.is_sound(&LEVELS)
                ))?
                .query_map([family.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        let rows = query().map_err(|source| self.fails(source))?;
        rows.iter()
            .map(|(epsilons, levels)| {
                let parse = || -> serde_json::Result<Known> {
                    Ok(Known { epsilons: serde_json::from_str(epsilons)?, levels: serde_json::from_str(levels)? })
                };
                parse().map_err(|error| self.corrupt(format!("evaluate_answers: {error}")))
            })
            .collect()
    }
}

/// As `to_json`, in a tenth of the time where all levels have one digit: most of what is stored are levels.
fn levels_to_json(levels: &[Level]) -> String {
    if levels.is_empty() || levels.iter().any(|level| level.0 > 9) {
        return to_json(&levels);
    }
    let mut json = vec![b','; 2 * levels.len() + 1];
    for (digit_and_comma, level) in json[1..].chunks_exact_mut(2).zip(levels) {
        digit_and_comma[0] = b'0' + level.0 as u8;
    }
    json[0] = b'[';
    json[2 * levels.len()] = b']';
    String::from_utf8(json).expect("digits and commas")
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("rows hold text, finite numbers and lists of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_json_in_either_way() {
        for levels in [vec![], vec![0], vec![9, 0, 3], vec![1, 10, 2], vec![65535]] {
            let levels: Vec<Level> = levels.into_iter().map(Level).collect();
            assert_eq!(levels_to_json(&levels), to_json(&levels));
        }
    }
}
