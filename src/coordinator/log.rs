//! What the log says of a record, and the reasons of failure that outlive the moment.

use super::core::Core;
use super::live::Fatal;
use crate::engine::{Failure, Lease, Record, SweepId, WorkerId};
use std::collections::BTreeMap;

/// So many leases, and as many answers, have a line each in one round of the core, of milliseconds. Where tasks are so
/// short that there are more, nobody reads them one by one, and their lines would be a tenth of all work.
const LINES: u32 = 64;

/// What a line says of many: `leased` or `committed`, the sweep, the worker, the kind of task.
type Said = (&'static str, SweepId, WorkerId, &'static str);

/// What has been said in one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    leased: u32,
    committed: u32,
    /// How many more, and the seconds of those that were answered.
    more: BTreeMap<Said, (u64, f64)>,
}

impl Round {
    fn count(&mut self, said: Said, seconds: f64) {
        let (tasks, sum) = self.more.entry(said).or_default();
        (*tasks, *sum) = (*tasks + 1, *sum + seconds);
    }
}

/// An answer that was accepted.
pub(super) struct Committed<'a> {
    pub lease: Lease,
    pub sweep: SweepId,
    pub worker: &'a str,
    pub kind: &'static str,
    pub seconds: f64,
}

impl Core {
    /// The line of an answer that was taken in.
    pub(super) fn log_committed(&mut self, committed: &Committed) {
        let &Committed { lease, sweep, worker, kind, seconds } = committed;
        self.said.committed += 1;
        if self.said.committed > LINES {
            return self.said.count(("committed", sweep, worker.into(), kind), seconds);
        }
        let Some(live) = self.sweeps.get(&sweep) else { return };
        let (trial, _) = live.words(lease.task).unwrap_or_default();
        let (sweep, task, attempt) = (&live.plan.sweep.name, lease.task.short(), lease.attempt);
        tracing::info!(sweep, trial, task, attempt, worker, kind, seconds, verdict = "Accepted", "committed");
    }

    /// The last lines of a round: what had none of its own.
    pub(super) fn log_round(&mut self) {
        for ((what, sweep, worker, kind), (tasks, seconds)) in std::mem::take(&mut self.said).more {
            let (sweep, worker) = (self.sweeps.get(&sweep).map(|live| &live.plan.sweep.name), &*worker);
            match what {
                "leased" => tracing::info!(sweep, worker, kind, tasks, "more leased"),
                _ => tracing::info!(sweep, worker, kind, tasks, seconds, "more committed"),
            }
        }
    }

    /// One log line per state change, with the fields that people grep for.
    pub(super) fn log(&mut self, record: &Record) {
        if let Record::Leased { lease, worker } = record {
            self.said.leased += 1;
            // A second attempt is news.
            if self.said.leased > LINES && lease.attempt == 1 {
                let live = self.sweeps.values().rev().find(|live| live.position(lease.task).is_some());
                if let Some((id, kind)) = live.and_then(|live| Some((live.id, live.kind(lease.task)?))) {
                    self.said.count(("leased", id, worker.clone(), kind), 0.0);
                }
                return;
            }
        }
        let (lease, worker) = match record {
            Record::Leased { lease, worker }
            | Record::Committed { lease, worker, .. }
            | Record::Failed { lease, worker, .. } => (*lease, &**worker),
            Record::Released { lease, .. } => (*lease, ""),
            Record::Revived { task } | Record::Withdrawn { task, .. } => (Lease { task: *task, attempt: 0 }, ""),
        };
        let live = self.sweeps.values().rev().find(|live| live.position(lease.task).is_some());
        let sweep = live.map(|live| &*live.plan.sweep.name).unwrap_or_default();
        let (trial, kind) = live.and_then(|live| live.words(lease.task)).unwrap_or_default();
        let (task, attempt) = (lease.task.short(), lease.attempt);
        match record {
            Record::Leased { .. } => tracing::info!(sweep, trial, task, attempt, worker, kind, "leased"),
            Record::Released { why, .. } => tracing::warn!(sweep, trial, task, attempt, kind, why, "released"),
            // Logged by `commit`, which knows the seconds.
            Record::Committed { .. } => {}
            Record::Failed { failure, message, fatal, .. } => {
                let called_off = *failure == Failure::Preempted;
                let failure = failure.name();
                if called_off {
                    tracing::info!(sweep, trial, task, attempt, worker, kind, reason = message, "handed back");
                } else if *fatal {
                    tracing::error!(
                        sweep,
                        trial,
                        task,
                        attempt,
                        worker,
                        kind,
                        failure,
                        reason = message,
                        "failed for good"
                    );
                } else {
                    tracing::warn!(
                        sweep,
                        trial,
                        task,
                        attempt,
                        worker,
                        kind,
                        failure,
                        reason = message,
                        "failed, will be tried again"
                    );
                }
            }
            Record::Withdrawn { .. } => tracing::warn!(sweep, trial, task, kind, "its answer is gone: it runs again"),
            Record::Revived { .. } => tracing::info!(sweep, trial, task, kind, "gets another chance"),
        }
    }
}

/// Keeps the reasons of final failures, live and replayed alike.
pub(super) fn remember(fatal: &mut Fatal, record: &Record) {
    match record {
        Record::Failed { lease, message, fatal: true, .. } => drop(fatal.insert(lease.task, message.clone())),
        Record::Committed { lease, .. } => drop(fatal.remove(&lease.task)),
        Record::Revived { task } => drop(fatal.remove(task)),
        _ => {}
    }
}
