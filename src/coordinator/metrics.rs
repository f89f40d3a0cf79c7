//! What the coordinator shows to Prometheus; see docs/metrics.md.
//!
//! The core's thread counts a few atomics per task (see `core.rs`); sums over tasks are those that the engine keeps
//! anyway, and are read when the page is.

use super::core::{Core, Handle};
use crate::engine::{Failure, Record, Verdict};
use crate::ledger;
use crate::proto;
use crate::telemetry::metrics::{MetricFamily, common, counter, counters, gauge, seconds_by_kind};
use prometheus::core::Collector;
use prometheus::{Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use std::path::Path;
use std::time::Duration;

/// A core that has not answered for so long is not working.
const PATIENCE: Duration = Duration::from_secs(5);
/// Upper bounds of how long a commit takes, in seconds.
const COMMIT_SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// What the core counts.
#[derive(Debug)]
pub struct Metrics {
    leases: IntCounter,
    attempts: IntCounterVec,
    answered: IntCounter,
    failed_for_good: IntCounter,
    task_seconds: HistogramVec,
    passes: [IntCounter; 2],
    passes_by_direction: IntCounterVec,
    commit_seconds: Histogram,
    requests: IntCounter,
    busy: Counter,
}

/// Words of [`Metrics::attempts`] that are no failure.
const ANSWERED: &str = "answered";
const DUPLICATE: &str = "duplicate";
const UNWANTED: &str = "unwanted";
const RELEASED: &str = "released";

impl Metrics {
    pub fn new() -> Metrics {
        let outcomes: Vec<&str> = [ANSWERED, DUPLICATE, UNWANTED, RELEASED]
            .into_iter()
            .chain(Failure::ALL.into_iter().map(Failure::name))
            .collect();
        let attempts =
            counters("epsweep_attempts_total", "Ended attempts, by what became of them.", "outcome", &outcomes);
        let passes = counters(
            "epsweep_passes_total",
            "Examples that passed through a network in accepted answers.",
            "direction",
            &["forward", "backward"],
        );
        let commits = HistogramOpts::new("epsweep_commit_seconds", "How long the ledger's durable commits take.");
        let busy = Counter::new("epsweep_core_busy_seconds_total", "Seconds that the core's one thread was at work.");
        Metrics {
            leases: counter("epsweep_leases_total", "Leases granted, copies for idle slots included."),
            answered: attempts.with_label_values(&[ANSWERED]),
            attempts,
            failed_for_good: counter("epsweep_tasks_failed_total", "Times that a task's retries were used up."),
            task_seconds: seconds_by_kind("epsweep_task_seconds", "Seconds that accepted answers took their workers."),
            passes: ["forward", "backward"].map(|direction| passes.with_label_values(&[direction])),
            passes_by_direction: passes,
            commit_seconds: Histogram::with_opts(commits.buckets(COMMIT_SECONDS.to_vec())).expect("a valid name"),
            requests: counter("epsweep_core_requests_total", "Requests that the core's thread has answered."),
            busy: busy.expect("a valid name"),
        }
    }

    /// Counts what has been decided. Accepted answers are counted by [`Metrics::verdict`].
    pub fn record(&self, record: &Record) {
        match record {
            Record::Leased { .. } => self.leases.inc(),
            Record::Released { .. } => self.attempts.with_label_values(&[RELEASED]).inc(),
            Record::Failed { failure, fatal, .. } => {
                self.attempts.with_label_values(&[failure.name()]).inc();
                self.failed_for_good.inc_by(u64::from(*fatal));
            }
            Record::Committed { .. } | Record::Revived { .. } | Record::Withdrawn { .. } => {}
        }
    }

    /// Counts what was said of an answer.
    pub fn verdict(&self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.answered.inc(),
            Verdict::Duplicate => self.attempts.with_label_values(&[DUPLICATE]).inc(),
            Verdict::Unwanted => self.attempts.with_label_values(&[UNWANTED]).inc(),
        }
    }

    /// What an accepted answer took.
    pub fn cost(&self, kind: &str, seconds: f64, passes: &proto::Passes) {
        self.task_seconds.with_label_values(&[kind]).observe(seconds);
        self.passes[0].inc_by(passes.forwards);
        self.passes[1].inc_by(passes.backwards);
    }

    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// A round of the core's thread has ended.
    pub fn round(&self, requests: usize, took: Duration) {
        self.requests.inc_by(requests as u64);
        self.busy.inc_by(took.as_secs_f64());
    }

    fn families(&self) -> Vec<MetricFamily> {
        let collectors: [&dyn Collector; 8] = [
            &self.leases,
            &self.attempts,
            &self.failed_for_good,
            &self.task_seconds,
            &self.passes_by_direction,
            &self.commit_seconds,
            &self.requests,
            &self.busy,
        ];
        collectors.into_iter().flat_map(Collector::collect).collect()
    }
}

impl Handle {
    /// Everything that the coordinator shows to Prometheus; `None` when its core does not answer.
    pub async fn metrics(&self) -> Option<Vec<MetricFamily>> {
        let found = tokio::time::timeout(PATIENCE, self.read(Core::snapshot)).await.ok()?.ok()?;
        Some([common("epsweep"), self.metrics.families(), found, disk(&self.dir)].concat())
    }
}

/// What the ledger takes, and what is left.
fn disk(dir: &Path) -> Vec<MetricFamily> {
    let path = ledger::path_in(dir);
    let journal = path.with_extension("sqlite-wal");
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let taken = gauge("epsweep_ledger_bytes", "The ledger's files.", (bytes(&path) + bytes(&journal)) as f64);
    let free = super::core::free_bytes(dir)
        .map(|free| gauge("epsweep_state_free_bytes", "Free space where the ledger lies.", free as f64));
    [taken, free.unwrap_or_default()].concat()
}
