//! Only who was given a task may answer it.

use super::*;

#[test]
fn nobody_answers_what_another_holds() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    bench.register("b");
    let lease = bench.acquire("a", 1)[0];
    assert_eq!(bench.commit("b", lease), Verdict::Unwanted);
    assert_eq!(bench.commit("a", lease), Verdict::Accepted);
    assert_eq!(bench.commit("b", lease), Verdict::Duplicate, "which changes nothing");
}

#[test]
fn who_held_a_task_once_may_still_answer_it_and_only_with_its_own_attempt() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let first = bench.acquire("a", 1)[0];
    bench.now += Settings::default().lease_ms;
    bench.apply(Event::Tick);
    bench.register("b");
    let second = bench.acquire("b", 1)[0];
    assert_eq!((first.task, second.attempt), (second.task, 2));
    assert_eq!(bench.commit("a", second), Verdict::Unwanted, "that attempt is b's");
    assert_eq!(bench.commit("c", first), Verdict::Unwanted, "c was never given it");
    let mut recovered = bench.recovered();
    assert_eq!(recovered.commit("a", first), Verdict::Accepted, "history remembers who held it");
    assert_eq!(bench.commit("a", first), Verdict::Accepted);
}

#[test]
fn nobody_hoards_tasks() {
    let mut bench = Bench::new();
    let task = |n| NewTask { key: key(n), work: NewWork::Train { keep: vec![1] }, seconds: 0.01 };
    bench.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks: (1..=200).map(task).collect() }));
    bench.register("a");
    let mut greedy = |request| {
        let ask = Event::Acquire {
            worker: worker("a"),
            request,
            free_slots: u32::MAX,
            prefetch: u32::MAX,
            seconds_left: None,
        };
        let effects = bench.apply(ask);
        effects
            .iter()
            .find_map(|e| if let Effect::Granted(grants) = e { Some(grants.len()) } else { None })
            .unwrap_or(0)
    };
    assert_eq!(greedy(1), 16, "one slot, and what may wait for it");
    assert_eq!((2..100).map(greedy).sum::<usize>(), 0);
}
