//! What the log says of a record, and the reasons of failure that outlive the moment.

use super::core::Core;
use super::live::Fatal;
use crate::engine::{Failure, Lease, Record};

impl Core {
    /// One log line per state change, with the fields that people grep for.
    pub(super) fn log(&self, record: &Record) {
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
