//! Tasks as the engine holds them: small, because there may be millions.

use super::{SweepId, WorkerId};
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
    /// Failures so far that count against the retry budget.
    pub failures: u8,
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
        Task { key, work: Work::Unknown, status: Status::Ready, failures: 0, attempt: 0, seconds: 0.0, sweep: None }
    }

    /// Row of the progress table: 0 = train, 1 = evaluate.
    pub fn kind(&self) -> usize {
        usize::from(matches!(self.work, Work::Evaluate { .. }))
    }
}

/// What only training tasks have.
#[derive(Debug, Default)]
pub(super) struct TrainEntry {
    /// Epochs whose checkpoints some sweep wants. Ascending.
    pub keep: Vec<u32>,
    /// Epochs whose checkpoints exist. Ascending.
    pub have: Vec<u32>,
    /// Evaluations that wait for one of them.
    pub dependents: Vec<TaskId>,
    /// The worker that trained it, and so has the checkpoints at hand.
    pub holder: Option<WorkerId>,
}

impl TrainEntry {
    pub fn is_complete(&self) -> bool {
        self.keep.iter().all(|epoch| self.have.contains(epoch))
    }

    pub fn add_kept(&mut self, epochs: &[u32]) {
        insert_sorted(&mut self.keep, epochs);
    }

    pub fn add_have(&mut self, epochs: &[u32]) {
        insert_sorted(&mut self.have, epochs);
    }
}

fn insert_sorted(list: &mut Vec<u32>, more: &[u32]) {
    list.extend_from_slice(more);
    list.sort_unstable();
    list.dedup();
}
