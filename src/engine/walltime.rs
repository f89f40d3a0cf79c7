//! Workers whose time is limited, as a batch system's jobs are: they get no task that they could not finish.

use super::{Engine, Lease, Millis, TaskId, WorkerId};

/// Seconds that a worker keeps at its end: to stop, to hand in and to say goodbye.
pub const RESERVE_SECONDS: f64 = 15.0;
/// Estimates are wrong; a task that may take so much longer must still fit.
const MARGIN: f64 = 1.25;

/// Whether a task that is expected to take `expected` seconds can be finished in `left`.
pub fn fits(expected: f64, left: f64) -> bool {
    needed(expected) <= left
}

/// The time that a worker must have left for such a task, in seconds.
fn needed(expected: f64) -> f64 {
    expected * MARGIN + RESERVE_SECONDS
}

impl Engine {
    /// A worker has said how many seconds it has left; without a limit it says nothing.
    pub(super) fn note_time(&mut self, name: &WorkerId, left: Option<f64>, now: Millis) {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.ends = left.map(|left| now.saturating_add((left.max(0.0) * 1000.0) as Millis));
        }
    }

    /// Whether a worker can finish a task that it would begin now.
    pub(super) fn finishes(&self, name: &WorkerId, id: TaskId) -> bool {
        let Some(worker) = self.workers.get(name) else { return true };
        worker.ends.is_none_or(|ends| fits(self.takes(id) * worker.reputation.pace, self.seconds_until(ends)))
    }

    fn seconds_until(&self, ends: Millis) -> f64 {
        ends.saturating_sub(self.now) as f64 / 1000.0
    }

    /// Seconds that a task is expected to take, by all that was measured so far.
    fn takes(&self, id: TaskId) -> f64 {
        let task = &self.tasks[id.0 as usize];
        f64::from(task.seconds) * self.measured.ratio(task.kind())
    }

    /// For a task that no connected worker has the time for: the seconds that it needs, rounded so that alike tasks
    /// are told of together, and the most that any worker has left.
    pub(super) fn lacks_time(&self, id: TaskId) -> Option<(u64, u64)> {
        if self.workers.keys().any(|name| self.finishes(name, id)) {
            return None;
        }
        let left = self.workers.values().filter_map(|worker| worker.ends).map(|ends| self.seconds_until(ends));
        let most = left.fold(0.0, f64::max);
        let needed = needed(self.takes(id)).ceil() as u64;
        let step = if needed < 600 { 10 } else { 60 };
        Some((needed.next_multiple_of(step), most as u64))
    }

    /// Whether a worker's time was enough for a lease when it was given, for tests.
    #[doc(hidden)]
    pub fn has_time_for(&self, worker: &WorkerId, lease: Lease) -> bool {
        self.find(lease.task).is_none_or(|id| self.finishes(worker, id))
    }
}
