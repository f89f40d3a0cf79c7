//! Workers whose time is limited.

use super::*;

fn ask(bench: &mut Bench, name: &str, request: u64, left: Option<f64>) -> Vec<Lease> {
    let acquire = Event::Acquire { worker: worker(name), request, free_slots: 1, prefetch: 0, seconds_left: left };
    let effects = bench.apply(acquire);
    let granted = effects.into_iter().find_map(|effect| match effect {
        Effect::Granted(grants) => Some(grants),
        _ => None,
    });
    granted.unwrap_or_default().into_iter().map(|grant| grant.lease).collect()
}

/// Training runs that are expected to take 10, 30 and 300 s.
fn three_lengths() -> Event {
    let task = |n, seconds| NewTask { key: key(n), work: NewWork::Train { keep: vec![1] }, seconds };
    Event::Admit(Admission { sweep: 1, revive: true, tasks: vec![task(1, 10.0), task(2, 30.0), task(3, 300.0)] })
}

#[test]
fn a_worker_with_a_minute_left_takes_only_short_tasks() {
    let mut bench = Bench::new();
    bench.apply(three_lengths());
    ["short", "long"].iter().for_each(|name| bench.register(name));
    // Longest first, of those that fit: 30 s and a quarter, and 15 s to leave, are less than 60.
    let first = ask(&mut bench, "short", 1, Some(60.0));
    assert_eq!(first[0].task, key(2));
    bench.now += 30 * SECOND;
    bench.apply(Event::Commit { worker: worker("short"), lease: first[0], epochs: Some(vec![1]), seconds: 30.0 });
    let second = ask(&mut bench, "short", 2, Some(30.0));
    assert_eq!(second[0].task, key(1));
    bench.now += 10 * SECOND;
    bench.apply(Event::Commit { worker: worker("short"), lease: second[0], epochs: Some(vec![1]), seconds: 10.0 });
    assert!(ask(&mut bench, "short", 3, Some(20.0)).is_empty(), "the last one takes minutes");
    assert_eq!(ask(&mut bench, "long", 1, None)[0].task, key(3));
}

#[test]
fn what_was_measured_decides_what_fits() {
    let mut bench = Bench::new();
    bench.apply(three_lengths());
    ["short", "long"].iter().for_each(|name| bench.register(name));
    let lease = ask(&mut bench, "long", 1, None)[0];
    // Everything takes three times as long as was thought.
    bench.apply(Event::Commit { worker: worker("long"), lease, epochs: Some(vec![1]), seconds: 900.0 });
    assert_eq!(ask(&mut bench, "short", 1, Some(60.0))[0].task, key(1), "30 s have become 90");
}

#[test]
fn what_no_worker_has_time_for_says_so_with_both_numbers() {
    let mut bench = Bench::new();
    bench.apply(three_lengths());
    ["a", "b"].iter().for_each(|name| bench.register(name));
    let why = |bench: &Bench| bench.engine.why_of(1, key(3)).unwrap();
    assert_eq!(why(&bench), Why::Queued, "nothing is known of the workers' ends yet");
    assert_eq!(ask(&mut bench, "a", 1, Some(100.0))[0].task, key(2));
    assert_eq!(why(&bench), Why::Queued, "b may have the time");
    ask(&mut bench, "b", 1, Some(80.0));
    assert_eq!(why(&bench), Why::NoTime { needed: 390, most: 100 });
    bench.now += 10 * SECOND;
    bench.apply(Event::Tick);
    assert_eq!(why(&bench), Why::NoTime { needed: 390, most: 90 }, "time passes");
    bench.apply(Event::Leave { worker: worker("a") });
    bench.apply(Event::Leave { worker: worker("b") });
    assert_eq!(why(&bench), Why::NoWorker);
    bench.register("c");
    assert_eq!(ask(&mut bench, "c", 1, Some(3600.0))[0].task, key(3));
}

#[test]
fn nobody_copies_what_it_could_not_finish() {
    let mut bench = Bench::new();
    bench.apply(three_lengths());
    ["slow", "ending"].iter().for_each(|name| bench.register(name));
    for request in 1..=2 {
        let lease = ask(&mut bench, "ending", request, Some(3600.0))[0];
        let seconds = if lease.task == key(3) { 300.0 } else { 30.0 };
        bench.apply(Event::Commit { worker: worker("ending"), lease, epochs: Some(vec![1]), seconds });
    }
    let last = ask(&mut bench, "slow", 1, None)[0];
    for _ in 0..10 {
        bench.now += 10 * SECOND;
        bench.apply(Event::Heartbeat { worker: worker("slow"), running: vec![last], queued: vec![] });
        bench.apply(Event::Heartbeat { worker: worker("ending"), running: vec![], queued: vec![] });
        bench.apply(Event::Tick);
    }
    assert!(ask(&mut bench, "ending", 3, Some(20.0)).is_empty(), "10 s and a reserve do not fit into 20");
    assert_eq!(ask(&mut bench, "ending", 4, Some(60.0))[0].task, last.task, "with more time it helps");
}
