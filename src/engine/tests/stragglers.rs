//! Scenarios of idle slots near the end of a sweep.

use super::*;

/// Ten training runs of a second, eight of them done, by two workers of equal pace.
fn nearly_done() -> Bench {
    let mut bench = Bench::new();
    let task = |n| NewTask { key: key(n), work: NewWork::Train { keep: vec![1, 5] }, seconds: 1.0 };
    bench.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks: (0..10).map(task).collect() }));
    bench.register("a");
    bench.register("b");
    for request in 1..=4 {
        for name in ["a", "b"] {
            let lease = bench.acquire(name, request)[0];
            answer(&mut bench, name, lease);
        }
    }
    bench
}

fn answer(bench: &mut Bench, name: &str, lease: Lease) -> Verdict {
    let epochs = Some(vec![1, 5]);
    verdict(&bench.apply(Event::Commit { worker: worker(name), lease, epochs, seconds: 1.0 }))
}

fn wait(bench: &mut Bench, seconds: u64) -> Vec<Effect> {
    bench.now += seconds * SECOND;
    bench.apply(Event::Tick)
}

#[test]
fn a_straggler_is_copied_by_an_idle_worker_and_the_first_answer_wins() {
    let mut bench = nearly_done();
    let slow = bench.acquire("a", 5)[0];
    let last = bench.acquire("b", 5)[0];
    answer(&mut bench, "b", last);
    assert_eq!(bench.acquire("b", 6), [], "nobody is late yet");
    assert!(wait(&mut bench, 10).contains(&Effect::Wake), "b waits for work");
    let copy = bench.acquire("b", 6)[0];
    assert_eq!(copy, Lease { attempt: 2, ..slow });
    assert_eq!(answer(&mut bench, "b", copy), Verdict::Accepted);
    assert_eq!(bench.engine.progress(1).unwrap().state, SweepState::Finished);
    let effects = bench.apply(Event::Heartbeat { worker: worker("a"), running: vec![slow], queued: vec![] });
    assert!(effects.contains(&Effect::Renewed { revoked: vec![slow] }));
    assert_eq!(answer(&mut bench, "a", slow), Verdict::Duplicate);
}

#[test]
fn the_original_may_win_as_well_and_each_may_fail_alone() {
    let mut bench = nearly_done();
    let original = bench.acquire("a", 5)[0];
    let last = bench.acquire("b", 5)[0];
    answer(&mut bench, "b", last);
    wait(&mut bench, 10);
    let copy = bench.acquire("b", 6)[0];
    let mut after = bench.recovered();
    assert_eq!(answer(&mut after, "a", original), Verdict::Accepted, "history knows both");
    bench.fail("a", original, Failure::Bug);
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Leased), 1, "the copy goes on");
    assert_eq!(answer(&mut bench, "b", copy), Verdict::Accepted);
}

#[test]
fn a_task_has_one_copy_at_most_and_none_on_its_own_worker() {
    let mut bench = nearly_done();
    bench.register("c");
    bench.apply(Event::Register { worker: worker("a"), slots: 2, running: vec![] });
    let slow = bench.acquire("a", 5)[0];
    let last = bench.acquire("b", 5)[0];
    answer(&mut bench, "b", last);
    wait(&mut bench, 10);
    assert_eq!(bench.acquire("a", 6), []);
    assert_eq!(bench.acquire("b", 6)[0].task, slow.task);
    wait(&mut bench, 10);
    assert_eq!(bench.acquire("c", 1), []);
}

#[test]
fn what_waits_at_a_slow_worker_is_given_to_an_idle_one() {
    let mut bench = nearly_done();
    bench.apply(Event::Register { worker: worker("a"), slots: 2, running: vec![] });
    let effects =
        bench.apply(Event::Acquire { worker: worker("a"), request: 5, free_slots: 2, prefetch: 0, seconds_left: None });
    let Some(Effect::Granted(grants)) = effects.last() else { panic!("{effects:?}") };
    let (running, queued) = (grants[0].lease, grants[1].lease);
    let beat = Event::Heartbeat { worker: worker("a"), running: vec![running, queued], queued: vec![queued] };
    bench.apply(beat.clone());
    wait(&mut bench, 3);
    assert_eq!(bench.acquire("b", 5), [], "two seconds of patience, and its turn behind the first");
    wait(&mut bench, 2);
    let taken = bench.acquire("b", 5)[0];
    assert_eq!(taken, Lease { attempt: 2, ..queued });
    assert!(bench.apply(beat).contains(&Effect::Renewed { revoked: vec![queued] }), "a drops it");
    assert_eq!(answer(&mut bench, "b", taken), Verdict::Accepted);
}

#[test]
fn a_slow_workers_task_is_copied_before_it_is_overdue() {
    let mut bench = nearly_done();
    let lease = bench.acquire("a", 5)[0];
    let epochs = Some(vec![1, 5]);
    bench.apply(Event::Commit { worker: worker("a"), lease, epochs, seconds: 100.0 });
    let slow = bench.acquire("a", 6)[0];
    wait(&mut bench, 3);
    assert_eq!(bench.acquire("b", 5), [Lease { attempt: 2, ..slow }]);
}

#[test]
fn nothing_is_copied_for_a_paused_sweep() {
    let mut bench = nearly_done();
    bench.acquire("a", 5);
    let last = bench.acquire("b", 5)[0];
    answer(&mut bench, "b", last);
    bench.apply(Event::Pause(1));
    wait(&mut bench, 10);
    assert_eq!(bench.acquire("b", 6), []);
}

// ---- found by random schedules ---------------------------------------------------------------------

#[test]
fn what_has_used_up_its_retries_is_not_tried_again_beside_its_last_copy() {
    let mut bench = nearly_done();
    bench.register("c");
    for (name, request) in [("a", 5), ("b", 5)] {
        let last = bench.acquire(name, request)[0];
        if name == "a" {
            answer(&mut bench, name, last);
        }
    }
    let (mut request, mut copies) = (5, 0);
    loop {
        wait(&mut bench, 10);
        let running = bench.engine.all_leases();
        bench.apply(Event::Heartbeat { worker: worker("b"), running, queued: vec![] });
        request += 1;
        let Some(&copy) = bench.acquire("a", request).first() else { break };
        bench.fail("a", copy, Failure::OutOfMemory);
        copies += 1;
    }
    assert_eq!(copies, 5);
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Leased), 1, "b may still answer");
}

#[test]
fn a_training_run_is_not_copied_for_epochs_that_nobody_wants_any_more() {
    let mut bench = nearly_done();
    for name in ["a", "b"] {
        let last = bench.acquire(name, 5)[0];
        answer(&mut bench, name, last);
    }
    let again = |sweep, epoch| {
        let work = NewWork::Train { keep: vec![epoch] };
        Event::Admit(Admission { sweep, revive: true, tasks: vec![NewTask { key: key(0), work, seconds: 1.0 }] })
    };
    bench.apply(again(2, 3));
    assert_eq!(bench.acquire("a", 6).len(), 1, "for epoch 3");
    bench.apply(Event::Cancel(2));
    bench.apply(again(3, 5));
    wait(&mut bench, 10);
    assert_eq!(bench.acquire("b", 6), [], "epoch 5 is there");
}
