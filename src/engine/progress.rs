//! How far sweeps are: counts by status, measured costs, the estimate of what remains.

use super::{Engine, Status, SweepId};
use crate::plan::TaskKey;

/// How many tasks of one kind stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindCounts {
    by_status: [u64; Status::COUNT],
}

impl KindCounts {
    pub fn of(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    pub fn total(&self) -> u64 {
        self.by_status.iter().sum()
    }

    /// Whether nothing of it can change any more.
    pub fn is_complete(&self) -> bool {
        self.of(Status::Blocked) + self.of(Status::Ready) + self.of(Status::Leased) == 0
    }

    pub(super) fn add(&mut self, status: Status) {
        self.by_status[status as usize] += 1;
    }

    pub(super) fn remove(&mut self, status: Status) {
        self.by_status[status as usize] -= 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepState {
    Running,
    /// Every task is done or has failed for good.
    Finished,
    Cancelled,
}

/// How far a sweep is.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepProgress {
    pub state: SweepState,
    /// Running, but nothing of it starts.
    pub paused: bool,
    pub priority: u32,
    pub train: KindCounts,
    pub evaluate: KindCounts,
    /// With the slots connected now; `None` while there are none, or nothing has been measured.
    pub remaining_seconds: Option<f64>,
    /// Share of the expected work that is done, 0 to 1.
    pub progress: f64,
}

/// Measured over estimated seconds, by kind.
#[derive(Debug, Default)]
pub(super) struct Measured {
    actual: [f64; 2],
    estimated: [f64; 2],
}

impl Measured {
    pub fn learn(&mut self, kind: usize, estimated: f32, actual: f64) {
        if actual.is_finite() && actual >= 0.0 {
            self.actual[kind] += actual;
            self.estimated[kind] += f64::from(estimated);
        }
    }

    /// What a task of this estimate will take; unknown until one of its kind has been measured.
    pub fn expected(&self, kind: usize, estimated: f32) -> Option<f64> {
        (self.estimated[kind] > 0.0).then(|| f64::from(estimated) * self.ratio(kind))
    }

    pub fn ratio(&self, kind: usize) -> f64 {
        // A kind that has not been seen yet borrows the other's ratio: the machine is the same.
        [kind, 1 - kind].iter().find(|&&k| self.estimated[k] > 0.0).map_or(1.0, |&k| self.actual[k] / self.estimated[k])
    }

    pub fn is_empty(&self) -> bool {
        self.estimated.iter().all(|&seconds| seconds == 0.0)
    }
}

impl Engine {
    /// How far a sweep is; `None` when it was never admitted.
    pub fn progress(&self, sweep: SweepId) -> Option<SweepProgress> {
        let entry = self.sweeps.get(&sweep)?;
        let (_, slots) = self.fleet();
        let [all, open] = [entry.seconds, entry.open_seconds].map(|seconds| {
            seconds.iter().enumerate().map(|(kind, s)| s.max(0.0) * self.measured.ratio(kind)).sum::<f64>()
        });
        let known = slots > 0 && !self.measured.is_empty();
        Some(SweepProgress {
            state: entry.state,
            paused: entry.paused,
            priority: entry.priority,
            train: entry.counts[0],
            evaluate: entry.counts[1],
            remaining_seconds: known.then(|| open / f64::from(slots)),
            progress: if all > 0.0 { 1.0 - open / all } else { 1.0 },
        })
    }

    /// The status of every task of a sweep, in the order of its keys' first admission.
    pub fn statuses(&self, sweep: SweepId) -> impl Iterator<Item = (TaskKey, Status)> + '_ {
        let tasks = self.sweeps.get(&sweep).map(|entry| entry.tasks.as_slice()).unwrap_or_default();
        tasks.iter().map(|id| (self.tasks[id.0 as usize].key, self.tasks[id.0 as usize].status))
    }
}
