//! The language of the engine: what happens to it, what it wants done, what it wants remembered.

use super::{SweepId, TaskId, WorkerId};
use crate::plan::{Plan, TaskKey, Work};
use serde::{Deserialize, Serialize};

/// A task as one worker holds it; the attempt is the fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    pub task: TaskKey,
    /// Counts from 1 for each task; never used twice.
    pub attempt: u32,
}

/// Something has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A sweep was handed in.
    Admit(Admission),
    /// A sweep is no longer wanted.
    Cancel(SweepId),
    /// Nothing more of a sweep is to start until it is resumed.
    Pause(SweepId),
    Resume(SweepId),
    /// Its share of the slots from now on, as a weight against the other sweeps'.
    Prioritise {
        sweep: SweepId,
        priority: u32,
    },
    /// The tasks of a running sweep that failed for good are to be tried again.
    Retry(SweepId),
    /// A worker has connected, for the first time or again, and says what it still holds.
    Register {
        worker: WorkerId,
        slots: u32,
        running: Vec<Lease>,
    },
    Acquire {
        worker: WorkerId,
        request: u64,
        free_slots: u32,
        prefetch: u32,
        /// Until it must leave; absent for one that need not.
        seconds_left: Option<f64>,
    },
    Heartbeat {
        worker: WorkerId,
        running: Vec<Lease>,
        /// Those of `running` that wait for a slot.
        queued: Vec<Lease>,
    },
    /// An answer; `epochs` lists the checkpoints of a training run and is absent for an evaluation.
    Commit {
        worker: WorkerId,
        lease: Lease,
        epochs: Option<Vec<u32>>,
        seconds: f64,
    },
    Fail {
        worker: WorkerId,
        lease: Lease,
        failure: Failure,
        message: String,
    },
    /// A worker says goodbye and hands back what it holds.
    Leave {
        worker: WorkerId,
    },
    /// A worker is known to be dead.
    Lost {
        worker: WorkerId,
    },
    /// An answer is gone from where it was stored; `epochs` as in [`Event::Commit`].
    Withdraw {
        task: TaskKey,
        epochs: Option<Vec<u32>>,
    },
    /// Time has passed.
    Tick,
    /// No new leases from now on.
    Drain,
}

/// A sweep's tasks. A task stands behind the one it waits for.
#[derive(Debug, Clone)]
pub struct Admission {
    pub sweep: SweepId,
    pub tasks: Vec<NewTask>,
    /// Whether a person asked for it just now: then tasks that failed for reasons that may have
    /// gone get another chance. False when sweeps are admitted again after a restart.
    pub revive: bool,
}

impl Admission {
    /// All tasks of a plan.
    pub fn of(plan: &Plan, sweep: SweepId, revive: bool) -> Admission {
        let tasks = plan.tasks.iter().map(|task| {
            let trial = &plan.trials[task.trial as usize];
            let work = match task.work {
                Work::Train => NewWork::Train { keep: trial.keep.clone() },
                // To whoever hands out work these are alike: they need a checkpoint.
                Work::Evaluate { epoch, .. } | Work::Certify { epoch, .. } | Work::Measure { epoch, .. } => {
                    NewWork::Evaluate { train: trial.task, epoch }
                }
            };
            NewTask { key: task.key, work, seconds: task.seconds }
        });
        Admission { sweep, tasks: tasks.collect(), revive }
    }
}

#[derive(Debug, Clone)]
pub struct NewTask {
    pub key: TaskKey,
    pub work: NewWork,
    /// Estimated seconds.
    pub seconds: f32,
}

#[derive(Debug, Clone)]
pub enum NewWork {
    /// The epochs whose checkpoints are wanted.
    Train { keep: Vec<u32> },
    /// Needs the checkpoint after `epoch` of the train task at position `train` of the admission.
    Evaluate { train: u32, epoch: u32 },
}

/// Why an attempt failed; each kind has its own retry policy, see [`Failure::retries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// NaN or infinite loss. A property of the trial: the same question always diverges.
    Diverged,
    OutOfMemory,
    /// Data missing or other than expected, on that worker.
    BadInput,
    /// The worker was told to go.
    Preempted,
    /// Nothing was heard of the worker for a whole lease.
    LostWorker,
    Bug,
}

impl Failure {
    pub const COUNT: usize = 6;
    pub const ALL: [Failure; Failure::COUNT] = [
        Failure::Diverged,
        Failure::OutOfMemory,
        Failure::BadInput,
        Failure::Preempted,
        Failure::LostWorker,
        Failure::Bug,
    ];

    /// How often a task may fail this way and be tried again; `None` is without limit.
    pub fn retries(self) -> Option<u32> {
        match self {
            Failure::Diverged => Some(0),
            Failure::Bug => Some(2),
            // With the rests between them, a minute and a half: file servers come back.
            Failure::BadInput => Some(4),
            // Each with half the batch of the one before, see `Grant::halvings`.
            Failure::OutOfMemory => Some(4),
            Failure::LostWorker => Some(8),
            Failure::Preempted => None,
        }
    }

    /// The word for logs, as the ledger spells it.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Diverged => "diverged",
            Failure::OutOfMemory => "out_of_memory",
            Failure::BadInput => "bad_input",
            Failure::Preempted => "preempted",
            Failure::LostWorker => "lost_worker",
            Failure::Bug => "bug",
        }
    }

    /// Whether the worker may be at fault, and another one should try.
    pub fn may_be_the_workers(self) -> bool {
        matches!(self, Failure::BadInput | Failure::Bug)
    }

    /// Whether the same question will fail the same way forever.
    pub fn is_deterministic(self) -> bool {
        self == Failure::Diverged
    }
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make this durable before any answer leaves the coordinator.
    Persist(Record),
    /// Answer to Acquire.
    Granted(Vec<Grant>),
    /// Answer to Acquire: nothing to do now; ask again after the next [`Effect::Wake`].
    NothingReady,
    /// Answer to Acquire and Heartbeat: register first.
    UnknownWorker,
    /// Answer to Heartbeat.
    Renewed { revoked: Vec<Lease> },
    /// Answer to Commit.
    Verdict(Verdict),
    /// Tasks have become ready: waiting workers may ask again.
    Wake,
    /// Every task of the sweep is done or has failed for good.
    Finished(SweepId),
    /// Too many of the sweep's tasks have failed for good: nothing more of it starts until a person has looked.
    Paused(SweepId, String),
}

/// A lease just granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub lease: Lease,
    /// A sweep that wants it, and the task's number in the engine.
    pub sweep: SweepId,
    pub id: TaskId,
    /// Of a training run: the epochs that any live sweep wants and that are not there yet.
    pub keep: Vec<u32>,
    /// How often it has run out of memory: its batches may be halved as often.
    pub halvings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first answer: store it.
    Accepted,
    /// Answered before: drop it.
    Duplicate,
    /// No such lease was ever given.
    Unwanted,
}

/// A durable fact. The ledger stores these in order and nothing else of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A second lease of a task that is leased already is a copy for an idle worker; the first answer counts.
    Leased { lease: Lease, worker: WorkerId },
    /// Given back without an answer and without fault.
    Released { lease: Lease, why: String },
    /// `epochs` as in [`Event::Commit`].
    Committed { lease: Lease, worker: WorkerId, epochs: Option<Vec<u32>> },
    /// `fatal` when the task's retries are used up.
    Failed { lease: Lease, worker: WorkerId, failure: Failure, message: String, fatal: bool },
    /// A failed task gets a new budget.
    Revived { task: TaskKey },
    /// An answer that was there is gone, and wanted again; `epochs` as in [`Event::Commit`].
    Withdrawn { task: TaskKey, epochs: Option<Vec<u32>> },
}
