//! What workers compute on: cores of their own.

use crate::harness::{Folder, SLOW};
use epsweep::launch::cores::allowed;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The cores that each thread called `name` of a process may run on, as the kernel tells it.
fn cores_of(pid: i32, name: &str) -> Vec<Vec<usize>> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let threads = threads.filter_map(|thread| Some(thread.ok()?.path()));
    let named = threads.filter(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|c| c.trim() == name));
    let ids = named.filter_map(|thread| thread.file_name()?.to_str()?.parse().ok());
    let masks = ids.filter_map(|id| sched_getaffinity(Pid::from_raw(id)).ok());
    masks.map(|mask| (0..CpuSet::count()).filter(|&core| mask.is_set(core).unwrap()).collect()).collect()
}

#[test]
fn each_slot_is_bound_to_a_core_of_its_own() {
    let folder = Folder::with(SLOW);
    let all = allowed().unwrap();
    let cores: Vec<usize> = all.iter().take(2).copied().collect();
    let count = cores.len().to_string();

    let run = folder.start(&["run", "sweep.yaml", "--out", "pinned", "--workers", &count, "--pin", "--quiet"]);
    let slots = |state: &str| -> Vec<Vec<usize>> {
        folder.worker_pids(state).into_iter().flat_map(|pid| cores_of(pid, "slot-0")).collect()
    };
    let each_its_own: Vec<Vec<usize>> = cores.iter().map(|&core| vec![core]).collect();
    folder.wait_for("a bound slot in each worker", || slots("pinned") == each_its_own);
    drop(run);

    let run = folder.start(&["run", "sweep.yaml", "--out", "free", "--workers", "1", "--quiet"]);
    folder.wait_for("a slot", || !slots("free").is_empty());
    assert_eq!(slots("free"), [all]);
    drop(run);

    // In the order of the list, for a worker by itself: nobody answers, and its slots wait already.
    let list: Vec<String> = cores.iter().rev().map(usize::to_string).collect();
    let worker = folder.worker("127.0.0.1:9", "w", &["--slots", &count, &format!("--pin={}", list.join(","))]);
    for (slot, core) in cores.iter().rev().enumerate() {
        folder.wait_for("a slot on its core", || cores_of(worker.pid(), &format!("slot-{slot}")) == [vec![*core]]);
    }
}
