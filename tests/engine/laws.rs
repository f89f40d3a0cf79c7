//! What must hold of any history of records, whoever wrote it. Knows nothing of the engine's insides.

use crate::sweeps::{Meaning, Shape, meaning, train_key};
use epsweep::engine::{Failure, Lease, Record, WorkerId};
use epsweep::plan::TaskKey;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// All that a history says, task by task.
#[derive(Debug, Default)]
pub struct Laws {
    tasks: HashMap<TaskKey, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    attempt: u32,
    /// By attempt: one, or one and its copy.
    leased: BTreeMap<u32, WorkerId>,
    answered: bool,
    /// Of a training run: the checkpoints that exist.
    epochs: BTreeSet<u32>,
    /// Since the last answer or revival.
    failures: HashMap<Failure, u32>,
    /// Workers that failed it in a way that may be their own fault, since then.
    blamed: HashSet<WorkerId>,
    given_up: bool,
}

/// What the world outside the history knows at the time of a record.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Sweeps that are neither finished nor cancelled.
    pub running: Vec<&'a Shape>,
    /// Those of them that are not paused.
    pub open: Vec<&'a Shape>,
    pub registered: &'a HashSet<WorkerId>,
    /// Those that are connected and not set aside.
    pub trusted: Vec<WorkerId>,
    pub draining: bool,
}

impl Laws {
    /// Follows a history that was lawful when it was written.
    pub fn of(history: &[Record]) -> Laws {
        let mut laws = Laws::default();
        history.iter().for_each(|record| laws.observe(record, None));
        laws
    }

    /// Takes the next record in, and objects when it breaks a law.
    pub fn observe(&mut self, record: &Record, now: Option<&Circumstances>) {
        match record {
            Record::Leased { lease, worker } => {
                if let Some(now) = now {
                    self.check_lease(lease.task, worker, now);
                }
                let seen = self.tasks.entry(lease.task).or_default();
                assert!(lease.attempt > seen.attempt, "{record:?}: an attempt number came twice");
                assert!(seen.leased.len() < 2, "{record:?}: leased three times at a time");
                assert!(seen.leased.values().all(|holder| holder != worker), "{record:?}: a copy for the same worker");
                assert!(!seen.given_up, "{record:?}: leased after it had failed for good");
                seen.attempt = lease.attempt;
                seen.leased.insert(lease.attempt, worker.clone());
            }
            Record::Released { lease, .. } => {
                let seen = self.tasks.entry(lease.task).or_default();
                assert!(seen.leased.remove(&lease.attempt).is_some(), "{record:?}: released what was not leased");
            }
            Record::Committed { lease, epochs, .. } => {
                self.observe_answer(record, lease.task, lease.attempt, epochs.as_deref())
            }
            Record::Failed { lease, worker, failure, fatal, .. } => {
                let seen = self.tasks.entry(lease.task).or_default();
                let held = seen.leased.remove(&lease.attempt);
                assert_eq!(held.as_ref(), Some(worker), "{record:?}: only the holder of a lease can fail");
                if matches!(failure, Failure::BadInput | Failure::Bug) {
                    seen.blamed.insert(worker.clone());
                }
                let count = seen.failures.entry(*failure).or_default();
                *count += 1;
                let exhausted = failure.retries().is_some_and(|retries| *count > retries);
                assert_eq!(*fatal, exhausted, "{record:?}: failure number {count} of its kind");
                seen.given_up |= fatal;
            }
            Record::Revived { task } => {
                let seen = self.tasks.entry(*task).or_default();
                assert!(seen.given_up, "{record:?}: revived although it had not failed for good");
                assert!(!seen.failures.contains_key(&Failure::Diverged), "{record:?}: it would only diverge again");
                seen.given_up = false;
                seen.failures.clear();
                seen.blamed.clear();
            }
            Record::Withdrawn { task, epochs } => {
                let seen = self.tasks.entry(*task).or_default();
                match epochs {
                    None => assert!(std::mem::take(&mut seen.answered), "{record:?}: there was no answer"),
                    Some(epochs) => {
                        let before = seen.epochs.len();
                        seen.epochs.retain(|epoch| !epochs.contains(epoch));
                        assert!(seen.epochs.len() < before, "{record:?}: there was no such checkpoint");
                        seen.answered = !seen.epochs.is_empty();
                    }
                }
            }
        }
    }

    fn observe_answer(&mut self, record: &Record, task: TaskKey, attempt: u32, epochs: Option<&[u32]>) {
        let seen = self.tasks.entry(task).or_default();
        assert!((1..=seen.attempt).contains(&attempt), "{record:?}: an answer without a lease");
        match epochs {
            None => assert!(!seen.answered, "{record:?}: answered twice"),
            Some(epochs) => {
                let before = seen.epochs.len();
                seen.epochs.extend(epochs);
                assert!(seen.epochs.len() > before, "{record:?}: brings no new checkpoint");
            }
        }
        assert_eq!(
            epochs.is_some(),
            matches!(meaning(task), Meaning::Train { .. }),
            "{record:?}: the wrong kind of answer"
        );
        seen.answered = true;
        seen.leased.clear();
        seen.given_up = false;
        seen.failures.clear();
        seen.blamed.clear();
    }

    fn check_lease(&self, task: TaskKey, worker: &WorkerId, now: &Circumstances) {
        assert!(now.registered.contains(worker), "{task:?}: leased to {worker}, which is not registered");
        assert!(!now.draining, "{task:?}: leased while draining");
        let blamed = self.tasks.get(&task).map(|seen| &seen.blamed).filter(|blamed| blamed.contains(worker));
        let others = now.trusted.iter().any(|other| blamed.is_some_and(|blamed| !blamed.contains(other)));
        assert!(!others, "{task:?}: leased to {worker}, which failed it, while others have not tried");
        let wanted = now.open.iter().any(|shape| shape.wants(task));
        assert!(wanted, "{task:?}: leased although no sweep wants it, or only paused ones");
        match meaning(task) {
            Meaning::Train { trial } => {
                let wanted = now.running.iter().flat_map(|shape| shape.keep(trial));
                let missing = wanted.into_iter().any(|epoch| !self.has(trial, *epoch));
                assert!(missing, "{task:?}: trained again although every wanted checkpoint exists");
            }
            Meaning::Evaluate { trial, epoch } => {
                assert!(!self.is_answered(task), "{task:?}: leased although it is answered");
                assert!(self.has(trial, epoch), "{task:?}: leased without its checkpoint");
            }
        }
    }

    pub fn is_leased(&self, task: TaskKey) -> bool {
        self.tasks.get(&task).is_some_and(|seen| !seen.leased.is_empty())
    }

    pub fn leased_to(&self, worker: &WorkerId) -> Vec<Lease> {
        let leases = |(&task, seen): (&TaskKey, &Seen)| {
            let held = seen.leased.iter().filter(|(_, holder)| *holder == worker);
            held.map(|(&attempt, _)| Lease { task, attempt }).collect::<Vec<_>>()
        };
        self.tasks.iter().flat_map(leases).collect()
    }

    fn is_answered(&self, task: TaskKey) -> bool {
        self.tasks.get(&task).is_some_and(|seen| seen.answered)
    }

    fn has_given_up(&self, task: TaskKey) -> bool {
        self.tasks.get(&task).is_some_and(|seen| seen.given_up)
    }

    fn has(&self, trial: u8, epoch: u32) -> bool {
        self.tasks.get(&train_key(trial)).is_some_and(|seen| seen.epochs.contains(&epoch))
    }

    /// Whether nothing more can happen to a task, for a sweep of this shape.
    pub fn is_final(&self, task: TaskKey, shape: &Shape) -> bool {
        match meaning(task) {
            Meaning::Train { trial } => {
                self.has_given_up(task) || shape.keep(trial).iter().all(|&epoch| self.has(trial, epoch))
            }
            Meaning::Evaluate { trial, epoch } => {
                self.is_answered(task)
                    || self.has_given_up(task)
                    || (self.has_given_up(train_key(trial)) && !self.has(trial, epoch))
            }
        }
    }
}
