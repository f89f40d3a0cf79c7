//! What the page of metrics looks up in the core: counts that are kept anyway, none of them found by a search of tasks.

use super::Core;
use crate::engine::Status;
use crate::telemetry::metrics::{MetricFamily, gauge, gauges};

/// Sweeps that are shown, the newest of them: each name is a dozen series.
const SHOWN: usize = 200;

impl Core {
    pub fn snapshot(&self) -> Vec<MetricFamily> {
        let (workers, slots) = self.engine.fleet();
        let busy = self.engine.busy_slots();
        let slots = [("busy", busy), ("idle", slots.saturating_sub(busy))];
        let slots = slots.map(|(state, count)| ([state.to_string()], f64::from(count)));
        let full = f64::from(u8::from(!self.waits().is_empty()));
        let mut found = vec![
            gauge("epsweep_workers", "Connected workers.", f64::from(workers)),
            gauge(
                "epsweep_workers_set_aside",
                "Workers that get nothing for now, because they failed one task after another.",
                self.set_aside().len() as f64,
            ),
            gauges("epsweep_slots", "Slots of connected workers: with a task, and without.", ["state"], slots),
            gauge("epsweep_waiting_for_space", "1 while nothing is leased or taken in because the disk is full.", full),
        ];
        found.extend(self.sweep_metrics());
        found.concat()
    }

    /// How far sweeps are; the newest revision of each name.
    fn sweep_metrics(&self) -> [Vec<MetricFamily>; 4] {
        let (mut tasks, mut states, mut progress, mut remaining) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut newest = self.newest();
        for id in newest.split_off(newest.len().saturating_sub(SHOWN)) {
            let (Some(live), Some(found)) = (self.sweeps.get(&id), self.engine.progress(id)) else { continue };
            let name = &live.plan.sweep.name;
            for (kind, counts) in [("train", &found.train), ("evaluate", &found.evaluate)] {
                let row = |(status, word): (Status, &str)| {
                    ([name.clone(), kind.to_string(), word.to_string()], counts.of(status) as f64)
                };
                tasks.extend(STATES.map(row));
            }
            let now = live.state(&found);
            states.extend(SWEEP_STATES.map(|state| ([name.clone(), state.into()], f64::from(u8::from(state == now)))));
            progress.push(([name.clone()], found.progress));
            remaining.extend(found.remaining_seconds.map(|seconds| ([name.clone()], seconds)));
        }
        [
            gauges(
                "epsweep_tasks",
                "Tasks of a sweep, by state; those that certify or measure count as evaluate.",
                ["sweep", "kind", "state"],
                tasks,
            ),
            gauges(
                "epsweep_sweep_state",
                "1 for the state that a sweep is in, 0 for others.",
                ["sweep", "state"],
                states,
            ),
            gauges(
                "epsweep_sweep_progress_ratio",
                "Share of a sweep's expected work that is done.",
                ["sweep"],
                progress,
            ),
            gauges(
                "epsweep_sweep_remaining_seconds",
                "How long a sweep will take with the slots connected now, once something has been measured.",
                ["sweep"],
                remaining,
            ),
        ]
    }
}

const STATES: [(Status, &str); Status::COUNT] = [
    (Status::Blocked, "blocked"),
    (Status::Ready, "ready"),
    (Status::Leased, "leased"),
    (Status::Done, "done"),
    (Status::Failed, "failed"),
    (Status::Skipped, "skipped"),
];
const SWEEP_STATES: [&str; 5] = ["running", "paused", "done", "failed", "cancelled"];
