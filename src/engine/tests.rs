//! Scenarios, told in events and effects. Random schedules stand in tests/engine.

use super::*;
use crate::plan::TaskKey;

mod failures;
mod holders;
mod steering;
mod stragglers;
mod walltime;

const SECOND: Millis = 1000;

fn key(n: u8) -> TaskKey {
    TaskKey([n; 32])
}

fn worker(name: &str) -> WorkerId {
    name.into()
}

fn asks(name: &str, request: u64, free_slots: u32, prefetch: u32) -> Event {
    Event::Acquire { worker: worker(name), request, free_slots, prefetch, seconds_left: None }
}

/// One training run (key 1) with checkpoints at epochs 1 and 5, and one evaluation of each (keys 2, 3).
fn small_sweep(sweep: SweepId) -> Event {
    let task = |n, work| NewTask { key: key(n), work, seconds: 1.0 };
    Event::Admit(Admission {
        sweep,
        revive: true,
        tasks: vec![
            task(1, NewWork::Train { keep: vec![1, 5] }),
            task(2, NewWork::Evaluate { train: 0, epoch: 1 }),
            task(3, NewWork::Evaluate { train: 0, epoch: 5 }),
        ],
    })
}

/// The training run of `small_sweep`, wanted at other epochs and evaluated nowhere.
fn train_only(sweep: SweepId, keep: Vec<u32>) -> Event {
    let tasks = vec![NewTask { key: key(1), work: NewWork::Train { keep }, seconds: 1.0 }];
    Event::Admit(Admission { sweep, revive: true, tasks })
}

/// An engine with its clock and its ledger.
struct Bench {
    engine: Engine,
    now: Millis,
    ledger: Vec<Record>,
}

impl Bench {
    fn new() -> Bench {
        // Retries come at once, where a scenario is not about their rests.
        Bench::with(Settings { retry_ms: 0, ..Settings::default() })
    }

    fn with(settings: Settings) -> Bench {
        Bench { engine: Engine::new(settings), now: 0, ledger: Vec::new() }
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.engine.apply(event, self.now);
        self.engine.sanity_check();
        self.ledger.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Persist(record) => Some(record.clone()),
            _ => None,
        }));
        effects
    }

    fn register(&mut self, name: &str) {
        self.apply(Event::Register { worker: worker(name), slots: 1, running: vec![] });
    }

    fn acquire(&mut self, name: &str, request: u64) -> Vec<Lease> {
        self.grants(name, request).into_iter().map(|grant| grant.lease).collect()
    }

    fn grants(&mut self, name: &str, request: u64) -> Vec<Grant> {
        let effects = self.apply(asks(name, request, 1, 0));
        effects
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Granted(grants) => Some(grants),
                Effect::NothingReady => Some(vec![]),
                _ => None,
            })
            .expect("acquire is answered")
    }

    fn commit(&mut self, name: &str, lease: Lease) -> Verdict {
        let epochs = (lease.task == key(1)).then(|| vec![1, 5]);
        let effects = self.apply(Event::Commit { worker: worker(name), lease, epochs, seconds: 1.0 });
        verdict(&effects)
    }

    fn fail(&mut self, name: &str, lease: Lease, failure: Failure) -> Vec<Effect> {
        self.apply(Event::Fail { worker: worker(name), lease, failure, message: "it hurts".into() })
    }

    /// A second engine that only knows the ledger.
    fn recovered(&self) -> Bench {
        let mut engine = Engine::new(Settings::default());
        for record in &self.ledger {
            engine.replay(record, self.now);
            engine.sanity_check();
        }
        Bench { engine, now: self.now, ledger: self.ledger.clone() }
    }
}

fn verdict(effects: &[Effect]) -> Verdict {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Verdict(verdict) => Some(*verdict),
            _ => None,
        })
        .expect("commit is answered")
}

#[test]
fn a_sweep_runs_to_its_end() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    assert_eq!(train, Lease { task: key(1), attempt: 1 });
    assert_eq!(bench.acquire("a", 2), [], "evaluations wait for their checkpoint");
    assert_eq!(bench.commit("a", train), Verdict::Accepted);
    for request in [3, 4] {
        let lease = bench.acquire("a", request)[0];
        assert_eq!(bench.commit("a", lease), Verdict::Accepted);
    }
    assert_eq!(bench.engine.progress(1).unwrap().state, SweepState::Finished);
}

#[test]
fn a_lost_reply_costs_nothing() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let first = bench.acquire("a", 1);
    assert_eq!(bench.acquire("a", 1), first, "the same request gets the same leases");
    assert_eq!(bench.commit("a", first[0]), Verdict::Accepted);
    assert_eq!(bench.commit("a", first[0]), Verdict::Duplicate, "a repeated commit is recognised");
}

#[test]
fn a_silent_workers_task_is_given_away_and_its_late_answer_still_counts() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    bench.register("b");
    let late = bench.acquire("a", 1)[0];
    bench.now += 40 * SECOND;
    bench.register("b");
    bench.apply(Event::Tick);
    let second = bench.acquire("b", 1)[0];
    assert_eq!(second, Lease { task: key(1), attempt: 2 });
    assert_eq!(bench.commit("a", late), Verdict::Accepted, "unreachable is not failed");
    let effects = bench.apply(Event::Heartbeat { worker: worker("b"), running: vec![second], queued: vec![] });
    assert!(effects.contains(&Effect::Renewed { revoked: vec![second] }));
    assert_eq!(bench.commit("b", second), Verdict::Duplicate);
}

#[test]
fn a_heartbeat_keeps_a_lease_alive() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    for _ in 0..10 {
        bench.now += 20 * SECOND;
        bench.apply(Event::Heartbeat { worker: worker("a"), running: vec![lease], queued: vec![] });
        bench.apply(Event::Tick);
    }
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Leased), 1);
}

#[test]
fn history_alone_restores_what_was_done() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    bench.commit("a", train);
    let evaluation = bench.acquire("a", 2)[0];
    bench.commit("a", evaluation);
    let held = bench.acquire("a", 3)[0];

    let mut after = bench.recovered();
    after.apply(small_sweep(1));
    let progress = after.engine.progress(1).unwrap();
    assert_eq!((progress.train.of(Status::Done), progress.evaluate.of(Status::Done)), (1, 1));
    assert_eq!(progress.evaluate.of(Status::Leased), 1, "its worker may be alive");
    assert_eq!(after.commit("a", held), Verdict::Accepted, "and hands its answer in to the new coordinator");
}

#[test]
fn two_sweeps_share_a_task_and_one_may_be_cancelled() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.apply(small_sweep(2));
    bench.apply(Event::Cancel(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    bench.commit("a", train);
    let progress = bench.engine.progress(2).unwrap();
    assert_eq!(progress.train.of(Status::Done), 1);
    bench.apply(Event::Cancel(2));
    assert_eq!(bench.acquire("a", 2), [], "nobody wants the rest");
}

#[test]
fn a_cancelled_lease_is_revoked_but_its_answer_is_kept() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    bench.apply(Event::Cancel(1));
    let effects = bench.apply(Event::Heartbeat { worker: worker("a"), running: vec![lease], queued: vec![] });
    assert!(effects.contains(&Effect::Renewed { revoked: vec![lease] }));
    assert_eq!(bench.commit("a", lease), Verdict::Accepted);
}

#[test]
fn more_epochs_wanted_later_train_again_and_nothing_else_does() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    for request in 1..=3 {
        let lease = bench.acquire("a", request)[0];
        bench.commit("a", lease);
    }
    let tasks = vec![
        NewTask { key: key(1), work: NewWork::Train { keep: vec![3, 5] }, seconds: 1.0 },
        NewTask { key: key(3), work: NewWork::Evaluate { train: 0, epoch: 5 }, seconds: 1.0 },
        NewTask { key: key(4), work: NewWork::Evaluate { train: 0, epoch: 3 }, seconds: 1.0 },
    ];
    bench.apply(Event::Admit(Admission { sweep: 2, revive: true, tasks }));
    let progress = bench.engine.progress(2).unwrap();
    assert_eq!((progress.train.of(Status::Ready), progress.evaluate.of(Status::Done)), (1, 1));
}

#[test]
fn a_worker_gets_the_checkpoints_it_holds_first() {
    let mut bench = Bench::new();
    let train = |n, seconds| NewTask { key: key(n), work: NewWork::Train { keep: vec![1, 5] }, seconds };
    let evaluation = NewTask { key: key(2), work: NewWork::Evaluate { train: 0, epoch: 1 }, seconds: 1.0 };
    let tasks = vec![train(1, 3.0), evaluation, train(10, 1.0), train(11, 2.0)];
    bench.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks }));
    bench.register("a");
    bench.register("b");
    let longest = bench.acquire("a", 1)[0];
    assert_eq!(longest.task, key(1), "longest first");
    bench.commit("a", longest);
    assert_eq!(bench.acquire("a", 2)[0].task, key(2), "its own checkpoint comes before any training run");
    assert_eq!(bench.acquire("b", 1)[0].task, key(11));
}

#[test]
fn short_tasks_are_prefetched_and_long_ones_are_not() {
    let mut bench = Bench::new();
    let tasks =
        |seconds: f32| (0..100).map(move |n| NewTask { key: key(n), work: NewWork::Train { keep: vec![1] }, seconds });
    bench.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks: tasks(0.01).collect() }));
    bench.register("a");
    let granted = |bench: &mut Bench, request| {
        let effects = bench.apply(asks("a", request, 1, 7));
        effects.iter().find_map(|effect| if let Effect::Granted(grants) = effect { Some(grants.len()) } else { None })
    };
    assert_eq!(granted(&mut bench, 1), Some(1), "nothing has been measured yet");
    bench.apply(Event::Commit {
        worker: worker("a"),
        lease: Lease { task: key(0), attempt: 1 },
        epochs: Some(vec![1]),
        seconds: 0.01,
    });
    assert_eq!(granted(&mut bench, 2), Some(8));
    let mut slow = Bench::new();
    slow.apply(Event::Admit(Admission { sweep: 1, revive: true, tasks: tasks(60.0).collect() }));
    slow.register("a");
    assert_eq!(granted(&mut slow, 1), Some(1));
    slow.apply(Event::Commit {
        worker: worker("a"),
        lease: Lease { task: key(0), attempt: 1 },
        epochs: Some(vec![1]),
        seconds: 50.0,
    });
    assert_eq!(granted(&mut slow, 2), Some(1));
}

// ---- found by random schedules, see tests/engine ---------------------------------------------------

#[test]
fn a_training_run_that_two_sweeps_share_hands_in_what_both_want() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.apply(train_only(2, vec![3, 5]));
    bench.register("a");
    assert_eq!(bench.grants("a", 1)[0].keep, [1, 3, 5], "else the second sweep would never see its epoch 3");
}

#[test]
fn a_training_run_repeated_for_more_epochs_hands_in_only_those() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    bench.commit("a", lease);
    bench.apply(Event::Cancel(1));
    bench.apply(train_only(2, vec![3, 5]));
    assert_eq!(bench.grants("a", 2)[0].keep, [3]);
}

#[test]
fn epochs_that_nobody_wants_any_more_are_not_trained() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    bench.commit("a", train);
    bench.apply(train_only(2, vec![7]));
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Ready), 1);
    bench.apply(Event::Cancel(2));
    assert_eq!(bench.engine.progress(1).unwrap().train.of(Status::Done), 1, "it has all that is left to want");
    assert_eq!(bench.acquire("a", 2)[0].task, key(2));
}

#[test]
fn a_sweep_may_finish_because_another_is_cancelled() {
    let mut bench = Bench::new();
    bench.apply(train_only(1, vec![1]));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    bench.apply(train_only(2, vec![1, 5]));
    bench.apply(Event::Commit { worker: worker("a"), lease: train, epochs: Some(vec![1]), seconds: 1.0 });
    let effects = bench.apply(Event::Cancel(2));
    assert!(effects.contains(&Effect::Finished(1)));
}

#[test]
fn what_failed_for_other_epochs_is_done_for_a_sweep_that_has_its_own() {
    let mut bench = Bench::new();
    bench.apply(train_only(1, vec![1]));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    bench.apply(Event::Commit { worker: worker("a"), lease, epochs: Some(vec![1]), seconds: 1.0 });
    bench.apply(train_only(2, vec![5]));
    let lease = bench.acquire("a", 2)[0];
    bench.fail("a", lease, Failure::Diverged);
    let progress = |bench: &Bench, sweep| bench.engine.progress(sweep).unwrap().train;
    assert_eq!(progress(&bench, 2).of(Status::Failed), 1);
    bench.apply(train_only(3, vec![1]));
    assert_eq!(progress(&bench, 3).of(Status::Done), 1);
    bench.apply(train_only(4, vec![5]));
    assert_eq!(progress(&bench, 4).of(Status::Failed), 1, "it would only diverge again");
}

#[test]
fn a_worker_whose_lost_leases_have_ended_gets_others_for_the_same_request() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    bench.register("b");
    let late = bench.acquire("a", 1)[0];
    bench.now += 29 * SECOND;
    bench.register("b");
    bench.now += 2 * SECOND;
    bench.apply(Event::Tick);
    let lost_reply = bench.acquire("b", 1)[0];
    assert_eq!(bench.commit("a", late), Verdict::Accepted);
    let leases = bench.acquire("b", 1);
    assert_eq!(leases.len(), 1, "or it would repeat itself for ever, and never get anything");
    assert_ne!(leases[0], lost_reply);
}

#[test]
fn a_request_that_was_delayed_until_after_its_answer_gets_nothing() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    bench.commit("a", train);
    bench.acquire("a", 2);
    assert_eq!(bench.acquire("a", 1), [], "nobody would hear of the leases");
}

#[test]
fn a_worker_that_registers_gives_back_what_it_does_not_name() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lost_reply = bench.acquire("a", 1)[0];
    let mut after = bench.recovered();
    after.apply(small_sweep(1));
    after.register("a");
    assert_eq!(after.acquire("a", 1), [Lease { attempt: 2, ..lost_reply }], "without waiting for the deadline");

    let held = after.acquire("a", 1);
    after.apply(Event::Register { worker: worker("a"), slots: 1, running: held.clone() });
    assert_eq!(after.acquire("a", 1), [], "what it names stays with it");
    assert_eq!(after.commit("a", held[0]), Verdict::Accepted);
}

#[test]
fn a_revoked_lease_is_nobodys_and_no_failure() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let lease = bench.acquire("a", 1)[0];
    bench.apply(Event::Cancel(1));
    bench.apply(Event::Heartbeat { worker: worker("a"), running: vec![lease], queued: vec![] });
    bench.apply(small_sweep(2));
    assert_eq!(bench.acquire("a", 2), [Lease { attempt: 2, ..lease }], "wanted again, and free at once");
    assert!(!bench.ledger.iter().any(|record| matches!(record, Record::Failed { .. })));
}

#[test]
fn a_worker_may_leave_or_die_before_it_has_registered_again() {
    for last_word in [Event::Leave { worker: worker("a") }, Event::Lost { worker: worker("a") }] {
        let mut bench = Bench::new();
        bench.apply(small_sweep(1));
        bench.register("a");
        bench.acquire("a", 1);
        let mut after = bench.recovered();
        after.apply(small_sweep(1));
        after.apply(last_word);
        after.register("b");
        assert_eq!(after.acquire("b", 1)[0].task, key(1), "without waiting for the deadline");
    }
}

#[test]
fn an_answer_is_taken_once_even_while_no_sweep_has_asked_for_it_again() {
    let mut bench = Bench::new();
    bench.apply(small_sweep(1));
    bench.register("a");
    let train = bench.acquire("a", 1)[0];
    let mut after = bench.recovered();
    assert_eq!(after.commit("a", train), Verdict::Accepted);
    assert_eq!(after.commit("a", train), Verdict::Duplicate);
}
