//! The durable transitions of a task, and what follows from them: its status, its queue, the counts.

use super::task::{Failures, Outlook, Task, Work};
use super::{Engine, Failure, Lease, Millis, Status, SweepId, TaskId, WorkerId, leases};
use crate::plan::TaskKey;
use std::collections::HashMap;

/// The live sweeps that want a task.
fn wanting<'a>(
    task: &Task,
    id: TaskId,
    also_wanted: &'a HashMap<TaskId, Vec<SweepId>>,
) -> impl Iterator<Item = SweepId> + use<'a> {
    // Almost every task is wanted once, and then the map need not be asked.
    let others = task.sweep.and_then(|_| also_wanted.get(&id));
    task.sweep.into_iter().chain(others.into_iter().flatten().copied())
}

impl Engine {
    /// Where a task's lease, answers, failures and dependencies say that it belongs.
    pub(super) fn status_of(&self, id: TaskId) -> Status {
        let task = &self.tasks[id.0 as usize];
        if self.leases.contains_key(&id) {
            return Status::Leased;
        }
        let (complete, possible) = match task.work {
            Work::Unknown => (task.answered, Status::Ready),
            // A training run whose checkpoints are not all there has more to do, even if it was done before.
            Work::Train => (self.trains[&id].is_complete(), Status::Ready),
            Work::Evaluate { train, epoch } => {
                let possible = if self.trains[&train].have.contains(&epoch) {
                    Status::Ready
                } else if self.tasks[train.0 as usize].status == Status::Failed {
                    Status::Skipped
                } else {
                    Status::Blocked
                };
                (task.answered, possible)
            }
        };
        match task.failures.outlook {
            _ if complete => Status::Done,
            Outlook::GivenUp | Outlook::Hopeless => Status::Failed,
            Outlook::Open => possible,
        }
    }

    /// Puts a task, and those that wait for it, where they belong.
    pub(super) fn reconsider(&mut self, id: TaskId) {
        self.dequeue(id);
        let (before, after) = (self.tasks[id.0 as usize].status, self.status_of(id));
        self.set_status(id, after);
        self.enqueue(id);
        if (before == Status::Failed) != (after == Status::Failed) {
            self.reconsider_dependents(id);
        }
    }

    pub(super) fn sweeps_of(&self, id: TaskId) -> Vec<SweepId> {
        wanting(&self.tasks[id.0 as usize], id, &self.also_wanted).collect()
    }

    /// Changes a status and every count that depends on it.
    fn set_status(&mut self, id: TaskId, to: Status) {
        let task = &mut self.tasks[id.0 as usize];
        let (from, kind, seconds) = (task.status, task.kind(), f64::from(task.seconds));
        if from == to {
            return;
        }
        task.status = to;
        for sweep in self.sweeps_of(id) {
            let entry = self.sweeps.get_mut(&sweep).expect("sweeps are never forgotten");
            entry.counts[kind].remove(from);
            entry.counts[kind].add(to);
            match (from.is_final(), to.is_final()) {
                (false, true) => entry.open_seconds[kind] -= seconds,
                (true, false) => entry.open_seconds[kind] += seconds,
                _ => {}
            }
        }
    }

    /// Into the queue of every sweep that wants it; a paused sweep's is merely not served.
    fn enqueue(&mut self, id: TaskId) {
        let task = &self.tasks[id.0 as usize];
        if task.status != Status::Ready {
            return;
        }
        for sweep in wanting(task, id, &self.also_wanted) {
            let entry = self.sweeps.get_mut(&sweep).expect("sweeps are never forgotten");
            if entry.ready.is_empty() {
                entry.served = entry.served.max(self.served); // what it did not need is not owed to it
            }
            match task.work {
                Work::Train => entry.ready.insert_train(id, task.seconds),
                Work::Evaluate { train, .. } => {
                    entry.ready.insert_evaluation(id, self.trains[&train].holder.as_ref());
                }
                Work::Unknown => {}
            }
        }
    }

    pub(super) fn dequeue(&mut self, id: TaskId) {
        let task = &self.tasks[id.0 as usize];
        for sweep in wanting(task, id, &self.also_wanted) {
            let entry = self.sweeps.get_mut(&sweep).expect("sweeps are never forgotten");
            match task.work {
                Work::Train => entry.ready.remove_train(id, task.seconds),
                Work::Evaluate { train, .. } => {
                    entry.ready.remove_evaluation(id, self.trains[&train].holder.as_ref());
                }
                Work::Unknown => {}
            }
        }
    }

    // ---- durable transitions, live and replayed -------------------------------------------------

    pub(super) fn on_leased(&mut self, lease: Lease, worker: &WorkerId, now: Millis) {
        let id = self.find_or_add(lease.task);
        let task = &mut self.tasks[id.0 as usize];
        task.attempt = task.attempt.max(lease.attempt);
        let (worker, attempt, deadline) = (worker.clone(), lease.attempt, now + self.settings.lease_ms);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.leases.insert(id);
        }
        let held = leases::Held { worker, attempt, since: now, deadline, charged: None, queued: false };
        match self.leases.contains_key(&id) {
            true => drop(self.copies.insert(id, held)),
            false => drop(self.leases.insert(id, held)),
        }
        self.reconsider(id);
    }

    pub(super) fn on_released(&mut self, lease: Lease) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id, lease.attempt);
        self.reconsider(id);
    }

    pub(super) fn on_committed(&mut self, lease: Lease, worker: &WorkerId, epochs: Option<&[u32]>) {
        let id = self.find_or_add(lease.task);
        while let Some(held) = self.leases.get(&id) {
            self.end_lease(id, held.attempt);
        }
        let task = &mut self.tasks[id.0 as usize];
        task.attempt = task.attempt.max(lease.attempt);
        task.answered = true;
        task.failures = Failures::default();
        self.blamed.remove(&id);
        if let Some(epochs) = epochs {
            let waiting = self.trains.get(&id).map(|train| train.dependents.clone()).unwrap_or_default();
            waiting.into_iter().for_each(|dependent| self.dequeue(dependent)); // queues know the old holder
            let train = self.trains.entry(id).or_default();
            train.add_have(epochs);
            train.holder = Some(worker.clone());
            self.reconsider_dependents(id);
        } else {
            self.given.remove(&id); // whoever else answers is too late
        }
        self.reconsider(id);
    }

    pub(super) fn on_failed(&mut self, lease: Lease, worker: &WorkerId, failure: Failure, fatal: bool) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id, lease.attempt);
        if failure.may_be_the_workers() {
            let blamed = self.blamed.entry(id).or_default();
            if !blamed.contains(worker) {
                blamed.push(worker.clone());
            }
        }
        self.tasks[id.0 as usize].failures.add(failure, fatal);
        self.reconsider(id);
    }

    pub(super) fn on_revived(&mut self, key: TaskKey) {
        let id = self.find_or_add(key);
        self.tasks[id.0 as usize].failures = Failures::default();
        self.blamed.remove(&id);
        self.reconsider(id);
    }

    pub(super) fn reconsider_dependents(&mut self, id: TaskId) {
        let waiting = self.trains.get(&id).map(|train| train.dependents.clone()).unwrap_or_default();
        waiting.into_iter().for_each(|dependent| self.reconsider(dependent));
    }

    /// Ends one lease of a task; where the older one ends, its copy stands alone.
    fn end_lease(&mut self, id: TaskId, attempt: u32) {
        let ended = match (self.leases.get(&id), self.copies.get(&id)) {
            (_, Some(copy)) if copy.attempt == attempt => self.copies.remove(&id),
            (Some(held), Some(_)) if held.attempt == attempt => {
                let copy = self.copies.remove(&id);
                copy.and_then(|copy| self.leases.insert(id, copy))
            }
            (Some(held), None) if held.attempt == attempt => self.leases.remove(&id),
            _ => None,
        };
        let Some(held) = ended else { return };
        if let Some(worker) = self.workers.get_mut(&held.worker) {
            worker.leases.remove(&id);
        }
        let given = self.given.entry(id).or_default();
        match given.iter_mut().find(|(worker, _)| *worker == held.worker) {
            Some((_, last)) => *last = held.attempt.max(*last),
            None => given.push((held.worker, held.attempt)),
        }
    }
}
