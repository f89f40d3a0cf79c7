//! Every cross-invariant of the engine, in one place. Tests call it after every step.

use super::task::Work;
use super::{Engine, KindCounts, Status, SweepState, TaskId};

impl Engine {
    /// # Panics
    /// When any two parts of the state contradict each other.
    pub fn sanity_check(&self) {
        self.check_tasks();
        self.check_leases();
        self.check_sweeps();
    }

    fn check_tasks(&self) {
        for (index, task) in self.tasks.iter().enumerate() {
            let id = TaskId(index as u32);
            assert_eq!(self.find(task.key), Some(id), "every task is found by its key");
            let wanting = self.sweeps_of(id);
            for sweep in &self.running {
                let entry = &self.sweeps[sweep];
                let wanted = wanting.contains(sweep) && task.work != Work::Unknown;
                assert_eq!(
                    entry.ready.contains(id, task.seconds),
                    wanted && task.status == Status::Ready,
                    "{id:?} {task:?}: queued exactly when ready, by those who want it"
                );
            }
            assert_eq!(
                self.leases.contains_key(&id),
                task.status == Status::Leased,
                "{task:?}: leased exactly when a lease is out"
            );
            assert_eq!(task.status, self.status_of(id), "{task:?}: where it belongs");
            if let Work::Evaluate { train, epoch } = task.work {
                let has = self.trains[&train].have.contains(&epoch);
                if task.status == Status::Ready {
                    assert!(has, "{task:?}: ready without its checkpoint");
                }
                if matches!(task.status, Status::Blocked | Status::Skipped) {
                    assert!(!has, "{task:?}: waits for a checkpoint that is there");
                }
                if task.status == Status::Skipped {
                    assert_eq!(self.tasks[train.0 as usize].status, Status::Failed, "{task:?}: skipped without cause");
                }
            }
            if task.work == Work::Train && task.status == Status::Done {
                assert!(self.trains[&id].is_complete(), "{task:?}: done without all its checkpoints");
            }
        }
        for ready in self.sweeps.values().map(|entry| &entry.ready) {
            for id in ready.holders().flat_map(|holder| ready.held_by(holder)) {
                let seconds = self.tasks[id.0 as usize].seconds;
                assert!(ready.contains(id, seconds), "a holder's queue is part of the whole");
            }
        }
    }

    fn check_leases(&self) {
        for (id, held) in &self.leases {
            let task = &self.tasks[id.0 as usize];
            assert!(held.attempt <= task.attempt, "{task:?}: attempts count up");
            if let Some(worker) = self.workers.get(&held.worker) {
                assert!(worker.leases.contains(id), "{:?}: its worker does not know of the lease", task);
            }
        }
        for (id, copy) in &self.copies {
            let held = self.leases.get(id).expect("a copy of what is leased");
            assert!(held.attempt < copy.attempt && held.worker != copy.worker, "{held:?}, {copy:?}: two of one");
            assert!(copy.attempt <= self.tasks[id.0 as usize].attempt, "attempts count up");
            if let Some(worker) = self.workers.get(&copy.worker) {
                assert!(worker.leases.contains(id), "{copy:?}: its worker does not know of the copy");
            }
        }
        for (name, worker) in &self.workers {
            for id in &worker.leases {
                let mut holders = self.leases.get(id).into_iter().chain(self.copies.get(id)).map(|held| &held.worker);
                assert!(holders.any(|holder| holder == name), "a worker's lease is its own");
            }
        }
    }

    fn check_sweeps(&self) {
        for (id, others) in &self.also_wanted {
            assert!(!others.is_empty() && self.tasks[id.0 as usize].sweep.is_some(), "extra claims follow a first one");
        }
        for (sweep, entry) in &self.sweeps {
            assert_eq!(self.running.contains(sweep), entry.state == SweepState::Running, "sweep {sweep}: in the list");
            assert!(entry.served.is_finite(), "sweep {sweep}: its share");
            if entry.state != SweepState::Running {
                assert!(entry.ready.is_empty(), "sweep {sweep}: nothing of it runs any more");
                continue; // its counts are a memory
            }
            let mut counts = [KindCounts::default(); 2];
            let mut open = [0.0; 2];
            for id in &entry.tasks {
                assert!(self.sweeps_of(*id).contains(sweep), "a live sweep wants its tasks");
                let task = &self.tasks[id.0 as usize];
                counts[task.kind()].add(task.status);
                if !task.status.is_final() {
                    open[task.kind()] += f64::from(task.seconds);
                }
            }
            assert_eq!(counts, entry.counts, "sweep {sweep}: counts");
            for (counted, kept) in open.iter().zip(entry.open_seconds) {
                assert!((counted - kept).abs() < 1e-3 * (1.0 + counted), "sweep {sweep}: seconds");
            }
            assert!(!counts.iter().all(KindCounts::is_complete), "sweep {sweep}: complete, but not finished");
        }
    }
}
