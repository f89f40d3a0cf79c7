//! Metrics: what Prometheus reads from both programs, as text over plain HTTP, on an address of its own.
//!
//! Counters and histograms are atomics that the work itself counts up. Everything else is looked up when somebody
//! reads the page, from what the program knows anyway. No label holds an id of a task or a trial: how many series
//! there are depends on how many sweeps there are, not on how large they are.
//!
//! docs/metrics.md lists every metric; a test compares that list with what the programs show.

mod http;
mod process;

pub use http::{Page, PageError};
pub use prometheus::proto::MetricFamily;

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

/// Where metrics are shown.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MetricsAddress {
    /// Show metrics for Prometheus at http://ADDR/metrics, to everybody who can reach it; port 0 takes a free one
    #[arg(long = "metrics", value_name = "ADDR")]
    pub address: Option<String>,
}

/// Upper bounds of how long a task takes, in seconds: from a shard of digits to an ImageNet training run.
pub const TASK_SECONDS: [f64; 13] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, 100_000.0];

/// The kinds of task, as label values.
pub const KINDS: [&str; 4] = ["train", "evaluate", "certify", "measure"];

/// A value at the moment of reading, one row for each combination of label values.
///
/// # Panics
/// When a name is not one that Prometheus takes: these are written in our own code.
pub fn gauges<const N: usize>(
    name: &str,
    help: &str,
    labels: [&str; N],
    rows: impl IntoIterator<Item = ([String; N], f64)>,
) -> Vec<MetricFamily> {
    let vector = GaugeVec::new(Opts::new(name, help), &labels).expect("a valid name");
    for (values, value) in rows {
        vector.with_label_values(&values).set(value);
    }
    vector.collect()
}

/// A value at the moment of reading that has no labels.
pub fn gauge(name: &str, help: &str, value: f64) -> Vec<MetricFamily> {
    gauges(name, help, [], [([], value)])
}

/// A counter for each value of one label, all of them present from the start.
///
/// # Panics
/// As [`gauges`].
pub fn counters(name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
    let vector = IntCounterVec::new(Opts::new(name, help), &[label]).expect("a valid name");
    values.iter().for_each(|value| drop(vector.with_label_values(&[value])));
    vector
}

/// A counter without labels.
///
/// # Panics
/// As [`gauges`].
pub fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a valid name")
}

/// A histogram for each kind of task.
///
/// # Panics
/// As [`gauges`].
pub fn seconds_by_kind(name: &str, help: &str) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(TASK_SECONDS.to_vec());
    let vector = HistogramVec::new(options, &["kind"]).expect("a valid name");
    KINDS.iter().for_each(|kind| drop(vector.with_label_values(&[kind])));
    vector
}

/// What both programs show: which they are, and what the operating system says of them.
pub fn common(program: &str) -> Vec<MetricFamily> {
    let labels = [program.to_string(), env!("CARGO_PKG_VERSION").to_string()];
    let build =
        gauges("epsweep_build_info", "The program and its version; always 1.", ["program", "version"], [(labels, 1.0)]);
    [build, process::families()].concat()
}
