//! Tasks as the engine holds them: small, because there may be millions.

use super::{Failure, SweepId, WorkerId};
use crate::plan::TaskKey;

/// A task's position in the engine; not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Waits for its checkpoint.
    Blocked,
    Ready,
    Leased,
    Done,
    /// For good: its retries are used up.
    Failed,
    /// Cannot run, because its training failed for good.
    Skipped,
}

impl Status {
    pub const COUNT: usize = 6;

    /// Nothing more will happen to it.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Done | Status::Failed | Status::Skipped)
    }
}

/// What kind of work it is; unknown while only its history has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Unknown,
    Train,
    Evaluate { train: TaskId, epoch: u32 },
}

#[derive(Debug)]
pub(super) struct Task {
    pub key: TaskKey,
    pub work: Work,
    pub status: Status,
    /// Whether an answer was ever accepted.
    pub answered: bool,
    pub failures: Failures,
    /// The last attempt number given out.
    pub attempt: u32,
    /// Estimated seconds.
    pub seconds: f32,
    /// A live sweep that wants it; more of them stand in `Engine::also_wanted`.
    pub sweep: Option<SweepId>,
}

// A million tasks should cost tens of megabytes, not hundreds.
const _: () = assert!(size_of::<Task>() <= 72);

impl Task {
    pub fn unknown(key: TaskKey) -> Task {
        Task {
            key,
            work: Work::Unknown,
            status: Status::Ready,
            answered: false,
            failures: Failures::default(),
            attempt: 0,
            seconds: 0.0,
            sweep: None,
        }
    }

    /// Row of the progress table: 0 = train, 1 = evaluate.
    pub fn kind(&self) -> usize {
        usize::from(matches!(self.work, Work::Evaluate { .. }))
    }
}

/// Failures since the last answer or revival: how many of each kind, and what they amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Failures {
    counts: [u8; Failure::COUNT],
    pub outlook: Outlook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Outlook {
    #[default]
    Open,
    /// The retries are used up; a person may grant new ones.
    GivenUp,
    /// The same question would fail the same way again.
    Hopeless,
}

impl Failures {
    pub fn of(&self, failure: Failure) -> u32 {
        u32::from(self.counts[failure as usize])
    }

    pub fn add(&mut self, failure: Failure, fatal: bool) {
        let count = &mut self.counts[failure as usize];
        *count = count.saturating_add(1);
        if fatal {
            self.outlook = if failure.is_deterministic() { Outlook::Hopeless } else { Outlook::GivenUp };
        }
    }
}

/// What only training tasks have.
#[derive(Debug, Default)]
pub(super) struct TrainEntry {
    /// Epochs whose checkpoints the live sweeps want.
    wanted: Vec<(SweepId, Vec<u32>)>,
    /// Epochs whose checkpoints exist. Ascending.
    pub have: Vec<u32>,
    /// Evaluations that wait for one of them.
    pub dependents: Vec<TaskId>,
    /// The worker that trained it, and so has the checkpoints at hand.
    pub holder: Option<WorkerId>,
}

impl TrainEntry {
    pub fn is_complete(&self) -> bool {
        !self.have.is_empty() && self.missing().is_empty()
    }

    /// The epochs that the next attempt must hand in. Ascending.
    pub fn missing(&self) -> Vec<u32> {
        let wanted = self.wanted.iter().flat_map(|(_, epochs)| epochs).copied();
        let mut missing: Vec<u32> = wanted.filter(|epoch| !self.have.contains(epoch)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    pub fn want(&mut self, sweep: SweepId, epochs: Vec<u32>) {
        self.wanted.push((sweep, epochs));
    }

    pub fn unwant(&mut self, sweep: SweepId) {
        self.wanted.retain(|(other, _)| *other != sweep);
    }

    pub fn add_have(&mut self, epochs: &[u32]) {
        self.have.extend_from_slice(epochs);
        self.have.sort_unstable();
        self.have.dedup();
    }
}
