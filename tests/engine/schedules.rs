//! The engine under random schedules.

use crate::sights::Sights;
use crate::steps::{Step, schedule};
use crate::world::World;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many schedules run unless EPSWEEP_SCHEDULES says otherwise: some seconds' worth.
const SCHEDULES: u32 = 4_000;

#[test]
fn any_schedule_of_faults_keeps_the_laws_and_then_heals() {
    let cases = number("EPSWEEP_SCHEDULES").map_or(SCHEDULES, |count| count as u32);
    let steps = number("EPSWEEP_STEPS");
    let max_shrink_iters = number("EPSWEEP_SHRINK").map_or(20_000, |count| count as u32);
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() };
    // The same schedules on every machine, and the first ones of a longer run; EPSWEEP_SEED draws others.
    let rng = match number("EPSWEEP_SEED") {
        None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        Some(seed) => TestRng::from_seed(RngAlgorithm::ChaCha, &[seed as u8; 32]),
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let sights = RefCell::new(Sights::default());
    quiet_while_shrinking();
    let outcome = runner.run(&schedule(steps), |steps| {
        sights.borrow_mut().add(run(&steps));
        Ok(())
    });
    let sights = sights.into_inner();
    println!("{cases} schedules: {sights:?}");
    if let Err(TestError::Fail(reason, steps)) = outcome {
        println!("after {} steps: {reason}", steps.len());
        let steps = shortened(steps);
        QUIET.store(false, Ordering::Relaxed);
        steps.iter().for_each(|step| println!("{step:?}"));
        run(&steps);
    }
    let Sights { events, copies, taken_over, set_aside, halted } = sights;
    let seen = [events, copies, taken_over, set_aside, halted];
    assert!(cases < SCHEDULES || seen.iter().all(|&count| count > 0), "the schedules show too little: {sights:?}");
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Leaves out single steps for as long as what remains still fails: proptest tries each only once.
fn shortened(mut steps: Vec<Step>) -> Vec<Step> {
    let fails = |steps: &[Step]| std::panic::catch_unwind(|| run(steps)).is_err();
    let mut position = 0;
    while position < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(position);
        if fails(&fewer) {
            (steps, position) = (fewer, 0);
        } else {
            position += 1;
        }
    }
    steps
}

fn run(steps: &[Step]) -> Sights {
    let mut world = World::new(steps.len() < 200);
    steps.iter().for_each(|step| world.step(step));
    world.heal();
    world.sights
}

static QUIET: AtomicBool = AtomicBool::new(true);

/// Thousands of expected panics would bury the one that counts; other tests keep their voice.
fn quiet_while_shrinking() {
    let (loud, here) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() != here || !QUIET.load(Ordering::Relaxed) {
            loud(info);
        }
    }));
}
