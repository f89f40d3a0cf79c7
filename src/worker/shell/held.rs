//! The leases that a worker holds.
//!
//! A lease that was thought lost may come back as another attempt at the same task while the first still computes, or waits to
//! be handed in. Both are held, and told of in heartbeats; but only one of them works, since they share a folder.

use epsweep::engine::Lease;
use epsweep::plan::TaskKey;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// One lease, as the slot that works on it and the heartbeats share it.
#[derive(Debug, Default)]
struct Holding {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
    gone: CancellationToken,
}

/// What is to be known of a lease that was just added.
#[derive(Debug)]
pub struct Added {
    /// Stops it.
    pub stop: Arc<AtomicBool>,
    /// Says that a slot has begun it.
    pub begun: Arc<AtomicBool>,
    /// Earlier attempts at the same task, which have been told to stop: each is cancelled when it is not held any more.
    pub earlier: Vec<CancellationToken>,
}

/// What is held, for heartbeats and revocations.
#[derive(Debug, Default)]
pub struct Held(Mutex<BTreeMap<Lease, Holding>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lease, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> u32 {
        self.lock().len() as u32
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.lock().keys().copied().collect()
    }

    /// All leases, and those that wait for a slot.
    pub fn beat(&self) -> (Vec<Lease>, Vec<Lease>) {
        let held = self.lock();
        let waits = |(_, held): &(&Lease, &Holding)| !held.begun.load(Ordering::Relaxed);
        (held.keys().copied().collect(), held.iter().filter(waits).map(|(&lease, _)| lease).collect())
    }

    pub fn add(&self, lease: Lease) -> Added {
        let mut held = self.lock();
        let earlier = of_task(&held, lease.task).map(|holding| {
            holding.stop.store(true, Ordering::Relaxed);
            holding.gone.clone()
        });
        let earlier = earlier.collect();
        let holding = Holding::default();
        let added = Added { stop: holding.stop.clone(), begun: holding.begun.clone(), earlier };
        held.insert(lease, holding);
        added
    }

    pub fn remove(&self, lease: Lease) {
        if let Some(holding) = self.lock().remove(&lease) {
            holding.gone.cancel();
        }
    }

    pub fn stop(&self, lease: Lease) {
        if let Some(held) = self.lock().get(&lease) {
            held.stop.store(true, Ordering::Relaxed);
        }
    }

    /// A task has been answered: no attempt at it is of use any more.
    pub fn stop_task(&self, task: TaskKey) {
        of_task(&self.lock(), task).for_each(|holding| holding.stop.store(true, Ordering::Relaxed));
    }

    pub fn stop_all(&self) {
        self.lock().values().for_each(|held| held.stop.store(true, Ordering::Relaxed));
    }
}

fn of_task(held: &BTreeMap<Lease, Holding>, task: TaskKey) -> impl Iterator<Item = &Holding> {
    let [first, last] = [0, u32::MAX].map(|attempt| Lease { task, attempt });
    held.range(first..=last).map(|(_, holding)| holding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_attempt_at_a_task_stops_the_one_that_is_held_and_can_wait_for_its_end() {
        let lease = |task: &[u8], attempt| Lease { task: TaskKey::of(task), attempt };
        let held = Held::default();
        let (other, first) = (held.add(lease(b"other", 1)), held.add(lease(b"task", 1)));
        first.begun.store(true, Ordering::Relaxed);
        let second = held.add(lease(b"task", 2));
        assert!(first.stop.load(Ordering::Relaxed) && !second.stop.load(Ordering::Relaxed));
        assert!(!other.stop.load(Ordering::Relaxed) && other.earlier.is_empty() && first.earlier.is_empty());
        let (all, waiting) = held.beat();
        assert_eq!((all.len(), held.count()), (3, 3), "both attempts are told of");
        assert!(!waiting.contains(&lease(b"task", 1)) && waiting.contains(&lease(b"task", 2)));

        let [earlier] = &second.earlier[..] else { panic!("{:?}", second.earlier) };
        assert!(!earlier.is_cancelled());
        held.stop(lease(b"task", 3)); // of no effect
        held.remove(lease(b"task", 1));
        assert!(earlier.is_cancelled() && held.count() == 2);
        held.stop_task(TaskKey::of(b"task"));
        assert!(second.stop.load(Ordering::Relaxed) && !other.stop.load(Ordering::Relaxed));
    }
}
