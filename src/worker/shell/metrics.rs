//! What a worker shows to Prometheus; see docs/metrics.md.

use super::slots::Done;
use epsweep::engine::Failure;
use epsweep::telemetry::metrics::{KINDS, MetricFamily, common, counters, gauge, gauges, seconds_by_kind};
use prometheus::core::Collector;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Opts};

/// Outcomes that are no failure.
const ANSWERED: &str = "answered";
const STOPPED: &str = "stopped";

/// What the slots and their surroundings count.
#[derive(Debug)]
pub struct Metrics {
    tasks: IntCounterVec,
    seconds: HistogramVec,
    passes: IntCounterVec,
    pub slots_busy: IntGauge,
    /// Answers on their way, or waiting for a coordinator that does not answer.
    pub unsent: IntGauge,
}

impl Metrics {
    pub fn new() -> Metrics {
        let tasks = Opts::new("epsweep_worker_tasks_total", "Tasks that a slot has ended, by what became of them.");
        let tasks = IntCounterVec::new(tasks, &["kind", "outcome"]).expect("a valid name");
        let outcomes = || [ANSWERED, STOPPED].into_iter().chain(Failure::ALL.into_iter().map(Failure::name));
        for (kind, outcome) in KINDS.into_iter().flat_map(|kind| outcomes().map(move |outcome| (kind, outcome))) {
            tasks.with_label_values(&[kind, outcome]);
        }
        let gauge = |name, help| IntGauge::new(name, help).expect("a valid name");
        Metrics {
            tasks,
            seconds: seconds_by_kind(
                "epsweep_worker_task_seconds",
                "Seconds that tasks took a slot, however they ended.",
            ),
            passes: counters(
                "epsweep_worker_passes_total",
                "Examples that passed through a network in finished tasks.",
                "direction",
                &["forward", "backward"],
            ),
            slots_busy: gauge("epsweep_worker_slots_busy", "Slots that compute."),
            unsent: gauge("epsweep_worker_unsent_answers", "Finished answers that the coordinator has not taken yet."),
        }
    }

    /// A slot has ended a task. What it calls itself is the coordinator's word: only known kinds become labels.
    pub fn ended(&self, kind: &str, done: &Done) {
        let Some(kind) = KINDS.into_iter().find(|known| *known == kind) else { return };
        let outcome = match &done.result {
            Ok(_) => ANSWERED,
            Err(_) if done.stopped => STOPPED,
            Err((failure, _)) => failure.name(),
        };
        self.tasks.with_label_values(&[kind, outcome]).inc();
        self.seconds.with_label_values(&[kind]).observe(done.seconds);
        if let Ok(passes) = done.result.as_ref().map(|answer| answer.passes()) {
            self.passes.with_label_values(&["forward"]).inc_by(passes.forwards);
            self.passes.with_label_values(&["backward"]).inc_by(passes.backwards);
        }
    }

    /// The page, with what only the worker's loop knows.
    pub fn families(&self, now: &Now) -> Vec<MetricFamily> {
        let collectors: [&dyn Collector; 5] =
            [&self.tasks, &self.seconds, &self.passes, &self.slots_busy, &self.unsent];
        let counted = collectors.into_iter().flat_map(Collector::collect).collect();
        let leases = [("running", now.running), ("queued", now.queued)];
        let leases = leases.map(|(state, count)| ([state.to_string()], count as f64));
        [
            common("epsweep-worker"),
            counted,
            gauge("epsweep_worker_slots", "Slots, busy or not.", f64::from(now.slots)),
            gauges("epsweep_worker_leases", "Leases held: begun, and waiting for a slot.", ["state"], leases),
            gauge(
                "epsweep_worker_coordinator_connected",
                "1 when the coordinator answered the last call.",
                f64::from(u8::from(now.connected)),
            ),
            gauges(
                "epsweep_worker_device_info",
                "The device that this worker computes on, and its libtorch; always 1.",
                ["device", "libtorch"],
                [([now.device.clone(), now.libtorch.clone()], 1.0)],
            ),
        ]
        .concat()
    }
}

/// What is looked up when the page is read.
#[derive(Debug, Clone)]
pub struct Now {
    pub slots: u32,
    pub running: usize,
    pub queued: usize,
    pub connected: bool,
    pub device: String,
    pub libtorch: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use epsweep::engine::Lease;
    use epsweep::plan::TaskKey;

    #[test]
    fn tasks_are_counted_by_what_became_of_them() {
        let metrics = Metrics::new();
        let done = |result, stopped| Done {
            trace: Default::default(),
            lease: Lease { task: TaskKey::of(b"a question"), attempt: 1 },
            seconds: 0.5,
            result,
            stopped,
            partial: None,
        };
        metrics.ended("train", &done(Err((Failure::Diverged, "nan".into())), false));
        metrics.ended("train", &done(Err((Failure::Preempted, "stop".into())), true));
        metrics.ended("a kind of the future", &done(Err((Failure::Bug, String::new())), false));
        let count = |outcome| metrics.tasks.with_label_values(&["train", outcome]).get();
        assert_eq!([ANSWERED, STOPPED, "diverged", "bug"].map(count), [0, 1, 1, 0]);
        assert_eq!(metrics.seconds.with_label_values(&["train"]).get_sample_count(), 2);
        assert!(metrics.tasks.collect()[0].get_metric().len() == KINDS.len() * (Failure::COUNT + 2), "bounded");
    }
}
