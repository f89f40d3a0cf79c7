//! Scenarios of sweeps that are paused, retried and weighed against each other.

use super::*;

/// `count` training runs of a second each, with keys of their own.
fn runs(sweep: SweepId, count: u8) -> Event {
    let key = |n| TaskKey(std::array::from_fn(|byte| if byte == 0 { sweep as u8 } else { n }));
    let task = |n| NewTask { key: key(n), work: NewWork::Train { keep: vec![1, 5] }, seconds: 1.0 };
    Event::Admit(Admission { sweep, revive: true, tasks: (0..count).map(task).collect() })
}

/// Which sweeps the next tasks of one worker belong to, each answered at once.
fn served(bench: &mut Bench, count: usize) -> Vec<SweepId> {
    let mut request = 1000 * bench.ledger.len() as u64;
    let mut next = || {
        request += 1;
        let grant = bench.grants("a", request).pop().expect("there is work");
        let (lease, epochs) = (grant.lease, Some(grant.keep));
        bench.apply(Event::Commit { worker: worker("a"), lease, epochs, seconds: 1.0 });
        grant.sweep
    };
    (0..count).map(|_| next()).collect()
}

fn count(served: &[SweepId], sweep: SweepId) -> usize {
    served.iter().filter(|&&other| other == sweep).count()
}

#[test]
fn a_small_sweep_does_not_wait_for_the_end_of_a_big_one() {
    let mut bench = Bench::new();
    bench.apply(runs(1, 200));
    bench.register("a");
    served(&mut bench, 50);
    bench.apply(runs(2, 5));
    assert_eq!(count(&served(&mut bench, 11), 2), 5, "every other task is its own");
}

#[test]
fn slots_are_shared_by_priority() {
    let mut bench = Bench::new();
    bench.apply(runs(1, 200));
    bench.apply(runs(2, 200));
    bench.apply(Event::Prioritise { sweep: 2, priority: 3 * DEFAULT_PRIORITY });
    bench.register("a");
    let served = served(&mut bench, 80);
    assert_eq!((count(&served, 1), count(&served, 2)), (20, 60));
}

#[test]
fn a_sweep_of_long_tasks_gets_no_more_time_than_one_of_short_tasks() {
    let mut bench = Bench::new();
    let long = |n| NewTask { key: TaskKey([n; 32]), work: NewWork::Train { keep: vec![1, 5] }, seconds: 10.0 };
    bench.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks: (0..20).map(long).collect() }));
    bench.apply(runs(2, 200));
    bench.register("a");
    let mut seconds = [0.0; 3];
    for request in 1..=110 {
        let grant = bench.grants("a", request).pop().expect("there is work");
        let took = if grant.sweep == 1 { 10.0 } else { 1.0 };
        seconds[grant.sweep as usize] += took;
        let (lease, epochs) = (grant.lease, Some(grant.keep));
        bench.apply(Event::Commit { worker: worker("a"), lease, epochs, seconds: took });
    }
    assert!((seconds[1] - seconds[2]).abs() <= 10.0, "{seconds:?}");
}

#[test]
fn a_paused_sweep_starts_nothing_and_is_owed_nothing() {
    let mut bench = Bench::new();
    bench.apply(runs(1, 100));
    bench.apply(runs(2, 100));
    bench.register("a");
    let running = bench.grants("a", 1).pop().unwrap();
    bench.apply(Event::Pause(1));
    assert_eq!(count(&served(&mut bench, 30), 2), 30);
    assert_eq!(running.sweep, 1);
    let verdict = verdict(&bench.apply(Event::Commit {
        worker: worker("a"),
        lease: running.lease,
        epochs: Some(running.keep),
        seconds: 1.0,
    }));
    assert_eq!(verdict, Verdict::Accepted, "what runs may finish");
    bench.apply(Event::Resume(1));
    assert!((9..=11).contains(&count(&served(&mut bench, 20), 1)), "half of what follows, and no more");
}

#[test]
fn a_task_that_a_paused_sweep_shares_with_another_still_runs() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.apply(train_only(2, vec![1]));
    bench.apply(Event::Pause(1));
    bench.register("a");
    let grant = bench.grants("a", 1).pop().unwrap();
    assert_eq!((grant.sweep, grant.keep.as_slice()), (2, [1, 5].as_slice()));
    bench.commit("a", grant.lease);
    assert_eq!(bench.acquire("a", 2), [], "its evaluations belong to the paused one alone");
}

#[test]
fn a_retry_frees_what_failed_but_not_what_diverged() {
    let mut bench = Bench::new();
    bench.apply(runs(1, 3));
    bench.register("a");
    let diverged = bench.acquire("a", 1)[0];
    bench.fail("a", diverged, Failure::Diverged);
    for request in 2..=4 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::Bug);
    }
    assert_eq!(bench.engine.failed(1), (1, 1));
    bench.apply(Event::Retry(1));
    assert_eq!(bench.engine.failed(1), (0, 1));
    assert_eq!(bench.acquire("a", 5)[0].attempt, 4);
}

#[test]
fn everything_that_does_not_run_says_what_it_waits_for() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    let why = |bench: &Bench, n| bench.engine.why_of(1, key(n)).unwrap();
    assert_eq!(why(&bench, 1), Why::NoWorker);
    assert_eq!(why(&bench, 2), Why::Checkpoint { train: key(1) });
    bench.register("a");
    assert_eq!(why(&bench, 1), Why::Queued);
    bench.apply(Event::Pause(1));
    assert_eq!(why(&bench, 1), Why::Paused);
    bench.apply(Event::Resume(1));
    let train = bench.acquire("a", 1)[0];
    assert_eq!(why(&bench, 1), Why::Running { worker: worker("a"), attempt: 1, since: 0 });
    bench.commit("a", train);
    assert_eq!(why(&bench, 1), Why::Answered);
    assert_eq!(bench.engine.queue_position(1, key(3)), Some(1));
    for request in 2..=6 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::BadInput);
    }
    let failures = vec![(Failure::BadInput, 5)];
    assert_eq!(why(&bench, 2), Why::Quarantined { diverged: false, failures });
    bench.apply(Event::Cancel(1));
    assert_eq!(why(&bench, 3), Why::Cancelled);
    let diverged = bench_with_diverged_training();
    assert_eq!(why(&diverged, 3), Why::NoCheckpoint { train: key(1) });
}

fn bench_with_diverged_training() -> Bench {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    bench.fail("a", lease, Failure::Diverged);
    bench
}
