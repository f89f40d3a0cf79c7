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
