//! Scenarios of failures: their budgets, bad workers, poison tasks, and sweeps in which too much fails.

use super::*;

fn runs(count: u8) -> Event {
    let task = |n| NewTask { key: key(n), work: NewWork::Train { keep: vec![1, 5] }, seconds: 1.0 };
    Event::Admit(Admission { sweep: 1, revive: true, tasks: (0..count).map(task).collect() })
}

#[test]
fn a_task_goes_to_another_worker_after_a_failure_that_may_be_the_first_ones() {
    let mut bench = Bench::new();
    bench.apply(train_only(1, vec![1, 5]));
    bench.register("bad");
    bench.register("good");
    let lease = bench.acquire("bad", 1)[0];
    bench.fail("bad", lease, Failure::BadInput);
    assert_eq!(bench.acquire("bad", 2), [], "the other has not tried");
    let lease = bench.acquire("good", 1)[0];
    assert_eq!(bench.commit("good", lease), Verdict::Accepted);
}

#[test]
fn whoever_is_left_alone_with_a_task_tries_it_again() {
    let mut bench = Bench::new();
    bench.apply(train_only(1, vec![1, 5]));
    bench.register("a");
    bench.register("b");
    let lease = bench.acquire("a", 1)[0];
    bench.fail("a", lease, Failure::Bug);
    let effects = bench.apply(Event::Leave { worker: worker("b") });
    assert!(effects.contains(&Effect::Wake), "a waits for work");
    assert_eq!(bench.acquire("a", 2).len(), 1);
}

#[test]
fn a_worker_that_fails_everything_is_set_aside_and_later_forgiven() {
    let mut bench = Bench::new();
    bench.apply(runs(20));
    bench.register("bad");
    bench.register("good");
    for request in 1..=3 {
        let lease = bench.acquire("bad", request)[0];
        bench.fail("bad", lease, Failure::Bug);
    }
    assert_eq!(bench.acquire("bad", 4), []);
    let aside = bench.engine.set_aside();
    assert_eq!((&*aside[0].worker, aside[0].failures, aside[0].remaining), ("bad", 3, 10 * SECOND));
    assert_eq!(bench.acquire("good", 1).len(), 1);
    bench.now += 10 * SECOND;
    assert!(bench.apply(Event::Tick).contains(&Effect::Wake), "it may ask again");
    let lease = bench.acquire("bad", 4)[0];
    bench.fail("bad", lease, Failure::Bug);
    assert_eq!(bench.engine.set_aside()[0].remaining, 20 * SECOND, "longer each time");
    bench.now += 20 * SECOND;
    let lease = bench.acquire("bad", 5)[0];
    let epochs = Some(vec![1, 5]);
    bench.apply(Event::Commit { worker: worker("bad"), lease, epochs, seconds: 1.0 });
    let lease = bench.acquire("bad", 6)[0];
    bench.fail("bad", lease, Failure::Bug);
    assert_eq!(bench.engine.set_aside(), [], "one answer, and the count starts anew");
}

#[test]
fn a_task_that_failed_everywhere_rests_longer_each_time() {
    let mut bench = Bench::with(Settings::default());
    bench.apply(train_only(1, vec![1, 5]));
    bench.register("a");
    bench.register("b");
    let lease = bench.acquire("a", 1)[0];
    bench.fail("a", lease, Failure::BadInput);
    let lease = bench.acquire("b", 1)[0]; // it has not tried, and need not wait
    bench.fail("b", lease, Failure::BadInput);
    for (request, rest) in [(2, 4), (3, 16), (4, 64)] {
        assert_eq!(bench.engine.why_of(1, key(1)), Some(Why::Rests { seconds: rest }));
        assert_eq!((bench.acquire("a", request), bench.acquire("b", request)), (vec![], vec![]));
        bench.now += rest * SECOND - 1;
        assert_eq!(bench.acquire("a", request), []);
        bench.now += 1;
        assert!(bench.apply(Event::Tick).contains(&Effect::Wake), "workers wait for it");
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::BadInput);
    }
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Failed), 1);
}

#[test]
fn where_every_worker_fails_nobody_is_set_aside() {
    let mut bench = Bench::new();
    bench.apply(runs(3));
    bench.register("a");
    for request in 1..=9 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::Bug);
    }
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Failed), 3, "the tasks are at fault");
}

#[test]
fn a_sweep_in_which_too_much_fails_pauses_itself_until_a_person_has_looked() {
    let mut bench = Bench::new();
    bench.apply(runs(40));
    bench.register("a");
    let mut request = 0;
    let mut fail_one = |bench: &mut Bench, failure: Failure| {
        let mut effects = Vec::new();
        for _ in 0..=failure.retries().unwrap() {
            request += 1;
            let lease = bench.acquire("a", request)[0];
            effects.extend(bench.fail("a", lease, failure));
        }
        effects
    };
    for _ in 0..12 {
        assert!(!fail_one(&mut bench, Failure::Diverged).iter().any(|e| matches!(e, Effect::Paused(..))));
    }
    for _ in 0..10 {
        assert!(!fail_one(&mut bench, Failure::BadInput).iter().any(|e| matches!(e, Effect::Paused(..))));
    }
    let effects = fail_one(&mut bench, Failure::BadInput);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Paused(1, why) if why.contains("budget of 10"))));
    assert_eq!(bench.acquire("a", 1000), []);
    bench.apply(Event::Retry(1));
    bench.apply(Event::Resume(1));
    assert_eq!(bench.acquire("a", 1000).len(), 1);
}

#[test]
fn a_task_that_needs_too_much_memory_is_told_to_halve_its_batches() {
    let mut bench = Bench::new();
    bench.apply(train_only(1, vec![1, 5]));
    bench.register("a");
    for request in 1..=5 {
        let grant = bench.grants("a", request).pop().unwrap();
        assert_eq!(grant.halvings, request as u32 - 1);
        bench.fail("a", grant.lease, Failure::OutOfMemory);
    }
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Failed), 1);
}

#[test]
fn divergence_is_final_at_once_and_takes_its_evaluations_along() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    let effects = bench.fail("a", lease, Failure::Diverged);
    assert!(effects.contains(&Effect::Finished(1)), "one bad trial does not hold the sweep up");
    let progress = bench.engine.progress(1).unwrap();
    assert_eq!((progress.train.of(Status::Failed), progress.evaluate.of(Status::Skipped)), (1, 2));
}

#[test]
fn a_bug_is_tried_again_twice_and_a_new_submission_starts_afresh() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    for request in 1..=3 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::Bug);
    }
    assert_eq!(bench.acquire("a", 4), []);
    bench.apply(small_sweep(2));
    assert_eq!(bench.acquire("a", 5)[0].attempt, 4, "attempts never repeat");
}

#[test]
fn preemption_is_nobodys_fault() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    for request in 1..=50 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::Preempted);
    }
    assert_eq!(bench.acquire("a", 51).len(), 1);
}

#[test]
fn every_kind_of_failure_has_its_own_budget() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    for request in 1..=3 {
        bench.register("a");
        bench.acquire("a", request);
        bench.apply(Event::Lost { worker: worker("a") });
    }
    bench.register("a");
    for request in 1..=2 {
        let lease = bench.acquire("a", request)[0];
        bench.fail("a", lease, Failure::OutOfMemory);
    }
    assert_eq!(bench.acquire("a", 3).len(), 1, "three lost workers do not make two full memories fatal");
}
