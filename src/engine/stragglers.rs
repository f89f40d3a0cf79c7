//! What idle slots do near the end: take over tasks that wait at a slow worker, and copy those that run too long.
//!
//! A copy is a second lease of a task, with an attempt of its own; the first answer counts, and the other
//! holder is told to stop at its next heartbeat. Candidates are looked for at a tick, not at every
//! request: thousands of idle workers may ask at once.

use super::task::{Outlook, TrainEntry};
use super::{Effect, Engine, Lease, Millis, Record, SweepId, TaskId, WorkerId};

/// A copy must promise to be done this much sooner than the original.
const GAIN: f64 = 1.5;
/// And nothing is taken over within this time: what is short is done before anybody could help.
const PATIENCE: f64 = 2.0;

/// So many idle workers are looked at: where they cannot help, slower ones cannot either.
const FASTEST: usize = 8;

/// How an idle worker can help with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Help {
    /// Its worker has not begun: give it away.
    TakeOver,
    Copy,
}

impl Engine {
    /// Looks for leases that idle slots could help with, when there is nothing else for these to do.
    pub(super) fn find_stragglers(&mut self, out: &mut Vec<Effect>) {
        self.stragglers.clear();
        if self.draining || self.leases.is_empty() || self.ready_tasks() > 0 {
            return;
        }
        let mut idle: Vec<(&WorkerId, f64)> = self
            .workers
            .iter()
            .filter(|(name, worker)| worker.leases.len() < worker.slots as usize && !self.is_set_aside(name))
            .map(|(name, worker)| (name, worker.reputation.pace))
            .collect();
        idle.sort_by(|a, b| a.1.total_cmp(&b.1));
        idle.truncate(FASTEST);
        let lease = |(id, held): (&TaskId, &super::leases::Held)| {
            let lease = Lease { task: self.tasks[id.0 as usize].key, attempt: held.attempt };
            idle.iter().any(|(name, _)| self.help(name, lease).is_some()).then_some(lease)
        };
        let found: Vec<Lease> = self.leases.iter().filter_map(lease).collect();
        if !found.is_empty() {
            out.push(Effect::Wake);
        }
        self.stragglers = found;
    }

    /// What an idle worker may do where no task is ready for it. Takes back what it is to take over.
    pub(super) fn help_out(
        &mut self,
        name: &WorkerId,
        idle: bool,
        now: Millis,
        out: &mut Vec<Effect>,
    ) -> Option<(SweepId, TaskId)> {
        if !idle || self.draining || self.stragglers.is_empty() || self.is_set_aside(name) {
            return None;
        }
        let helps = self.stragglers.iter().enumerate().filter_map(|(at, &lease)| Some((self.help(name, lease)?, at)));
        let (help, position) = helps.min()?; // what nobody has begun comes before a second copy
        let lease = self.stragglers.remove(position);
        let id = self.find(lease.task)?;
        let sweep = self.open_sweep(id)?;
        if help == Help::TakeOver {
            self.correct_share_by_clock(lease, now);
            let why = format!("it waited for a slot, and {name} had one free");
            self.record(Record::Released { lease, why }, now, out);
        }
        Some((sweep, id))
    }

    /// How `name` could help with a lease of another worker, if that is worth it.
    fn help(&self, name: &WorkerId, lease: Lease) -> Option<Help> {
        let id = self.find(lease.task)?;
        let held = self.held(id, lease.attempt)?;
        if held.worker == *name || self.copies.contains_key(&id) || !self.may_try(name, id) {
            return None;
        }
        if self.tasks[id.0 as usize].failures.outlook != Outlook::Open {
            return None; // its other lease has used up its retries: this one may still answer, but no more is tried
        }
        let complete = self.trains.get(&id).is_some_and(TrainEntry::is_complete);
        if complete || self.open_sweep(id).is_none() {
            return None; // all that is still wanted of it is there, or nobody may start it
        }
        let task = &self.tasks[id.0 as usize];
        let expected = self.measured.expected(task.kind(), task.seconds)?;
        let elapsed = self.now.saturating_sub(held.since) as f64 / 1000.0;
        let (there, crowd) = self.workers.get(&held.worker).map_or((1.0, 1.0), |worker| {
            (worker.reputation.pace, worker.leases.len() as f64 / f64::from(worker.slots.max(1)))
        });
        if elapsed < PATIENCE {
            return None;
        }
        if held.queued {
            return (elapsed > PATIENCE + expected * crowd).then_some(Help::TakeOver);
        }
        // What is overdue is expected to take as long again as it has taken so far.
        let remaining = if elapsed < expected * there { expected * there - elapsed } else { elapsed };
        let here = self.workers.get(name)?.reputation.pace;
        (remaining > PATIENCE + GAIN * expected * here).then_some(Help::Copy)
    }

    /// A sweep for which a task may start.
    fn open_sweep(&self, id: TaskId) -> Option<SweepId> {
        self.sweeps_of(id).into_iter().find(|sweep| !self.sweeps[sweep].paused)
    }
}
