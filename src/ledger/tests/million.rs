//! A ledger with a million answered tasks. `cargo nextest run --lib --run-ignored only million --no-capture`

use super::*;
use crate::engine::{Engine, Settings};
use crate::program::note;
use std::time::Instant;

#[test]
#[ignore = "takes a minute; measures"]
fn a_million_answered_tasks_are_replayed_in_five_seconds() {
    const TASKS: u32 = 1_000_000;
    let dir = tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let started = Instant::now();
    for n in 0..TASKS {
        let lease = Lease { task: TaskKey(*blake3::hash(&n.to_le_bytes()).as_bytes()), attempt: 1 };
        let worker: crate::engine::WorkerId = "node-17-4242".into();
        ledger.append(&Record::Leased { lease, worker: worker.clone() }, 1).unwrap();
        ledger.append(&Record::Committed { lease, worker, epochs: None }, 2).unwrap();
        let (family, epsilons, levels) = (TaskKey([1; 32]), vec![0.1, 0.2, 0.3], vec![Level(2); 128]);
        let answer = EvaluateAnswer { family, epsilons, first: 0, levels, witnesses: None, trust: None };
        ledger.store_levels(lease.task, &answer).unwrap();
        if n % 10_000 == 0 {
            ledger.commit().unwrap();
        }
    }
    ledger.fold().unwrap();
    let wrote = started.elapsed().as_secs_f64();
    drop(ledger);
    for compacted in [false, true] {
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let (mut engine, mut records, started) = (Engine::new(Settings::default()), 0, Instant::now());
        ledger
            .replay(|record| {
                engine.replay(&record, 0);
                records += 1;
            })
            .unwrap();
        let replayed = started.elapsed().as_secs_f64();
        let answers = Instant::now();
        assert_eq!(ledger.damaged_answers().unwrap(), []);
        let checked = answers.elapsed().as_secs_f64();
        let size = std::fs::metadata(path_in(dir.path())).unwrap().len() >> 20;
        note(format_args!(
            "compacted: {compacted}; {records} records replayed in {replayed:.2} s, answers checked in {checked:.2} s, \
             {size} MiB; written in {wrote:.1} s"
        ));
        if !compacted {
            let started = Instant::now();
            let result = ledger.compact().unwrap();
            ledger.shrink().unwrap();
            note(format_args!("{result:?} in {:.1} s", started.elapsed().as_secs_f64()));
        }
    }
}
