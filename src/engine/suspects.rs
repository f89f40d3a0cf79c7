//! Workers that fail what others can do: a bad one must neither use up a task's retries nor waste the sweep.
//!
//! A task that failed in a way that may be the worker's fault goes to another worker, as long as one is
//! connected that has not tried. A worker that fails one task after another is set aside for a while, longer each
//! time, and back in favour with its first answer. Both hold only while somebody else is there.

use super::{Effect, Engine, Failure, Millis, TaskId, WorkerId};

/// So many failures in a row, and a worker is set aside.
const STRIKES: u32 = 3;
/// For so long at first, doubled each time.
const FIRST_SUSPENSION: Millis = 10_000;
const LONGEST_SUSPENSION: Millis = 600_000;

/// What is known of a worker's work. Not durable: a restart forgives.
#[derive(Debug)]
pub(super) struct Reputation {
    /// Failures that may be its fault since its last answer.
    strikes: u32,
    /// Gets nothing until then.
    aside_until: Millis,
    last_failure: String,
    /// Seconds it takes over those that were expected, lately.
    pub pace: f64,
}

impl Default for Reputation {
    fn default() -> Self {
        Reputation { strikes: 0, aside_until: 0, last_failure: String::new(), pace: 1.0 }
    }
}

/// A worker that gets nothing for the time being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub worker: WorkerId,
    pub failures: u32,
    pub last: String,
    pub remaining: Millis,
}

impl Engine {
    /// An attempt has failed.
    pub(super) fn blame(&mut self, name: &WorkerId, failure: Failure, message: &str, now: Millis) {
        let Some(worker) = self.workers.get_mut(name).filter(|_| failure.may_be_the_workers()) else { return };
        let reputation = &mut worker.reputation;
        reputation.strikes += 1;
        reputation.last_failure = format!("{}: {message}", failure.name());
        if reputation.strikes >= STRIKES {
            let doublings = (reputation.strikes - STRIKES).min(16);
            reputation.aside_until = now + (FIRST_SUSPENSION << doublings).min(LONGEST_SUSPENSION);
        }
    }

    /// An answer was accepted, after so many seconds.
    pub(super) fn praise(&mut self, name: &WorkerId, id: TaskId, seconds: f64) {
        let task = &self.tasks[id.0 as usize];
        let expected = self.measured.expected(task.kind(), task.seconds).unwrap_or(0.0);
        let Some(worker) = self.workers.get_mut(name) else { return };
        let reputation = &mut worker.reputation;
        (reputation.strikes, reputation.aside_until) = (0, 0);
        let pace = seconds / expected;
        if pace.is_finite() && pace > 0.0 {
            reputation.pace = 0.7 * reputation.pace + 0.3 * pace.clamp(0.05, 20.0);
        }
    }

    /// Whether a worker gets nothing for now. When all are suspected, the tasks are likelier at fault.
    pub(super) fn is_set_aside(&self, name: &WorkerId) -> bool {
        let suspended = |worker: &super::leases::Worker| worker.reputation.aside_until > self.now;
        self.workers.get(name).is_some_and(suspended) && self.workers.values().any(|worker| !suspended(worker))
    }

    /// Whether a task is for this worker: it can finish it, and has not failed at it, or there is nobody else to try and
    /// the task has rested.
    pub(super) fn may_try(&self, name: &WorkerId, id: TaskId) -> bool {
        if !self.finishes(name, id) {
            return false;
        }
        match self.blamed.get(&id) {
            Some(blamed) if blamed.contains(name) => {
                let other = |other: &WorkerId| !blamed.contains(other) && !self.is_set_aside(other);
                self.rests_for(id).is_none() && !self.workers.keys().any(other)
            }
            _ => true,
        }
    }

    /// Suspensions that are over: their workers may ask again.
    pub(super) fn end_suspensions(&mut self, now: Millis, out: &mut Vec<Effect>) {
        for worker in self.workers.values_mut() {
            let until = &mut worker.reputation.aside_until;
            if *until > 0 && *until <= now {
                *until = 0;
                out.push(Effect::Wake);
            }
        }
    }

    /// Workers that get nothing for now, for people.
    pub fn set_aside(&self) -> Vec<SetAside> {
        let aside = self.workers.iter().filter(|(name, _)| self.is_set_aside(name));
        aside
            .map(|(name, worker)| SetAside {
                worker: name.clone(),
                failures: worker.reputation.strikes,
                last: worker.reputation.last_failure.clone(),
                remaining: worker.reputation.aside_until.saturating_sub(self.now),
            })
            .collect()
    }
}
