//! The workers, and what they and the coordinator say to each other.

use crate::sweeps::{Meaning, meaning};
use epsweep::engine::{Failure, Lease, WorkerId};
use epsweep::plan::TaskKey;
use std::collections::BTreeMap;

/// What a worker's process holds in memory.
#[derive(Debug, Default)]
pub struct Process {
    /// Counts the processes under one name: what reaches an earlier one is lost.
    pub life: u32,
    pub greeted: bool,
    pub request: u64,
    /// Attempt, and the epochs that a training run must hand in.
    pub held: BTreeMap<TaskKey, (u32, Vec<u32>)>,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub worker: usize,
    pub life: u32,
    pub call: Call,
}

#[derive(Debug, Clone)]
pub enum Call {
    Register { running: Vec<Lease> },
    Acquire { request: u64, free_slots: u32, prefetch: u32, left: Option<f64> },
    Heartbeat { running: Vec<Lease>, queued: Vec<Lease> },
    Commit { lease: Lease, epochs: Option<Vec<u32>> },
    Fail { lease: Lease, failure: Failure },
    Leave,
}

#[derive(Debug)]
pub enum Reply {
    Welcome,
    /// The worker must register first.
    Unknown,
    Granted {
        request: u64,
        leases: Vec<(Lease, Vec<u32>)>,
    },
    Revoked(Vec<Lease>),
    /// A commit or a failure was taken note of.
    Ended(Lease),
}

pub fn name(worker: usize) -> WorkerId {
    format!("worker-{worker}").into()
}

pub fn slots(worker: usize) -> u32 {
    1 + worker as u32 % 2
}

pub fn answer(lease: Lease, keep: Vec<u32>) -> Call {
    let epochs = matches!(meaning(lease.task), Meaning::Train { .. }).then_some(keep);
    Call::Commit { lease, epochs }
}

impl Process {
    pub fn leases(&self) -> Vec<Lease> {
        self.held.iter().map(|(&task, &(attempt, _))| Lease { task, attempt }).collect()
    }

    /// A heartbeat that says that some leases, by their positions in `queued`, have not begun.
    pub fn beat(&self, queued: u8) -> Call {
        let running = self.leases();
        let waits = |position: usize| queued >> (position % 8) & 1 == 1;
        let queued = running.iter().enumerate().filter(|(position, _)| waits(*position)).map(|(_, lease)| *lease);
        Call::Heartbeat { queued: queued.collect(), running }
    }

    pub fn forget(&mut self, lease: Lease) {
        if self.held.get(&lease.task).is_some_and(|(attempt, _)| *attempt == lease.attempt) {
            self.held.remove(&lease.task);
        }
    }
}
