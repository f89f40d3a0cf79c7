//! Sweeps: which tasks are wanted, and how people steer them.

use super::progress::{KindCounts, SweepState};
use super::ready::Ready;
use super::task::{Outlook, Task, Work};
use super::{Admission, DEFAULT_PRIORITY, Effect, Engine, Millis, NewWork, Record, Status, SweepId, TaskId};
use crate::plan::TaskKey;

#[derive(Debug)]
pub(super) struct SweepEntry {
    pub tasks: Vec<TaskId>,
    pub state: SweepState,
    /// Train and evaluate, see `Task::kind`.
    pub counts: [KindCounts; 2],
    /// Estimated seconds of all tasks, and of those that are not final, by kind.
    pub seconds: [f64; 2],
    pub open_seconds: [f64; 2],
    /// Its tasks that could start now.
    pub ready: Ready,
    /// Nothing of it starts.
    pub paused: bool,
    /// Its weight when slots are shared out, see shares.rs.
    pub priority: u32,
    /// Seconds leased so far over the priority; sweeps that were idle do not save it up.
    pub served: f64,
    /// Tasks that failed for good since it was admitted or resumed, but for diverged ones.
    pub failures: u64,
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
            ready: Ready::default(),
            paused: false,
            priority: DEFAULT_PRIORITY,
            served: 0.0,
            failures: 0,
        };
        self.sweeps.insert(sweep, entry);
        self.running.insert(sweep);
        self.tasks.reserve(admission.tasks.len());
        self.by_key.reserve(admission.tasks.len(), |position| &self.tasks[position as usize].key);
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

    pub(super) fn find_or_add(&mut self, key: TaskKey) -> TaskId {
        if let Some(id) = self.find(key) {
            return id;
        }
        let id = TaskId(self.tasks.len() as u32);
        self.tasks.push(Task::unknown(key));
        self.by_key.insert(id.0, |position| &self.tasks[position as usize].key);
        id
    }

    /// The task of this key, if anybody has ever mentioned it.
    pub(super) fn find(&self, key: TaskKey) -> Option<TaskId> {
        self.by_key.get(key, |position| &self.tasks[position as usize].key).map(TaskId)
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
        entry.counts[kind].add(status);
        entry.seconds[kind] += seconds;
        if !status.is_final() {
            entry.open_seconds[kind] += seconds;
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
        self.running.remove(&sweep);
        for id in entry.tasks.clone() {
            self.unwant(id, sweep);
        }
        out.push(Effect::Wake);
        // A training run may be complete now, with what the other sweeps want of it.
        for other in self.running.iter().copied().collect::<Vec<_>>() {
            self.finish_if_complete(other, out);
        }
    }

    /// Nothing more of a sweep starts until it is resumed; what runs may finish.
    pub(super) fn pause(&mut self, sweep: SweepId) {
        if let Some(entry) = self.sweeps.get_mut(&sweep) {
            entry.paused = true;
        }
    }

    pub(super) fn resume(&mut self, sweep: SweepId, out: &mut Vec<Effect>) {
        let Some(entry) = self.sweeps.get_mut(&sweep).filter(|entry| entry.paused) else { return };
        entry.paused = false;
        entry.failures = 0; // a person has looked
        entry.served = entry.served.max(self.served);
        out.push(Effect::Wake);
    }

    /// One more task of a sweep has failed for good. A sweep in which many do has a cause that more
    /// attempts will not mend, and pauses itself.
    pub(super) fn count_failure(&mut self, sweep: SweepId, out: &mut Vec<Effect>) {
        let entry = self.sweeps.get_mut(&sweep).expect("sweeps are never forgotten");
        entry.failures += 1;
        let budget = self.settings.failure_budget.map_or(10.max(entry.tasks.len() as u64 / 20), u64::from);
        if entry.failures > budget && !entry.paused && entry.state == SweepState::Running {
            entry.paused = true;
            let why =
                format!("by itself: {} tasks have failed for good, more than its budget of {budget}", entry.failures);
            out.push(Effect::Paused(sweep, why));
        }
    }

    pub(super) fn prioritise(&mut self, sweep: SweepId, priority: u32) {
        if let Some(entry) = self.sweeps.get_mut(&sweep) {
            entry.priority = priority.max(1);
        }
    }

    /// Tasks that failed for good get another chance, except those that would only diverge again.
    pub(super) fn retry(&mut self, sweep: SweepId, now: Millis, out: &mut Vec<Effect>) {
        let Some(entry) = self.sweeps.get(&sweep).filter(|entry| entry.state == SweepState::Running) else { return };
        for id in entry.tasks.clone() {
            self.revive(id, now, out);
        }
        out.push(Effect::Wake);
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
        self.running.remove(&sweep);
        // A finished sweep gives up its claims: what others do with the tasks is no longer its concern.
        for id in entry.tasks.clone() {
            self.unwant(id, sweep);
        }
        out.push(Effect::Finished(sweep));
    }
}
