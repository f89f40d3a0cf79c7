//! Who does what, and when: a synchronous state machine without clock, socket or file.
//!
//! ```text
//!   Event ──► Engine::apply(event, now) ──► Effects ──► the shell performs them
//!                      │                       └─ Persist(Record) ──► ledger
//!                      ▼                                                │
//!               transition(record) ◄──────────── replay ◄───────────────┘
//! ```
//!
//! Every durable change is a [`Record`], and every record goes through the one private function
//! `transition`, whether it has just been decided or is being replayed: recovery cannot drift from
//! running. What is not durable (who is connected, deadlines, which queue a task stands in) is
//! derived from it. `Engine::sanity_check` states all cross-invariants; the tests call it after
//! every step.
//!
//! A task is identified by its key alone, so history can be replayed before any sweep is known, and
//! two sweeps that ask the same question share its answer.

mod check;
mod event;
mod leases;
mod progress;
mod ready;
mod rests;
mod shares;
mod stragglers;
mod suspects;
mod sweeps;
mod task;
#[cfg(test)]
mod tests;
mod transition;
mod walltime;
mod why;
mod withdraw;

pub use event::{Admission, Effect, Event, Failure, Grant, Lease, NewTask, NewWork, Record, Verdict};
pub use leases::most_queued;
pub use progress::{KindCounts, SweepProgress, SweepState};
pub use suspects::SetAside;
pub use task::{Status, TaskId};
pub use walltime::{RESERVE_SECONDS, fits};
pub use why::{Share, Why};

use crate::plan::KeyIndex;
use progress::Measured;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use sweeps::SweepEntry;
use task::{Task, TrainEntry};

/// Milliseconds on the shell's monotonic clock.
pub type Millis = u64;
/// The ledger's number of a sweep.
pub type SweepId = u32;
/// What a worker calls itself.
pub type WorkerId = Arc<str>;

/// Of sweeps that nobody has given another one.
pub const DEFAULT_PRIORITY: u32 = 10;

/// What may be tuned without changing any result.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A lease that was not renewed for this long is given to another worker.
    pub lease_ms: Millis,
    /// Tasks are queued behind running ones only while they are shorter than this, and up to four times as much
    /// work for each slot.
    pub prefetch_seconds: f64,
    /// A sweep pauses itself when more than this many of its tasks have failed for good, diverged ones
    /// not counted. `None`: a twentieth of its tasks, and at least 10.
    pub failure_budget: Option<u32>,
    /// A task that has failed wherever it could be tried waits so long for its first retry, see rests.rs.
    pub retry_ms: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { lease_ms: 30_000, prefetch_seconds: 0.5, failure_budget: None, retry_ms: 1_000 }
    }
}

/// The whole state. See the module's page for the flow.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    tasks: Vec<Task>,
    /// Of `tasks`.
    by_key: KeyIndex,
    trains: HashMap<TaskId, TrainEntry>,
    /// The older lease of each task that is out.
    leases: BTreeMap<TaskId, leases::Held>,
    /// Second leases of some of them, see stragglers.rs.
    copies: BTreeMap<TaskId, leases::Held>,
    /// Leases that an idle worker may take over or copy; found at the last tick.
    stragglers: Vec<Lease>,
    /// Workers whose attempt at a task failed in a way that may be their own fault.
    blamed: HashMap<TaskId, Vec<WorkerId>>,
    /// Until when tasks wait for their next attempt where one has failed.
    rests: HashMap<TaskId, Millis>,
    /// Who else may still answer: the workers whose lease on a task has ended, each with the last
    /// attempt it was given. Forgotten once an evaluation is answered.
    given: HashMap<TaskId, Vec<(WorkerId, u32)>>,
    workers: BTreeMap<WorkerId, leases::Worker>,
    sweeps: BTreeMap<SweepId, SweepEntry>,
    /// Sweeps that are neither finished nor cancelled, paused ones among them.
    running: BTreeSet<SweepId>,
    /// The `served` of the sweep that was last given a slot.
    served: f64,
    /// Sweeps beyond the first that want a task; the first stands in the task itself.
    also_wanted: HashMap<TaskId, Vec<SweepId>>,
    measured: Measured,
    draining: bool,
    /// Of the last event.
    now: Millis,
}

impl Engine {
    pub fn new(settings: Settings) -> Engine {
        Engine {
            settings,
            tasks: Vec::new(),
            by_key: KeyIndex::default(),
            trains: HashMap::new(),
            leases: BTreeMap::new(),
            copies: BTreeMap::new(),
            stragglers: Vec::new(),
            blamed: HashMap::new(),
            rests: HashMap::new(),
            given: HashMap::new(),
            workers: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            running: BTreeSet::new(),
            served: 0.0,
            also_wanted: HashMap::new(),
            measured: Measured::default(),
            draining: false,
            now: 0,
        }
    }

    /// Takes one event at time `now` and says what must happen. `now` never decreases.
    pub fn apply(&mut self, event: Event, now: Millis) -> Vec<Effect> {
        self.now = now;
        let mut out = Vec::new();
        match event {
            Event::Admit(admission) => self.admit(admission, now, &mut out),
            Event::Cancel(sweep) => self.cancel(sweep, &mut out),
            Event::Pause(sweep) => self.pause(sweep),
            Event::Resume(sweep) => self.resume(sweep, &mut out),
            Event::Prioritise { sweep, priority } => self.prioritise(sweep, priority),
            Event::Retry(sweep) => self.retry(sweep, now, &mut out),
            Event::Register { worker, slots, running } => self.register(&worker, slots, &running, now, &mut out),
            Event::Acquire { worker, request, free_slots, prefetch, seconds_left } => {
                self.note_time(&worker, seconds_left, now);
                self.acquire(&worker, request, free_slots, prefetch, now, &mut out);
            }
            Event::Heartbeat { worker, running, queued } => self.heartbeat(&worker, &running, &queued, now, &mut out),
            Event::Commit { worker, lease, epochs, seconds } => {
                self.commit(&worker, lease, epochs, seconds, now, &mut out);
            }
            Event::Fail { worker, lease, failure, message } => {
                self.fail(&worker, lease, failure, message, now, &mut out);
            }
            Event::Leave { worker } => self.leave(&worker, now, &mut out),
            Event::Lost { worker } => self.lose(&worker, now, &mut out),
            Event::Withdraw { task, epochs } => self.withdraw(task, epochs, now, &mut out),
            Event::Tick => {
                self.expire(now, &mut out);
                self.end_suspensions(now, &mut out);
                self.end_rests(now, &mut out);
                self.find_stragglers(&mut out);
            }
            Event::Drain => self.draining = true,
        }
        out
    }

    /// Takes a record from the ledger, as it was written. Leases start anew at `now`, the time of
    /// recovery: their workers may well be alive.
    pub fn replay(&mut self, record: &Record, now: Millis) {
        self.transition(record, now);
    }

    /// After the last replayed record: gives back every lease at once, for a coordinator whose
    /// workers cannot have outlived it.
    pub fn release_all(&mut self, now: Millis) -> Vec<Effect> {
        let mut out = Vec::new();
        for lease in self.all_leases() {
            self.record(Record::Released { lease, why: "coordinator restarted".into() }, now, &mut out);
        }
        out
    }

    /// Decides a durable change: applies it and hands it to the ledger.
    fn record(&mut self, record: Record, now: Millis, out: &mut Vec<Effect>) {
        self.transition(&record, now);
        out.push(Effect::Persist(record));
    }

    /// The one place where durable state changes. Total: a record about a task that no sweep has
    /// mentioned yet creates the task.
    fn transition(&mut self, record: &Record, now: Millis) {
        match record {
            Record::Leased { lease, worker } => self.on_leased(*lease, worker, now),
            Record::Released { lease, .. } => self.on_released(*lease),
            Record::Committed { lease, worker, epochs } => self.on_committed(*lease, worker, epochs.as_deref()),
            Record::Failed { lease, worker, failure, fatal, .. } => self.on_failed(*lease, worker, *failure, *fatal),
            Record::Revived { task } => self.on_revived(*task),
            Record::Withdrawn { task, epochs } => self.on_withdrawn(*task, epochs.as_deref()),
        }
    }
}
