//! Workers and their leases: the part of the engine that changes with every call.

use super::suspects::Reputation;
use super::{Effect, Engine, Failure, Grant, Lease, Millis, Record, SweepId, TaskId, Verdict, WorkerId};
use crate::engine::task::{TrainEntry, Work};
use std::collections::{BTreeSet, HashSet};

/// Leases that a worker may hold for each slot that it says is free: one runs, others may be on their way back.
const HELD_PER_SLOT: u32 = 16;
/// Leases that may wait at a worker, for each of its slots and in all. They wait for seconds at most, see `may_queue`.
const QUEUED_PER_SLOT: u32 = 1024;
const QUEUED: u32 = 8192;
/// Leases of one request: what is said of them must fit into one message.
const GRANTED: u32 = 2048;
/// The work that waits for each slot is at most so many of the longest tasks that may wait at all.
const LONGEST_QUEUED: f64 = 4.0;

/// How many leases a worker with so many slots may ever have queued behind those that run.
pub fn most_queued(slots: u32) -> u32 {
    slots.saturating_mul(QUEUED_PER_SLOT).min(QUEUED)
}

/// A lease that is out.
#[derive(Debug)]
pub(super) struct Held {
    pub worker: WorkerId,
    pub attempt: u32,
    /// Granted, or known again after a restart.
    pub since: Millis,
    pub deadline: Millis,
    /// The sweep whose share it counts in, and the seconds it was taken for.
    pub charged: Option<(SweepId, f64)>,
    /// Waits at its worker for a slot, as far as is known.
    pub queued: bool,
}

/// A worker as far as it is known; forgotten when it leaves or falls silent, and welcome again.
#[derive(Debug)]
pub(super) struct Worker {
    pub slots: u32,
    pub last_seen: Millis,
    pub leases: BTreeSet<TaskId>,
    /// The last answered request and its grants, so that a lost reply costs nothing.
    pub last_request: u64,
    pub last_grants: Vec<Grant>,
    pub reputation: Reputation,
    /// When its time is over, where that is limited.
    pub ends: Option<Millis>,
}

impl Engine {
    /// A worker names every lease it holds; what else is in its name never reached it, or was lost
    /// with the process before it, and is free again.
    pub(super) fn register(
        &mut self,
        name: &WorkerId,
        slots: u32,
        running: &[Lease],
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let named: HashSet<&Lease> = running.iter().collect();
        for (id, lease) in self.leases_of(name) {
            if !named.contains(&lease) {
                self.correct_share_by_clock(lease, now);
                self.record(Record::Released { lease, why: "its worker does not hold it".into() }, now, out);
                self.settle(id, out);
            }
        }
        let leases = self.leases_of(name).into_iter().map(|(id, _)| id).collect();
        let (last_grants, reputation) = (Vec::new(), Reputation::default());
        let worker = Worker { slots, last_seen: now, leases, last_request: 0, last_grants, reputation, ends: None };
        self.workers.insert(name.clone(), worker);
        self.renew(name, running, now, out);
    }

    pub(super) fn acquire(
        &mut self,
        name: &WorkerId,
        request: u64,
        free_slots: u32,
        prefetch: u32,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(name) else {
            out.push(Effect::UnknownWorker);
            return;
        };
        worker.last_seen = now;
        // Whatever it asks for, nobody hoards.
        let held = worker.leases.len() as u32;
        let room = worker.slots.saturating_mul(HELD_PER_SLOT).saturating_sub(held);
        let free_slots = free_slots.min(room).min(GRANTED);
        let most = worker.slots.saturating_add(most_queued(worker.slots));
        let prefetch = prefetch.min(most.saturating_sub(held.saturating_add(free_slots))).min(GRANTED - free_slots);
        let last = worker.last_request;
        if request != 0 && request < last {
            out.push(Effect::NothingReady); // delayed on its way: the worker has had its answer and gone on
            return;
        }
        let repeated = request != 0 && request == last;
        let mut grants = if repeated { worker.last_grants.clone() } else { Vec::new() };
        grants.retain(|grant| self.holds(name, grant.lease));
        if !grants.is_empty() {
            out.push(Effect::Granted(grants));
            return;
        }
        // A new request, or one whose leases have all been lost: its worker still waits for work.
        let fleet = self.fleet().1;
        while !self.draining {
            let granted = grants.len() as u32;
            let next = match granted {
                granted if granted >= free_slots.saturating_add(prefetch) => None,
                granted if granted >= free_slots => {
                    self.next_for(name).filter(|&(_, id)| self.may_queue(name, id, fleet))
                }
                _ => self.next_for(name),
            };
            let next = next.or_else(|| self.help_out(name, granted < free_slots, now, out));
            let Some((sweep, id)) = next else { break };
            grants.push(self.grant(name, sweep, id, granted >= free_slots, now, out));
        }
        if grants.is_empty() {
            out.push(Effect::NothingReady);
            return;
        }
        let worker = self.workers.get_mut(name).expect("looked up above");
        worker.last_request = request;
        worker.last_grants = grants.clone();
        out.push(Effect::Granted(grants));
    }

    fn grant(
        &mut self,
        name: &WorkerId,
        sweep: SweepId,
        id: TaskId,
        queued: bool,
        now: Millis,
        out: &mut Vec<Effect>,
    ) -> Grant {
        let task = &self.tasks[id.0 as usize];
        let lease = Lease { task: task.key, attempt: task.attempt + 1 };
        let halvings = task.failures.of(Failure::OutOfMemory);
        let charged = Some((sweep, self.serve(sweep, id)));
        self.record(Record::Leased { lease, worker: name.clone() }, now, out);
        if let Some(held) = self.held_mut(id, lease.attempt) {
            (held.charged, held.queued) = (charged, queued);
        }
        let keep = self.trains.get(&id).map(TrainEntry::missing).unwrap_or_default();
        Grant { lease, sweep, id, keep, halvings }
    }

    /// Whether a task may wait at a worker for one of its slots: while tasks are short, as many as keep the slot busy
    /// for a few seconds, and no more than its part of half of what is ready. So no long task waits for a slot
    /// while another one is idle, and towards the end the queues grow short.
    fn may_queue(&self, name: &WorkerId, id: TaskId, fleet: u32) -> bool {
        let (Some(worker), task) = (self.workers.get(name), &self.tasks[id.0 as usize]) else { return false };
        // Until one was measured, any task may be long.
        let Some(expected) = self.measured.expected(task.kind(), task.seconds) else { return false };
        let (slots, longest) = (u64::from(worker.slots), self.settings.prefetch_seconds);
        let waiting = (worker.leases.len() as u64).saturating_sub(slots) + 1;
        expected <= longest
            && waiting as f64 * expected <= LONGEST_QUEUED * longest * slots as f64
            && 2 * waiting * u64::from(fleet) <= self.ready_tasks() as u64 * slots
    }

    pub(super) fn heartbeat(
        &mut self,
        name: &WorkerId,
        running: &[Lease],
        queued: &[Lease],
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let Some(worker) = self.workers.get_mut(name) else {
            out.push(Effect::UnknownWorker);
            return;
        };
        worker.last_seen = now;
        let revoked = self.renew(name, running, now, out);
        // Each by itself: a heartbeat may name thousands.
        self.mark_queued(name, running, false);
        self.mark_queued(name, queued, true);
        out.push(Effect::Renewed { revoked });
    }

    fn mark_queued(&mut self, name: &WorkerId, leases: &[Lease], queued: bool) {
        for lease in leases {
            if self.holds(name, *lease) {
                let id = self.id_of(*lease);
                self.held_mut(id, lease.attempt).expect("it is held").queued = queued;
            }
        }
    }

    /// Extends the deadlines of `running`; returns those that the worker should stop: no longer
    /// its own, or no longer wanted by any sweep.
    fn renew(&mut self, name: &WorkerId, running: &[Lease], now: Millis, out: &mut Vec<Effect>) -> Vec<Lease> {
        let deadline = now + self.settings.lease_ms;
        let mut revoked = Vec::new();
        for &lease in running {
            if !self.holds(name, lease) {
                revoked.push(lease);
                continue;
            }
            let id = self.id_of(lease);
            if self.tasks[id.0 as usize].sweep.is_none() {
                revoked.push(lease);
                self.correct_share_by_clock(lease, now);
                self.record(Record::Released { lease, why: "no longer wanted".into() }, now, out);
            } else if let Some(held) = self.held_mut(id, lease.attempt) {
                held.deadline = deadline;
            }
        }
        revoked
    }

    /// Whether `lease` is out, and with this worker.
    pub fn holds(&self, name: &str, lease: Lease) -> bool {
        let held = self.find(lease.task).and_then(|id| self.held(id, lease.attempt));
        held.is_some_and(|held| &*held.worker == name)
    }

    pub(super) fn commit(
        &mut self,
        name: &WorkerId,
        lease: Lease,
        epochs: Option<Vec<u32>>,
        seconds: f64,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let verdict = self.judge(name, lease, epochs.as_deref());
        if verdict == Verdict::Accepted {
            let id = self.id_of(lease);
            let task = &self.tasks[id.0 as usize];
            self.measured.learn(task.kind(), task.seconds, seconds);
            self.correct_share(id, lease.attempt, seconds);
            self.praise(name, id, seconds);
            self.record(Record::Committed { lease, worker: name.clone(), epochs }, now, out);
            self.settle(id, out);
        }
        out.push(Effect::Verdict(verdict));
    }

    /// Any attempt's answer is as good as the newest one's: equal questions have equal answers, so
    /// a late one is welcome while none is stored. But only from a worker that was given the attempt.
    fn judge(&self, name: &WorkerId, lease: Lease, epochs: Option<&[u32]>) -> Verdict {
        let Some(id) = self.find(lease.task) else { return Verdict::Unwanted };
        let task = &self.tasks[id.0 as usize];
        if lease.attempt == 0 || lease.attempt > task.attempt {
            return Verdict::Unwanted;
        }
        match (task.work, epochs) {
            (Work::Train, None) | (Work::Evaluate { .. }, Some(_)) => Verdict::Unwanted,
            (Work::Train | Work::Unknown, Some(epochs)) => {
                let have = self.trains.get(&id).map(|train| &train.have);
                let news = epochs.iter().any(|epoch| !have.is_some_and(|have| have.contains(epoch)));
                match news {
                    false => Verdict::Duplicate,
                    true if self.was_given(name, lease) => Verdict::Accepted,
                    true => Verdict::Unwanted,
                }
            }
            _ if task.answered => Verdict::Duplicate,
            _ if self.was_given(name, lease) => Verdict::Accepted,
            _ => Verdict::Unwanted,
        }
    }

    /// Whether this worker holds the attempt, or held it once.
    fn was_given(&self, name: &WorkerId, lease: Lease) -> bool {
        let past = self.find(lease.task).and_then(|id| self.given.get(&id));
        self.holds(name, lease)
            || past.is_some_and(|past| past.iter().any(|(worker, last)| worker == name && lease.attempt <= *last))
    }

    pub(super) fn fail(
        &mut self,
        name: &WorkerId,
        lease: Lease,
        failure: Failure,
        message: String,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        if !self.holds(name, lease) {
            return; // an older attempt's trouble is of no consequence
        }
        self.blame(name, failure, &message, now);
        self.record_failure(name.clone(), lease, failure, message, now, out);
    }

    fn record_failure(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        failure: Failure,
        message: String,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let id = self.id_of(lease);
        let before = self.tasks[id.0 as usize].failures.of(failure);
        let fatal = failure.retries().is_some_and(|retries| before >= retries);
        self.correct_share_by_clock(lease, now);
        let wanting = if fatal && !failure.is_deterministic() { self.sweeps_of(id) } else { Vec::new() };
        self.record(Record::Failed { lease, worker, failure, message, fatal }, now, out);
        if !fatal {
            self.rest(id, failure, now);
        }
        if let Some(held) = self.leases.get(&id).filter(|_| failure.is_deterministic()) {
            let lease = Lease { attempt: held.attempt, ..lease };
            self.record(Record::Released { lease, why: "another copy of it has failed for good".into() }, now, out);
        }
        self.settle(id, out);
        wanting.into_iter().for_each(|sweep| self.count_failure(sweep, out));
    }

    pub(super) fn leave(&mut self, name: &WorkerId, now: Millis, out: &mut Vec<Effect>) {
        self.workers.remove(name);
        out.push(Effect::Wake); // others may try what only this one was trusted with
        for (id, lease) in self.leases_of(name) {
            self.correct_share_by_clock(lease, now);
            self.record(Record::Released { lease, why: "worker left".into() }, now, out);
            self.settle(id, out);
        }
    }

    pub(super) fn lose(&mut self, name: &WorkerId, now: Millis, out: &mut Vec<Effect>) {
        self.workers.remove(name);
        out.push(Effect::Wake);
        for (_, lease) in self.leases_of(name) {
            let message = format!("worker {name} died");
            self.record_failure(name.clone(), lease, Failure::LostWorker, message, now, out);
        }
    }

    /// Takes back the leases whose deadline has passed, and forgets workers that fell silent.
    pub(super) fn expire(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let late = |(id, held): (&TaskId, &Held)| {
            let lease = Lease { task: self.tasks[id.0 as usize].key, attempt: held.attempt };
            (held.deadline <= now).then(|| (lease, held.worker.clone()))
        };
        let late: Vec<(Lease, WorkerId)> = self.leases.iter().chain(&self.copies).filter_map(late).collect();
        for (lease, worker) in late {
            let message = format!("nothing was heard of worker {worker} for {} s", self.settings.lease_ms / 1000);
            // Where a task has failed for good, its other lease was taken back with the first.
            if self.holds(&worker, lease) {
                self.record_failure(worker, lease, Failure::LostWorker, message, now, out);
            }
        }
        let silent = |worker: &Worker| worker.leases.is_empty() && worker.last_seen + self.settings.lease_ms <= now;
        let before = self.workers.len();
        self.workers.retain(|_, worker| !silent(worker));
        if self.workers.len() < before {
            out.push(Effect::Wake);
        }
    }

    /// The task of a lease that is or was out.
    fn id_of(&self, lease: Lease) -> TaskId {
        self.find(lease.task).expect("what was leased is known")
    }

    /// One lease of a task, if it is out.
    pub(super) fn held(&self, id: TaskId, attempt: u32) -> Option<&Held> {
        let both = self.leases.get(&id).into_iter().chain(self.copies.get(&id));
        both.into_iter().find(|held| held.attempt == attempt)
    }

    pub(super) fn held_mut(&mut self, id: TaskId, attempt: u32) -> Option<&mut Held> {
        let both = self.leases.get_mut(&id).into_iter().chain(self.copies.get_mut(&id));
        both.into_iter().find(|held| held.attempt == attempt)
    }

    /// Also of a worker that has not registered since the coordinator started.
    fn leases_of(&self, name: &WorkerId) -> Vec<(TaskId, Lease)> {
        let held = self.leases.iter().chain(&self.copies).filter(|(_, held)| held.worker == *name);
        held.map(|(&id, held)| (id, Lease { task: self.tasks[id.0 as usize].key, attempt: held.attempt })).collect()
    }

    pub(super) fn all_leases(&self) -> Vec<Lease> {
        let held = self.leases.iter().chain(&self.copies);
        held.map(|(id, held)| Lease { task: self.tasks[id.0 as usize].key, attempt: held.attempt }).collect()
    }

    /// Connected workers, and how many tasks they can run together.
    pub fn fleet(&self) -> (u32, u32) {
        (self.workers.len() as u32, self.workers.values().map(|worker| worker.slots).sum())
    }

    /// Slots that have a task, going by what their workers hold.
    pub fn busy_slots(&self) -> u32 {
        self.workers.values().map(|worker| worker.slots.min(worker.leases.len() as u32)).sum()
    }

    pub fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.workers.keys()
    }

    /// Whether nothing is leased.
    pub fn is_idle(&self) -> bool {
        self.leases.is_empty()
    }
}
