//! Sweeps: which tasks are wanted, how far they are, and the durable transitions of a task.

use super::task::{Failures, Outlook, Task, Work};
use super::{
    Admission, Effect, Engine, Failure, Lease, Millis, NewWork, Record, Status, SweepId, TaskId, WorkerId, leases,
};
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepState {
    Running,
    /// Every task is done or has failed for good.
    Finished,
    Cancelled,
}

#[derive(Debug)]
pub(super) struct SweepEntry {
    pub tasks: Vec<TaskId>,
    pub state: SweepState,
    /// Train and evaluate, see `Task::kind`.
    pub counts: [KindCounts; 2],
    /// Estimated seconds of all tasks, and of those that are not final, by kind.
    pub seconds: [f64; 2],
    pub open_seconds: [f64; 2],
}

/// How far a sweep is.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepProgress {
    pub state: SweepState,
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

    fn ratio(&self, kind: usize) -> f64 {
        // A kind that has not been seen yet borrows the other's ratio: the machine is the same.
        [kind, 1 - kind].iter().find(|&&k| self.estimated[k] > 0.0).map_or(1.0, |&k| self.actual[k] / self.estimated[k])
    }

    fn is_empty(&self) -> bool {
        self.estimated.iter().all(|&seconds| seconds == 0.0)
    }
}

impl Engine {
    pub(super) fn admit(&mut self, admission: Admission, now: Millis, out: &mut Vec<Effect>) {
        let sweep = admission.sweep;
        let entry = SweepEntry {
            tasks: Vec::with_capacity(admission.tasks.len()),
            state: SweepState::Running,
            counts: Default::default(),
            seconds: [0.0; 2],
            open_seconds: [0.0; 2],
        };
        self.sweeps.insert(sweep, entry);
        self.tasks.reserve(admission.tasks.len());
        let mut ids = Vec::with_capacity(admission.tasks.len());
        for new in admission.tasks {
            let id = self.find_or_add(new.key);
            self.describe(id, sweep, new.work, new.seconds, &ids);
            ids.push(id);
        }
        // Merged grid points never reach a plan, but two positions of a plan may still ask the same.
        let mut wanted = ids;
        wanted.sort_unstable();
        wanted.dedup();
        for &id in &wanted {
            self.want(id, sweep);
        }
        for &id in &wanted {
            self.reconsider(id);
            if admission.revive {
                self.revive(id, now, out);
            }
        }
        out.push(Effect::Wake);
        self.finish_if_complete(sweep, out);
    }

    fn find_or_add(&mut self, key: TaskKey) -> TaskId {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = TaskId(self.tasks.len() as u32);
        self.tasks.push(Task::unknown(key));
        self.by_key.insert(key, id);
        id
    }

    /// Fills in what an admission says about a task that may so far be known by history alone.
    fn describe(&mut self, id: TaskId, sweep: SweepId, work: NewWork, seconds: f32, ids: &[TaskId]) {
        let known = self.tasks[id.0 as usize].work != Work::Unknown;
        match work {
            NewWork::Train { keep } => {
                self.trains.entry(id).or_default().want(sweep, keep);
                self.tasks[id.0 as usize].work = Work::Train;
            }
            NewWork::Evaluate { train, epoch } if !known => {
                let train = ids[train as usize];
                self.tasks[id.0 as usize].work = Work::Evaluate { train, epoch };
                self.trains.entry(train).or_default().dependents.push(id);
            }
            NewWork::Evaluate { .. } => {}
        }
        if !known {
            self.tasks[id.0 as usize].seconds = seconds;
        }
    }

    fn want(&mut self, id: TaskId, sweep: SweepId) {
        let task = &mut self.tasks[id.0 as usize];
        match task.sweep {
            None => task.sweep = Some(sweep),
            Some(_) => self.also_wanted.entry(id).or_default().push(sweep),
        }
        let task = &self.tasks[id.0 as usize];
        let (kind, status, seconds) = (task.kind(), task.status, f64::from(task.seconds));
        let entry = self.sweeps.get_mut(&sweep).expect("the sweep was entered before its tasks");
        entry.tasks.push(id);
        entry.counts[kind].by_status[status as usize] += 1;
        entry.seconds[kind] += seconds;
        if !status.is_final() {
            entry.open_seconds[kind] += seconds;
        }
    }

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
    fn reconsider(&mut self, id: TaskId) {
        self.dequeue(id);
        let (before, after) = (self.tasks[id.0 as usize].status, self.status_of(id));
        self.set_status(id, after);
        self.enqueue(id);
        if (before == Status::Failed) != (after == Status::Failed) {
            self.reconsider_dependents(id);
        }
    }

    fn revive(&mut self, id: TaskId, now: Millis, out: &mut Vec<Effect>) {
        let task = &self.tasks[id.0 as usize];
        if task.status == Status::Failed && task.failures.outlook == Outlook::GivenUp {
            self.record(Record::Revived { task: task.key }, now, out);
        }
    }

    pub(super) fn cancel(&mut self, sweep: SweepId, out: &mut Vec<Effect>) {
        let Some(entry) = self.sweeps.get_mut(&sweep) else { return };
        if entry.state != SweepState::Running {
            return;
        }
        entry.state = SweepState::Cancelled;
        for id in entry.tasks.clone() {
            self.unwant(id, sweep);
        }
        out.push(Effect::Wake);
        // A training run may be complete now, with what the other sweeps want of it.
        for other in self.sweeps.keys().copied().collect::<Vec<_>>() {
            self.finish_if_complete(other, out);
        }
    }

    /// Removes one sweep's claim to a task. A sweep that has ended keeps its counts as they were.
    fn unwant(&mut self, id: TaskId, sweep: SweepId) {
        self.dequeue(id);
        let others = self.also_wanted.get_mut(&id);
        let task = &mut self.tasks[id.0 as usize];
        match others {
            Some(others) => {
                if task.sweep == Some(sweep) {
                    task.sweep = others.pop();
                } else {
                    others.retain(|&other| other != sweep);
                }
                if others.is_empty() {
                    self.also_wanted.remove(&id);
                }
            }
            None if task.sweep == Some(sweep) => task.sweep = None,
            None => {}
        }
        if let Some(train) = self.trains.get_mut(&id) {
            train.unwant(sweep);
        }
        self.reconsider(id);
    }

    /// After a task's state has changed: wakes waiting workers, and reports sweeps that are complete.
    pub(super) fn settle(&mut self, id: TaskId, out: &mut Vec<Effect>) {
        out.push(Effect::Wake);
        for sweep in self.sweeps_of(id) {
            self.finish_if_complete(sweep, out);
        }
    }

    fn finish_if_complete(&mut self, sweep: SweepId, out: &mut Vec<Effect>) {
        let entry = self.sweeps.get_mut(&sweep).expect("sweeps are never forgotten");
        if entry.state != SweepState::Running || !entry.counts.iter().all(KindCounts::is_complete) {
            return;
        }
        entry.state = SweepState::Finished;
        // A finished sweep gives up its claims: what others do with the tasks is no longer its concern.
        for id in entry.tasks.clone() {
            self.unwant(id, sweep);
        }
        out.push(Effect::Finished(sweep));
    }

    pub(super) fn sweeps_of(&self, id: TaskId) -> Vec<SweepId> {
        let first = self.tasks[id.0 as usize].sweep;
        let others = self.also_wanted.get(&id).into_iter().flatten().copied();
        first.into_iter().chain(others).collect()
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
            entry.counts[kind].by_status[from as usize] -= 1;
            entry.counts[kind].by_status[to as usize] += 1;
            match (from.is_final(), to.is_final()) {
                (false, true) => entry.open_seconds[kind] -= seconds,
                (true, false) => entry.open_seconds[kind] += seconds,
                _ => {}
            }
        }
    }

    fn enqueue(&mut self, id: TaskId) {
        let task = &self.tasks[id.0 as usize];
        if task.status != Status::Ready || task.sweep.is_none() {
            return;
        }
        match task.work {
            Work::Train => self.ready.insert_train(id, task.seconds),
            Work::Evaluate { train, .. } => self.ready.insert_evaluation(id, self.trains[&train].holder.as_ref()),
            Work::Unknown => {}
        }
    }

    fn dequeue(&mut self, id: TaskId) {
        let task = &self.tasks[id.0 as usize];
        match task.work {
            Work::Train => self.ready.remove_train(id, task.seconds),
            Work::Evaluate { train, .. } => self.ready.remove_evaluation(id, self.trains[&train].holder.as_ref()),
            Work::Unknown => {}
        }
    }

    // ---- durable transitions, live and replayed -------------------------------------------------

    pub(super) fn on_leased(&mut self, lease: Lease, worker: &WorkerId, now: Millis) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id);
        let task = &mut self.tasks[id.0 as usize];
        task.attempt = task.attempt.max(lease.attempt);
        let deadline = now + self.settings.lease_ms;
        self.leases.insert(id, leases::Held { worker: worker.clone(), attempt: lease.attempt, deadline });
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.leases.insert(id);
        }
        self.reconsider(id);
    }

    pub(super) fn on_released(&mut self, lease: Lease) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id);
        self.reconsider(id);
    }

    pub(super) fn on_committed(&mut self, lease: Lease, worker: &WorkerId, epochs: Option<&[u32]>) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id);
        let task = &mut self.tasks[id.0 as usize];
        task.attempt = task.attempt.max(lease.attempt);
        task.answered = true;
        task.failures = Failures::default();
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

    pub(super) fn on_failed(&mut self, lease: Lease, failure: Failure, fatal: bool) {
        let id = self.find_or_add(lease.task);
        self.end_lease(id);
        self.tasks[id.0 as usize].failures.add(failure, fatal);
        self.reconsider(id);
    }

    pub(super) fn on_revived(&mut self, key: TaskKey) {
        let id = self.find_or_add(key);
        self.tasks[id.0 as usize].failures = Failures::default();
        self.reconsider(id);
    }

    fn reconsider_dependents(&mut self, id: TaskId) {
        let waiting = self.trains.get(&id).map(|train| train.dependents.clone()).unwrap_or_default();
        waiting.into_iter().for_each(|dependent| self.reconsider(dependent));
    }

    fn end_lease(&mut self, id: TaskId) {
        let Some(held) = self.leases.remove(&id) else { return };
        if let Some(worker) = self.workers.get_mut(&held.worker) {
            worker.leases.remove(&id);
        }
        let given = self.given.entry(id).or_default();
        match given.iter_mut().find(|(worker, _)| *worker == held.worker) {
            Some((_, last)) => *last = held.attempt.max(*last),
            None => given.push((held.worker, held.attempt)),
        }
    }

    // ---- questions about sweeps ------------------------------------------------------------------

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
