//! What anything that does not run waits for.

use super::task::{Outlook, Work};
use super::{Engine, Failure, Millis, Status, SweepId, TaskId, WorkerId};
use crate::plan::TaskKey;

/// Why a task does not run, or that it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Answered,
    Running {
        worker: WorkerId,
        attempt: u32,
        since: Millis,
    },
    /// Its checkpoint is not there yet: this training run makes it.
    Checkpoint {
        train: TaskKey,
    },
    /// Its training run failed for good.
    NoCheckpoint {
        train: TaskKey,
    },
    /// Its retries are used up: failures of each kind since the last answer or retry.
    Quarantined {
        diverged: bool,
        failures: Vec<(Failure, u32)>,
    },
    /// Its sweep was cancelled.
    Cancelled,
    Paused,
    /// The coordinator is about to end.
    Draining,
    NoWorker,
    /// No connected worker has this many seconds left, but `most` at the most.
    NoTime {
        needed: u64,
        most: u64,
    },
    /// It has failed wherever it could be tried, and is tried again in so many seconds.
    Rests {
        seconds: u64,
    },
    /// Its turn will come: every slot is taken, or workers are about to ask.
    Queued,
}

/// A running sweep's part of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub sweep: SweepId,
    pub priority: u32,
    pub paused: bool,
    /// Leases that count for it.
    pub running: u64,
    /// Tasks that could start.
    pub ready: u64,
}

impl Engine {
    /// Every task of a sweep, with what it waits for.
    pub fn why(&self, sweep: SweepId) -> impl Iterator<Item = (TaskKey, Why)> + '_ {
        let tasks = self.sweeps.get(&sweep).map(|entry| entry.tasks.as_slice()).unwrap_or_default();
        tasks.iter().map(move |&id| (self.tasks[id.0 as usize].key, self.why_task(sweep, id)))
    }

    /// Of one task; `None` when nobody has ever mentioned it.
    pub fn why_of(&self, sweep: SweepId, task: TaskKey) -> Option<Why> {
        Some(self.why_task(sweep, self.find(task)?))
    }

    fn why_task(&self, sweep: SweepId, id: TaskId) -> Why {
        let task = &self.tasks[id.0 as usize];
        let train = || match task.work {
            Work::Evaluate { train, .. } => self.tasks[train.0 as usize].key,
            Work::Train | Work::Unknown => task.key,
        };
        match task.status {
            Status::Done => Why::Answered,
            Status::Leased => {
                let held = &self.leases[&id];
                Why::Running { worker: held.worker.clone(), attempt: held.attempt, since: held.since }
            }
            Status::Failed => Why::Quarantined {
                diverged: task.failures.outlook == Outlook::Hopeless,
                failures: Failure::ALL
                    .map(|kind| (kind, task.failures.of(kind)))
                    .into_iter()
                    .filter(|f| f.1 > 0)
                    .collect(),
            },
            Status::Skipped => Why::NoCheckpoint { train: train() },
            Status::Blocked | Status::Ready if !self.running.contains(&sweep) => Why::Cancelled,
            Status::Blocked => Why::Checkpoint { train: train() },
            Status::Ready if self.draining => Why::Draining,
            Status::Ready if self.sweeps_of(id).iter().all(|sweep| self.sweeps[sweep].paused) => Why::Paused,
            Status::Ready if self.workers.is_empty() => Why::NoWorker,
            Status::Ready => match (self.lacks_time(id), self.rests_for(id)) {
                (Some((needed, most)), _) => Why::NoTime { needed, most },
                (None, Some(rest)) if !self.workers.keys().any(|worker| self.may_try(worker, id)) => {
                    Why::Rests { seconds: rest.div_ceil(1000) }
                }
                _ => Why::Queued,
            },
        }
    }

    /// A sweep's tasks that failed for good: those that a retry may help, and those that diverged.
    pub fn failed(&self, sweep: SweepId) -> (u64, u64) {
        let tasks = self.sweeps.get(&sweep).map(|entry| entry.tasks.as_slice()).unwrap_or_default();
        let failed = tasks.iter().map(|id| &self.tasks[id.0 as usize]).filter(|task| task.status == Status::Failed);
        let (diverged, retried): (Vec<_>, Vec<_>) = failed.partition(|task| task.failures.outlook == Outlook::Hopeless);
        (retried.len() as u64, diverged.len() as u64)
    }

    /// How many ready tasks of its sweep come before a task that is ready itself.
    pub fn queue_position(&self, sweep: SweepId, task: TaskKey) -> Option<u64> {
        let (id, entry) = (self.find(task)?, self.sweeps.get(&sweep)?);
        let seconds = self.tasks[id.0 as usize].seconds;
        entry.ready.contains(id, seconds).then(|| entry.ready.ahead_of(id, seconds) as u64)
    }

    /// The running sweeps and their parts of the slots.
    pub fn shares(&self) -> Vec<Share> {
        let share = |&sweep: &SweepId| {
            let entry = &self.sweeps[&sweep];
            let counts = |held: &&super::leases::Held| held.charged.is_some_and(|(charged, _)| charged == sweep);
            let running = self.leases.values().chain(self.copies.values()).filter(counts).count() as u64;
            Share { sweep, priority: entry.priority, paused: entry.paused, running, ready: entry.ready.len() as u64 }
        };
        self.running.iter().map(share).collect()
    }
}
