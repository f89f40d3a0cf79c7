//! What can happen in the world, drawn at random. Positions are taken modulo what there is, so that
//! every list of steps is a schedule, and a failing one can be shortened.

use crate::sweeps::{Shape, TrialShape};
use epsweep::engine::Failure;
use proptest::prelude::*;

pub const WORKERS: usize = 3;
pub const NAMES: usize = 3;

#[derive(Debug, Clone)]
pub enum Step {
    /// A sweep is handed in, in place of an earlier one of its name.
    Submit {
        name: usize,
        shape: Shape,
    },
    Cancel {
        name: usize,
    },
    Pause {
        name: usize,
    },
    Resume {
        name: usize,
    },
    Prioritise {
        name: usize,
        priority: u32,
    },
    /// A person asks for failed tasks to be tried again.
    Retry {
        name: usize,
    },
    /// A worker sends a message, which stays in the network until it is delivered.
    Ask {
        worker: usize,
        prefetch: u32,
        /// Seconds until it must leave.
        left: Option<f64>,
    },
    Answer {
        worker: usize,
        pick: usize,
    },
    Fail {
        worker: usize,
        pick: usize,
        failure: Failure,
    },
    Beat {
        worker: usize,
        /// Which of the leases it names have not begun, by position.
        queued: u8,
    },
    /// A worker on a good line: it asks, and answers or fails all that it holds.
    Toil {
        worker: usize,
        failure: Option<Failure>,
    },
    Register {
        worker: usize,
    },
    Leave {
        worker: usize,
    },
    /// A worker's process ends and starts anew under its name; the coordinator may be told.
    Die {
        worker: usize,
        told: bool,
    },
    /// One message reaches the coordinator, perhaps not for the last time.
    Deliver {
        pick: usize,
        again: bool,
        reply_lost: bool,
    },
    /// The network loses a message.
    Lose {
        pick: usize,
    },
    Wait {
        millis: u64,
    },
    /// What was decided becomes durable, and the replies go out.
    Sync,
    /// The coordinator dies, with what it had decided since the last `Sync`, and starts again.
    Crash,
    Drain,
}

/// Short ones find most faults and shrink well; `steps` of them let much pile up.
pub fn schedule(steps: Option<usize>) -> impl Strategy<Value = Vec<Step>> {
    let length = steps.map_or(1..160, |steps| steps..steps + 1);
    prop::collection::vec(step(), length)
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..WORKERS;
    let pick = || 0usize..64;
    prop_oneof![
        2 => (0..NAMES, shape()).prop_map(|(name, shape)| Step::Submit { name, shape }),
        1 => (0..NAMES).prop_map(|name| Step::Cancel { name }),
        2 => (0..NAMES).prop_map(|name| Step::Pause { name }),
        2 => (0..NAMES).prop_map(|name| Step::Resume { name }),
        1 => (0..NAMES, 1u32..100).prop_map(|(name, priority)| Step::Prioritise { name, priority }),
        1 => (0..NAMES).prop_map(|name| Step::Retry { name }),
        10 => (worker(), 0u32..4, left()).prop_map(|(worker, prefetch, left)| Step::Ask { worker, prefetch, left }),
        10 => (worker(), pick()).prop_map(|(worker, pick)| Step::Answer { worker, pick }),
        5 => (worker(), pick(), failure()).prop_map(|(worker, pick, failure)| Step::Fail { worker, pick, failure }),
        4 => (worker(), any::<u8>()).prop_map(|(worker, queued)| Step::Beat { worker, queued }),
        14 => (worker(), prop::option::weighted(0.7, failure()))
            .prop_map(|(worker, failure)| Step::Toil { worker, failure }),
        3 => worker().prop_map(|worker| Step::Register { worker }),
        1 => worker().prop_map(|worker| Step::Leave { worker }),
        1 => (worker(), any::<bool>()).prop_map(|(worker, told)| Step::Die { worker, told }),
        30 => (pick(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(pick, again, reply_lost)| Step::Deliver { pick, again, reply_lost }),
        2 => pick().prop_map(|pick| Step::Lose { pick }),
        6 => prop::sample::select(vec![1u64, 3_000, 3_000, 5_000, 5_000, 20_000, 31_000]).prop_map(|millis| Step::Wait { millis }),
        15 => Just(Step::Sync),
        2 => Just(Step::Crash),
        1 => prop::bool::weighted(0.2).prop_map(|drain| if drain { Step::Drain } else { Step::Sync }),
    ]
}

/// Around what tasks of a second or a tenth need, reserve included.
fn left() -> impl Strategy<Value = Option<f64>> {
    prop::sample::select(vec![None, None, None, Some(0.0), Some(15.0), Some(15.2), Some(16.3), Some(100.0)])
}

fn failure() -> impl Strategy<Value = Failure> {
    use Failure::*;
    prop_oneof![1 => Just(Diverged), 3 => Just(OutOfMemory), 3 => Just(BadInput), 3 => Just(Preempted), 3 => Just(Bug)]
}

fn shape() -> impl Strategy<Value = Shape> {
    let trial = (0u8..3, 1u32..8, 1u8..3).prop_map(|(trial, mask, shards)| TrialShape {
        trial,
        keep: (1..=3).filter(|epoch| mask >> (epoch - 1) & 1 == 1).collect(),
        shards,
    });
    prop::collection::vec(trial, 1..3).prop_map(|mut trials| {
        trials.sort_by_key(|wanted| wanted.trial);
        trials.dedup_by_key(|wanted| wanted.trial);
        Shape(trials)
    })
}
