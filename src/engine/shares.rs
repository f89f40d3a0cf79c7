//! Fair shares: whose task is next when several sweeps have some ready.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng 1996): each sweep has the seconds it was leased so far over
//! its priority, and the one with the least is served. One that had nothing ready, or was paused, comes
//! back where the others stand: it neither waits for what they were given before, nor catches it up.

use super::{Engine, Lease, Millis, SweepId, TaskId, WorkerId};

impl Engine {
    /// The task that `worker` should get next, and the sweep that it counts for; it stays in its queues.
    pub(super) fn next_for(&self, worker: &WorkerId) -> Option<(SweepId, TaskId)> {
        if self.is_set_aside(worker) {
            return None;
        }
        let mut best: Option<(f64, SweepId, TaskId)> = None;
        for (entry, &sweep) in self.running.iter().map(|sweep| (&self.sweeps[sweep], sweep)) {
            let behind = best.is_some_and(|(served, ..)| served <= entry.served);
            if !entry.paused
                && !behind
                && let Some(task) = entry.ready.next_for(worker, |task| self.may_try(worker, task))
            {
                best = Some((entry.served, sweep, task));
            }
        }
        best.map(|(_, sweep, task)| (sweep, task))
    }

    /// Counts a task against its sweep's share; returns the seconds that it is expected to take.
    pub(super) fn serve(&mut self, sweep: SweepId, id: TaskId) -> f64 {
        let task = &self.tasks[id.0 as usize];
        let seconds = (f64::from(task.seconds) * self.measured.ratio(task.kind())).max(1e-3);
        let entry = self.sweeps.get_mut(&sweep).expect("only running sweeps are served");
        self.served = self.served.max(entry.served);
        entry.served += seconds / f64::from(entry.priority);
        seconds
    }

    /// A lease has ended after so many seconds, not those that were expected.
    pub(super) fn correct_share(&mut self, id: TaskId, attempt: u32, seconds: f64) {
        let charged = self.held_mut(id, attempt).and_then(|held| held.charged.take());
        if let Some((sweep, expected)) = charged
            && let Some(entry) = self.sweeps.get_mut(&sweep)
            && seconds.is_finite()
        {
            entry.served += (seconds.max(0.0) - expected) / f64::from(entry.priority);
        }
    }

    /// A lease has ended without an answer: what it took is what has passed.
    pub(super) fn correct_share_by_clock(&mut self, lease: Lease, now: Millis) {
        let Some(id) = self.find(lease.task) else { return };
        if let Some(held) = self.held_mut(id, lease.attempt) {
            let seconds = now.saturating_sub(held.since) as f64 / 1000.0;
            self.correct_share(id, lease.attempt, seconds);
        }
    }

    /// Tasks that could start now.
    pub(super) fn ready_tasks(&self) -> usize {
        let entries = self.running.iter().map(|sweep| &self.sweeps[sweep]);
        entries.filter(|entry| !entry.paused).map(|entry| entry.ready.len()).sum()
    }
}
