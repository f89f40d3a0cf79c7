//! The usual metrics of a process, by their usual names, from /proc.

use super::{MetricFamily, gauge};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::Counter;
use prometheus::core::Collector;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// When this process first showed its metrics, in Unix seconds: soon after its start.
static START: LazyLock<f64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));

pub(super) fn families() -> Vec<MetricFamily> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let mut found = vec![cpu(), gauge("process_start_time_seconds", "When it started, in Unix seconds.", *START)];
    let mut add = |name, help, value: Option<f64>| found.extend(value.map(|value| gauge(name, help, value)));
    add("process_resident_memory_bytes", "Memory in use.", line("VmRSS").map(|kib| kib * 1024.0));
    add("process_virtual_memory_bytes", "Address space in use.", line("VmSize").map(|kib| kib * 1024.0));
    add("process_threads", "Threads.", line("Threads"));
    let files = std::fs::read_dir("/proc/self/fd").map(|files| files.count() as f64).ok();
    add("process_open_fds", "Open file descriptors.", files);
    let most = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft as f64).ok();
    add("process_max_fds", "Most file descriptors that it may open.", most);
    found.concat()
}

fn cpu() -> Vec<MetricFamily> {
    let seconds = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    });
    let counter = Counter::new("process_cpu_seconds_total", "Seconds of CPU, user and system.").expect("a valid name");
    counter.inc_by(seconds);
    counter.collect()
}
