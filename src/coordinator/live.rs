//! Sweeps as the coordinator holds them: their plan, and what a lease needs from it.

use super::core::Refused;
use crate::engine::{KindCounts, Lease, Status, SweepId, SweepProgress, SweepState};
use crate::ledger::Steering;
use crate::outcome::Known;
use crate::plan::{KeyIndex, Plan, Question, TaskKey, Work};
use crate::proto;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::codegen::Bytes;

/// Why tasks failed for good, for as long as that is their last word.
pub(super) type Fatal = BTreeMap<TaskKey, String>;

/// A sweep that was admitted in this process's life.
#[derive(Debug)]
pub(super) struct LiveSweep {
    pub id: SweepId,
    pub plan: Arc<Plan>,
    /// JSON: where the data lies.
    dataset: Bytes,
    index: KeyIndex,
    pub report: Option<String>,
    pub steering: Steering,
}

impl LiveSweep {
    pub fn new(id: SweepId, plan: Arc<Plan>) -> LiveSweep {
        let (mut index, count) = (KeyIndex::default(), plan.tasks.len());
        let key_at = |position: u32| &plan.tasks[position as usize].key;
        index.reserve(count, key_at);
        (0..count as u32).for_each(|position| index.insert(position, key_at));
        let dataset = serde_json::to_vec(&plan.sweep.dataset).expect("a data set is a name and a path").into();
        LiveSweep { id, plan, dataset, index, report: None, steering: Steering::default() }
    }

    pub fn position(&self, task: TaskKey) -> Option<u32> {
        self.index.get(task, |position| &self.plan.tasks[position as usize].key)
    }

    /// The words that logs use for a task: its trial's short id, and its kind.
    pub fn words(&self, task: TaskKey) -> Option<(String, &'static str)> {
        let task = &self.plan.tasks[self.position(task)? as usize];
        Some((self.plan.trials[task.trial as usize].key.short(), task.work.kind()))
    }

    pub fn kind(&self, task: TaskKey) -> Option<&'static str> {
        Some(self.plan.tasks[self.position(task)? as usize].work.kind())
    }

    /// The tasks whose ids, or whose trials' ids, begin so; in plan order, never empty.
    pub fn matching(&self, prefix: &str) -> Result<Vec<TaskKey>, Refused> {
        if !prefix.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Refused::NotAnId(prefix.into()));
        }
        let prefix = prefix.to_ascii_lowercase();
        let begins = |key: &TaskKey| key.to_string().starts_with(&prefix);
        let trials: Vec<bool> = self.plan.trials.iter().map(|trial| begins(&trial.key)).collect();
        let tasks = self.plan.tasks.iter().filter(|task| trials[task.trial as usize] || begins(&task.key));
        let found: Vec<TaskKey> = tasks.map(|task| task.key).collect();
        match found.is_empty() {
            true => Err(Refused::NoSuchTask { name: self.plan.sweep.name.clone(), prefix }),
            false => Ok(found),
        }
    }

    /// A trial as people know it: its axes and seed.
    pub fn trial_name(&self, task: TaskKey) -> Option<String> {
        let task = &self.plan.tasks[self.position(task)? as usize];
        let trial = &self.plan.sweep.trials[task.trial as usize];
        let axes = self.plan.sweep.axes.iter().zip(&trial.axes).map(|(axis, value)| format!("{axis}={value} "));
        Some(format!("{}seed={}", axes.collect::<String>(), trial.seed))
    }

    /// Writes a lease out in full. `keep` may be more than this sweep wants: others share its training
    /// runs. `question` is its canonical form; `checkpoint` and `known` are looked up by the caller.
    pub fn lease(
        &self,
        lease: Lease,
        question: Vec<u8>,
        keep: Vec<u32>,
        checkpoint: String,
        known: Vec<Known>,
    ) -> Option<proto::Lease> {
        let position = self.position(lease.task)?;
        let task = &self.plan.tasks[position as usize];
        let trial = &self.plan.trials[task.trial as usize];
        let recipe = &self.plan.sweep.trials[task.trial as usize].recipe;
        // Evaluations need none: a checkpoint holds all that was given.
        let training = task.work == Work::Train;
        let inputs = recipe.files().filter_map(|file| training.then(|| file.digest().map(str::to_string))?).collect();
        let known = known.into_iter().map(|known| proto::Known {
            epsilons: known.epsilons,
            levels: known.levels.iter().map(|level| u32::from(level.0)).collect(),
        });
        Some(proto::Lease {
            id: Some(lease.into()),
            kind: task.work.kind().into(),
            question: question.into(),
            dataset: self.dataset.clone(),
            keep,
            checkpoint,
            known: known.collect(),
            sweep: self.plan.sweep.name.clone(),
            trial: trial.key.short(),
            inputs,
            ..proto::Lease::default()
        })
    }

    pub fn question(&self, task: TaskKey) -> Option<Question> {
        Some(self.plan.question(self.position(task)?))
    }

    /// One line for each of its tasks that failed for good.
    pub fn failures<'a>(&'a self, fatal: &'a Fatal) -> impl Iterator<Item = String> + 'a {
        fatal.iter().filter_map(|(&task, message)| Some(format!("{}: {message}", self.trial_name(task)?)))
    }

    /// The word for where it stands.
    pub fn state(&self, progress: &SweepProgress) -> &'static str {
        let failed = progress.train.of(Status::Failed) + progress.evaluate.of(Status::Failed) > 0;
        match progress.state {
            SweepState::Running if progress.paused => "paused",
            SweepState::Running => "running",
            SweepState::Finished if failed => "failed",
            SweepState::Finished => "done",
            SweepState::Cancelled => "cancelled",
        }
    }

    /// How far it is, as clients see it.
    pub fn status(&self, progress: &SweepProgress, (workers, slots): (u32, u32), fatal: &Fatal) -> proto::SweepStatus {
        let counts = |counts: &KindCounts| proto::Counts {
            total: counts.total(),
            done: counts.of(Status::Done),
            running: counts.of(Status::Leased),
            failed: counts.of(Status::Failed) + counts.of(Status::Skipped),
        };
        proto::SweepStatus {
            sweep: self.plan.sweep.name.clone(),
            state: self.state(progress).into(),
            trials: self.plan.trials.len() as u32,
            train: Some(counts(&progress.train)),
            evaluate: Some(counts(&progress.evaluate)),
            remaining_seconds: progress.remaining_seconds.unwrap_or(-1.0),
            workers,
            slots,
            failures: self.failures(fatal).take(20).collect(),
            report: self.report.clone().unwrap_or_default(),
            progress: progress.progress,
            waits: String::new(),
            set_aside: Vec::new(),
            priority: progress.priority,
            paused: self.steering.paused.clone().filter(|_| progress.paused).unwrap_or_default(),
        }
    }
}
