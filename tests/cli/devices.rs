//! What workers compute on: cores of their own.

use crate::harness::{Folder, SLOW};
use epsweep::launch::cores::allowed;

/// The cores that threads called `name` of a process may run on, as the kernel tells it.
fn cores_of(pid: i32, name: &str) -> Vec<String> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let threads = threads.filter_map(|thread| Some(thread.ok()?.path()));
    let named = threads.filter(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|c| c.trim() == name));
    let status = named.filter_map(|thread| std::fs::read_to_string(thread.join("status")).ok());
    let list = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(line.trim().to_string())
    };
    status.filter_map(list).collect()
}

#[test]
fn each_slot_is_bound_to_a_core_of_its_own() {
    let folder = Folder::with(SLOW);
    let cores: Vec<String> = allowed().unwrap().iter().take(2).map(usize::to_string).collect();
    let count = cores.len().to_string();

    let run = folder.start(&["run", "sweep.yaml", "--out", "pinned", "--workers", &count, "--pin", "--quiet"]);
    let bound = || -> Vec<String> {
        folder.worker_pids("pinned").into_iter().flat_map(|pid| cores_of(pid, "slot-0")).collect()
    };
    folder.wait_for("a bound slot in each worker", || bound() == cores);
    drop(run);

    let run = folder.start(&["run", "sweep.yaml", "--out", "free", "--workers", "1", "--quiet"]);
    let pid = || folder.worker_pids("free").first().copied().unwrap_or_default();
    folder.wait_for("a slot", || !cores_of(pid(), "slot-0").is_empty());
    let free = cores_of(pid(), "slot-0");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.lines().any(|line| line == format!("Cpus_allowed_list:\t{}", free[0])), "{free:?}");
    drop(run);

    // In the order of the list, for a worker by itself: nobody answers, and its slots wait already.
    let list = cores.iter().rev().cloned().collect::<Vec<_>>().join(",");
    let worker = folder.worker("127.0.0.1:9", "w", &["--slots", &count, &format!("--pin={list}")]);
    let last = format!("slot-{}", cores.len() - 1);
    folder.wait_for("the last slot on the first core", || {
        cores_of(worker.pid(), &last) == cores[..1] && cores_of(worker.pid(), "slot-0") == cores[cores.len() - 1..]
    });
}
