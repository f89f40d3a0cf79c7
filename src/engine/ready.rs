//! A sweep's queues of tasks that could start now, and the order in which workers get them.

use super::{TaskId, WorkerId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// Tasks of one sweep that are ready and wanted.
///
/// A worker first gets evaluations of checkpoints it has trained itself (nothing to transfer, and
/// results appear early), then training runs, longest first (so that none is left over at the
/// end), then anybody's evaluations in plan order.
#[derive(Debug, Default)]
pub(super) struct Ready {
    trains: BTreeSet<(Reverse<Seconds>, TaskId)>,
    evaluations: BTreeSet<TaskId>,
    by_holder: HashMap<WorkerId, BTreeSet<TaskId>>,
}

/// Estimated seconds in an order that is total.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seconds(f32);

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Ready {
    pub fn insert_train(&mut self, task: TaskId, seconds: f32) {
        self.trains.insert((Reverse(Seconds(seconds)), task));
    }

    pub fn remove_train(&mut self, task: TaskId, seconds: f32) {
        self.trains.remove(&(Reverse(Seconds(seconds)), task));
    }

    pub fn insert_evaluation(&mut self, task: TaskId, holder: Option<&WorkerId>) {
        self.evaluations.insert(task);
        if let Some(holder) = holder {
            self.by_holder.entry(holder.clone()).or_default().insert(task);
        }
    }

    pub fn remove_evaluation(&mut self, task: TaskId, holder: Option<&WorkerId>) {
        self.evaluations.remove(&task);
        if let Some(holder) = holder
            && let Some(held) = self.by_holder.get_mut(holder)
        {
            held.remove(&task);
            if held.is_empty() {
                self.by_holder.remove(holder);
            }
        }
    }

    /// The task that `worker` should get next, of those it may have; it stays in the queue.
    pub fn next_for(&self, worker: &WorkerId, may: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        let held = self.by_holder.get(worker).into_iter().flatten().copied();
        let trains = self.trains.iter().map(|(_, task)| *task);
        held.chain(trains).chain(self.evaluations.iter().copied()).find(|&task| may(task))
    }

    pub fn is_empty(&self) -> bool {
        self.trains.is_empty() && self.evaluations.is_empty()
    }

    /// How many tasks a worker that has trained none of these checkpoints would get before this one.
    pub fn ahead_of(&self, task: TaskId, seconds: f32) -> usize {
        match self.evaluations.contains(&task) {
            true => self.trains.len() + self.evaluations.range(..task).count(),
            false => self.trains.range(..(Reverse(Seconds(seconds)), task)).count(),
        }
    }

    pub fn contains(&self, task: TaskId, seconds: f32) -> bool {
        self.evaluations.contains(&task) || self.trains.contains(&(Reverse(Seconds(seconds)), task))
    }

    pub fn len(&self) -> usize {
        self.trains.len() + self.evaluations.len()
    }

    /// All queued evaluations that `holder` is preferred for.
    pub fn held_by(&self, holder: &WorkerId) -> impl Iterator<Item = TaskId> + '_ {
        self.by_holder.get(holder).into_iter().flatten().copied()
    }

    pub fn holders(&self) -> impl Iterator<Item = &WorkerId> {
        self.by_holder.keys()
    }
}
