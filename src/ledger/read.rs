//! What a sweep has found so far, gathered for the report.

use super::sums::{FACTS, LEVELS, TRAIN};
use super::{Cost, Damaged, Ledger, LedgerError, StoredSweep, WorkerInfo, is_missing_table};
use crate::engine::{Failure, Record};
use crate::frontier::results::{CertificateName, CheckpointResults, Results, TrialResults, TrialStatus};
use crate::outcome::Level;
use crate::plan::facts::Facts;
use crate::plan::{Plan, Task, TaskKey, Work};
use crate::trust::Trust;
use rusqlite::OptionalExtension;
use std::collections::{HashMap, HashSet};

/// By training run and epoch: one list of levels per attack or certificate.
type Levels = HashMap<(TaskKey, u32), Vec<Vec<Level>>>;

/// A task that failed for good.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedTask {
    pub task: TaskKey,
    pub worker: String,
    pub attempt: u32,
    pub failure: Failure,
    pub message: String,
}

/// Everything a report is made from, but the file's own text.
#[derive(Debug, Clone)]
pub struct SweepResults {
    pub results: Results,
    pub costs: Vec<Cost>,
    pub workers: Vec<WorkerInfo>,
    pub failures: Vec<FailedTask>,
    /// Attempts that were given back or failed, and then repeated.
    pub retries: u64,
    /// Rows of answers and records that are not as they were written: what they said is missing here.
    pub damaged: Vec<Damaged>,
    /// Tasks answered, and tasks in all.
    pub answered: usize,
    pub tasks: usize,
}

/// By training run and epoch.
type ByCheckpoint = HashMap<(TaskKey, u32), Evaluated>;

/// What is known of one checkpoint, by attack.
#[derive(Default)]
struct Evaluated {
    levels: Vec<Vec<Level>>,
    trust: Vec<Option<Trust>>,
}

impl Ledger {
    /// Finds the sweep called `name`, or the latest one when no name is given.
    ///
    /// # Errors
    /// When there is none, or SQLite fails.
    pub fn find_sweep(&self, name: Option<&str>) -> Result<StoredSweep, LedgerError> {
        let mut sweeps = self.sweeps()?;
        let found = match name {
            Some(name) => sweeps.iter().position(|sweep| sweep.name == name),
            None => sweeps.len().checked_sub(1),
        };
        match found {
            Some(position) => Ok(sweeps.swap_remove(position)),
            None => {
                let names: Vec<_> = sweeps.into_iter().map(|sweep| sweep.name).collect();
                let known = if names.is_empty() {
                    "nothing was run there yet".into()
                } else {
                    format!("it holds: {}", names.join(", "))
                };
                let named = name.map(|name| format!(" called {name:?}")).unwrap_or_default();
                Err(LedgerError::NoSweep { dir: self.dir().into(), named, known })
            }
        }
    }

    /// Gathers the results of a sweep whose plan was rebuilt from the stored file.
    ///
    /// # Errors
    /// When SQLite fails or a row cannot be understood.
    pub fn results(&self, stored: &StoredSweep, plan: &Plan) -> Result<SweepResults, LedgerError> {
        let (failed, retries) = self.failures(plan)?;
        let mut trials = Vec::with_capacity(plan.trials.len());
        let mut open = vec![false; plan.trials.len()];
        let (mut levels, mut certified, mut answered) = self.levels(plan, &mut open)?;
        let (measured, more) = self.measured(plan, &mut open)?;
        answered += more;
        let mut failure_of: HashMap<u32, &FailedTask> = HashMap::new();
        for task in &plan.tasks {
            if let Some(failure) = failed.get(&task.key) {
                failure_of.entry(task.trial).or_insert(failure);
            }
        }
        for (position, (planned, trial)) in plan.trials.iter().zip(&plan.sweep.trials).enumerate() {
            let mut checkpoints = self.checkpoints(planned.key, &planned.keep, &mut levels)?;
            for checkpoint in &mut checkpoints {
                checkpoint.certified = certified.remove(&(planned.key, checkpoint.epoch)).unwrap_or_default();
                let of = |measure| measured.get(&(planned.key, checkpoint.epoch, measure)).cloned();
                checkpoint.measured = (0..plan.sweep.measures.len() as u16).map(of).collect();
            }
            let complete = checkpoints.len() == planned.keep.len();
            answered += usize::from(complete);
            let status = match failure_of.get(&(position as u32)) {
                // What failed was asked by another sweep: more epochs of the same training run.
                _ if complete && !open[position] => TrialStatus::Done,
                Some(failure) => TrialStatus::Failed(failure.message.clone()),
                None if stored.state == "cancelled" => TrialStatus::Cancelled,
                None => TrialStatus::Pending,
            };
            trials.push(TrialResults {
                trial: planned.key.short(),
                config: planned.config.clone(),
                axes: trial.axes.clone(),
                seed: trial.seed,
                status,
                checkpoints,
            });
        }
        let sweep = &plan.sweep;
        let results = Results {
            sweep: sweep.name.clone(),
            axes: sweep.axes.clone(),
            norm: format!("{:?}", sweep.evaluate.norm).to_lowercase(),
            epsilons: sweep.evaluate.epsilons.clone(),
            attacks: sweep.evaluate.attacks.iter().map(|attack| attack.name.clone()).collect(),
            examples: plan.examples as usize,
            certificates: sweep.evaluate.certify.iter().map(CertificateName::of).collect(),
            measures: sweep.measures.clone(),
            trials,
        };
        let keys: HashSet<TaskKey> = plan.tasks.iter().map(|task| task.key).collect();
        let costs: Vec<Cost> = self.costs()?.into_iter().filter(|cost| keys.contains(&cost.task)).collect();
        let workers = self.workers_of(&costs)?;
        let of_failed = |task: &&Task| matches!(results.trials[task.trial as usize].status, TrialStatus::Failed(_));
        let failures = plan.tasks.iter().filter(of_failed).filter_map(|task| failed.get(&task.key).cloned()).collect();
        let damaged = self.damaged_answers()?;
        Ok(SweepResults { results, costs, workers, failures, retries, damaged, answered, tasks: plan.tasks.len() })
    }

    /// The levels of every checkpoint: one list per attack, and one per certificate. Marks the
    /// trials that still lack a shard, and counts the shards that are there.
    fn levels(&self, plan: &Plan, open: &mut [bool]) -> Result<(ByCheckpoint, Levels, usize), LedgerError> {
        let fails = |source| self.fails(source);
        let sql = format!("SELECT levels FROM evaluate_answers r WHERE task = ?1 AND {}", self.is_sound(&LEVELS));
        let mut statement = self.connection.prepare(&sql).map_err(fails)?;
        let attacks = plan.sweep.evaluate.attacks.len();
        let certificates = plan.sweep.evaluate.certify.len();
        let (mut levels, mut certified) = (ByCheckpoint::new(), Levels::new());
        let mut answered = 0;
        for task in &plan.tasks {
            let (certifies, list, epoch, examples) = match task.work {
                Work::Train | Work::Measure { .. } => continue,
                Work::Evaluate { epoch, attack, examples } => (false, attack, epoch, examples),
                Work::Certify { epoch, certificate, examples } => (true, certificate, epoch, examples),
            };
            let found: Option<String> =
                statement.query_row([task.key.0], |row| row.get(0)).optional().map_err(fails)?;
            let Some(json) = found else {
                open[task.trial as usize] = true;
                continue;
            };
            answered += 1;
            let shard: Vec<Level> = serde_json::from_str(&json)
                .ok()
                .filter(|shard: &Vec<Level>| shard.len() == (examples[1] - examples[0]) as usize)
                .ok_or_else(|| self.corrupt(format!("the levels of task {}", task.key.short())))?;
            let train = plan.trials[task.trial as usize].key;
            if certifies {
                let all = certified
                    .entry((train, epoch))
                    .or_insert_with(|| vec![vec![Level::UNKNOWN; plan.examples as usize]; certificates]);
                all[usize::from(list)][examples[0] as usize..examples[1] as usize].copy_from_slice(&shard);
                continue;
            }
            let all = levels.entry((train, epoch)).or_insert_with(|| Evaluated {
                levels: vec![vec![Level::UNKNOWN; plan.examples as usize]; attacks],
                trust: vec![None; attacks],
            });
            all.levels[usize::from(list)][examples[0] as usize..examples[1] as usize].copy_from_slice(&shard);
            if let Some(trust) = self.trust(task.key)? {
                all.trust[usize::from(list)].get_or_insert_default().merge(&trust);
            }
        }
        Ok((levels, certified, answered))
    }

    fn checkpoints(
        &self,
        train: TaskKey,
        keep: &[u32],
        levels: &mut ByCheckpoint,
    ) -> Result<Vec<CheckpointResults>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<CheckpointResults>> {
            let sql = format!(
                "SELECT epoch, train_loss, train_seconds FROM train_answers r WHERE train = ?1 AND {} ORDER BY epoch",
                self.is_sound(&TRAIN)
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map([train.0], |row| {
                let epoch = row.get(0)?;
                let (train_loss, train_seconds) = (row.get(1)?, row.get(2)?);
                let (facts, levels, trust, certified, measured) = Default::default();
                Ok(CheckpointResults { epoch, train_loss, train_seconds, facts, levels, trust, certified, measured })
            })?;
            rows.collect()
        };
        let mut found = query().map_err(|source| self.fails(source))?;
        found.retain(|checkpoint| keep.contains(&checkpoint.epoch));
        for checkpoint in &mut found {
            let found = levels.remove(&(train, checkpoint.epoch)).unwrap_or_default();
            (checkpoint.levels, checkpoint.trust) = (found.levels, found.trust);
            checkpoint.facts = self.facts(train, checkpoint.epoch)?;
        }
        Ok(found)
    }

    /// What training said about a checkpoint; nothing in a ledger from before it was asked.
    pub(super) fn facts(&self, train: TaskKey, epoch: u32) -> Result<Facts, LedgerError> {
        let query = || {
            let sound = self.is_sound(&FACTS);
            let sql = format!("SELECT facts FROM checkpoint_facts r WHERE train = ?1 AND epoch = ?2 AND {sound}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_row((train.0, epoch), |row| row.get::<_, String>(0)).optional()
        };
        match query() {
            Ok(None) => Ok(Facts::default()),
            Ok(Some(json)) => {
                serde_json::from_str(&json).map_err(|error| self.corrupt(format!("checkpoint_facts: {error}")))
            }
            Err(error) if is_missing_table(&error) => Ok(Facts::default()),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// Tasks of the plan whose last word is a fatal failure, and how many attempts were repeated.
    fn failures(&self, plan: &Plan) -> Result<(HashMap<TaskKey, FailedTask>, u64), LedgerError> {
        let ours: HashSet<TaskKey> = plan.tasks.iter().map(|task| task.key).collect();
        let mut failed = HashMap::new();
        let mut retries = 0;
        self.replay(|record| match record {
            Record::Failed { lease, worker, failure, message, fatal } if ours.contains(&lease.task) => {
                retries += u64::from(!fatal);
                if fatal {
                    let worker = worker.to_string();
                    let entry = FailedTask { task: lease.task, worker, attempt: lease.attempt, failure, message };
                    failed.insert(lease.task, entry);
                }
            }
            Record::Released { lease, .. } => retries += u64::from(ours.contains(&lease.task)),
            Record::Committed { lease, .. } => drop(failed.remove(&lease.task)),
            Record::Revived { task } => drop(failed.remove(&task)),
            _ => {}
        })?;
        for (task, more) in self.retried()? {
            retries += if ours.contains(&task) { more } else { 0 };
        }
        Ok((failed, retries))
    }

    /// When a sweep's tasks were at work: Unix milliseconds of the first lease and of the last answer, and the
    /// seconds during which anything was leased. Nights between two runs do not count.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn busy(&self, stored: &StoredSweep) -> Result<Option<(i64, i64, f64)>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<(i64, i64)>> {
            let leased = if self.has_sums() { "coalesce(h.leased_ms, h.at_ms)" } else { "h.at_ms" };
            let sql = format!(
                "SELECT min({leased}), max(h.at_ms) FROM history h
                 WHERE h.task IN (SELECT task FROM sweep_tasks WHERE sweep = ?1) GROUP BY h.task, h.attempt"
            );
            self.connection.prepare(&sql)?.query_map([stored.id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let mut spans = query().map_err(|source| self.fails(source))?;
        spans.sort_unstable();
        let (Some(&(first, _)), Some(last)) = (spans.first(), spans.iter().map(|span| span.1).max()) else {
            return Ok(None);
        };
        let (mut busy, mut until) = (0, i64::MIN);
        for (start, end) in spans {
            busy += (end - start.max(until)).max(0);
            until = until.max(end);
        }
        Ok(Some((first, last, busy as f64 / 1000.0)))
    }

    /// How many tasks of a sweep had been answered when it was handed in.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn answered_before(&self, stored: &StoredSweep) -> Result<u64, LedgerError> {
        let sql = "SELECT count(DISTINCT task) FROM history WHERE event = 'committed' AND at_ms < ?2
                   AND task IN (SELECT task FROM sweep_tasks WHERE sweep = ?1)";
        let count = self.connection.query_row(sql, (stored.id, stored.submitted_ms), |row| row.get::<_, i64>(0));
        count.map(|count| count as u64).map_err(|source| self.fails(source))
    }

    /// What every accepted attempt took, of all sweeps.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn costs(&self) -> Result<Vec<Cost>, LedgerError> {
        let query = || -> rusqlite::Result<Vec<Cost>> {
            // An attempt is answered once; what was copied from a damaged ledger may stand here twice.
            let sql = "SELECT task, attempt, kind, worker, seconds, forwards, backwards, examples FROM costs
                       GROUP BY task, attempt";
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Cost {
                    task: TaskKey(row.get(0)?),
                    attempt: row.get(1)?,
                    kind: row.get(2)?,
                    worker: row.get(3)?,
                    seconds: row.get(4)?,
                    forwards: row.get::<_, i64>(5)? as u64,
                    backwards: row.get::<_, i64>(6)? as u64,
                    examples: row.get::<_, i64>(7)? as u64,
                })
            })?;
            rows.collect()
        };
        query().map_err(|source| self.fails(source))
    }

    /// The workers that committed something of it.
    fn workers_of(&self, costs: &[Cost]) -> Result<Vec<WorkerInfo>, LedgerError> {
        let names: HashSet<&str> = costs.iter().map(|cost| cost.worker.as_str()).collect();
        let query = || -> rusqlite::Result<Vec<WorkerInfo>> {
            let sql =
                "SELECT worker, host, slots, device, version, libtorch FROM workers ORDER BY first_seen_ms, worker";
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(WorkerInfo {
                    worker: row.get(0)?,
                    host: row.get(1)?,
                    slots: row.get(2)?,
                    device: row.get(3)?,
                    version: row.get(4)?,
                    libtorch: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        let mut workers = query().map_err(|source| self.fails(source))?;
        workers.retain(|worker| names.contains(worker.worker.as_str()));
        Ok(workers)
    }
}
