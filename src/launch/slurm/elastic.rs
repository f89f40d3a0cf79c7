//! As many worker jobs as there is work for: decided by the coordinator's job, which knows what waits.
//!
//! Every round asks the queue, counts and submits what is missing. What is not known (no answer, a strange one, a
//! submission that may have been taken) is no reason to submit: the next round sees more.

use super::folder::{FolderError, write};
use super::{Queue, Slurm, Submission};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at the queue: its owners ask that nobody look too often.
const ROUND: Duration = Duration::from_secs(15);
/// After a refusal, doubled with each further one.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1800));
/// So many times all its jobs may end without a single answer; then it stops to submit.
const VAIN: u32 = 3;

/// `DIR/slurm/fleet.json`: what may be submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub script: PathBuf,
    /// What its jobs are called.
    pub name: String,
    /// Jobs at a time.
    pub workers: u32,
    /// Tasks at a time of one of them.
    pub slots: u32,
    /// Of those, so many may wait in the queue.
    pub max_pending: u32,
    /// Elements of one array; `None` while unknown.
    pub max_array: Option<u32>,
}

/// What the sweeps need now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Tasks that run, or could start if there were slots.
    pub startable: u64,
    /// Tasks that are answered.
    pub answered: u64,
}

impl Fleet {
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), FolderError> {
        write(path, &serde_json::to_string_pretty(self).expect("plain data"))
    }

    /// # Errors
    /// When there is no such file, or it is another.
    pub fn read(path: &Path) -> std::io::Result<Fleet> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// Jobs to submit, where so many wait in the queue and so many run.
    fn missing(&self, demand: Demand, pending: u32, running: u32) -> u32 {
        let useful = demand.startable.div_ceil(u64::from(self.slots.max(1))).min(u64::from(self.workers)) as u32;
        let missing = useful.saturating_sub(pending.saturating_add(running));
        missing.min(self.max_pending.saturating_sub(pending)).min(self.max_array.unwrap_or(u32::MAX))
    }
}

/// What a controller remembers from round to round.
#[derive(Debug, Default)]
struct Memory {
    answered: u64,
    /// Jobs since the last answer of a task.
    vain: u32,
    unknown: bool,
    refusals: u32,
    gave_up: bool,
}

impl Memory {
    /// Jobs to submit in this round.
    fn decide(&mut self, fleet: &Fleet, demand: Demand, queue: &Queue) -> u32 {
        if demand.answered > self.answered {
            (self.answered, self.vain, self.gave_up) = (demand.answered, 0, false);
        }
        let Some((pending, running)) = queue.counts() else {
            if let (Queue::Unknown(why), false) = (queue, self.unknown) {
                tracing::warn!(why, "the state of the queue is unknown: no worker is submitted until it is known");
            }
            self.unknown = true;
            return 0;
        };
        self.unknown = false;
        let missing = fleet.missing(demand, pending, running);
        if missing > 0 && self.vain >= VAIN.saturating_mul(fleet.workers) {
            if !self.gave_up {
                let script = fleet.script.display();
                tracing::error!(jobs = self.vain, %script, "so many worker jobs have ended without an answer that no more are submitted: see their logs");
            }
            self.gave_up = true;
            return 0;
        }
        missing
    }

    fn note(&mut self, jobs: u32, submission: &Submission) -> Duration {
        match submission {
            Submission::Job(job) => {
                (self.vain, self.refusals) = (self.vain + jobs, 0);
                tracing::info!(job, jobs, "workers submitted");
                ROUND
            }
            Submission::Unknown(why) => {
                self.vain += jobs;
                tracing::warn!(why, "whether workers were submitted is unknown");
                2 * ROUND // until the queue shows it
            }
            Submission::Refused(why) => {
                tracing::warn!(why, "Slurm takes no more workers now");
                self.refusals += 1;
                (REFUSED.0 * 2_u32.saturating_pow(self.refusals - 1)).min(REFUSED.1)
            }
        }
    }
}

/// Keeps a sweep staffed until dropped. `demand` says what is needed, or `None` when nobody knows any more.
pub async fn keep_staffed<F>(fleet: Fleet, slurm: Slurm, demand: impl Fn() -> F)
where
    F: Future<Output = Option<Demand>>,
{
    let mut memory = Memory::default();
    while let Some(demand) = demand().await {
        let queue = slurm.queue(&fleet.name).await;
        let jobs = memory.decide(&fleet, demand, &queue);
        let pause = match jobs {
            0 => ROUND,
            jobs => {
                let array = [format!("--array=0-{}", jobs - 1)];
                memory.note(jobs, &slurm.try_submit(&fleet.script, &array).await)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JobState, QueueEntry};
    use super::*;

    fn fleet() -> Fleet {
        let name = "epsweep-x-1234".into();
        Fleet { script: "workers.sbatch".into(), name, workers: 8, slots: 2, max_pending: 3, max_array: Some(4) }
    }

    fn queue(pending: u32, running: u32) -> Queue {
        let entry = |count, state| QueueEntry { job: 1, count, state };
        Queue::Known(vec![entry(pending, JobState::Pending), entry(running, JobState::Running)])
    }

    fn demand(startable: u64, answered: u64) -> Demand {
        Demand { startable, answered }
    }

    #[test]
    fn there_are_as_many_workers_as_there_is_work_for_and_no_more_than_may_be() {
        let fleet = fleet();
        for (startable, pending, running, jobs) in [
            (0, 0, 0, 0),
            (1, 0, 0, 1),
            (3, 0, 0, 2),   // two tasks at a time each
            (100, 0, 0, 3), // no more wait in the queue
            (100, 1, 2, 2),
            (100, 3, 2, 0),
            (100, 0, 7, 1), // no more at a time
            (100, 9, 9, 0),
            (2, 0, 5, 0),
        ] {
            assert_eq!(fleet.missing(demand(startable, 0), pending, running), jobs, "{startable} {pending} {running}");
        }
        let patient = Fleet { max_pending: 100, ..fleet };
        assert_eq!(patient.missing(demand(100, 0), 0, 0), 4, "an array has no more elements");
    }

    #[test]
    fn what_is_unknown_is_no_reason_to_submit() {
        let mut memory = Memory::default();
        let silent = Queue::Unknown("slurm_load_jobs error: Socket timed out on send/recv operation".into());
        assert_eq!(memory.decide(&fleet(), demand(100, 0), &silent), 0);
        assert_eq!(memory.decide(&fleet(), demand(100, 0), &queue(0, 0)), 3);
        assert_eq!(memory.note(3, &Submission::Unknown("timed out".into())), 2 * ROUND);
    }

    #[test]
    fn refusals_are_not_repeated_in_haste() {
        let mut memory = Memory::default();
        let no = Submission::Refused("Job violates accounting/QOS policy".into());
        let pauses: Vec<u64> = (0..7).map(|_| memory.note(1, &no).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(memory.note(1, &Submission::Job(7)), ROUND);
        assert_eq!(memory.note(1, &no).as_secs(), 60);
    }

    #[test]
    fn jobs_that_end_at_once_are_not_submitted_for_ever() {
        let (fleet, mut memory) = (fleet(), Memory::default());
        let mut submitted = 0;
        for _ in 0..1000 {
            let jobs = memory.decide(&fleet, demand(100, 0), &queue(0, 0));
            if jobs > 0 {
                submitted += jobs;
                memory.note(jobs, &Submission::Job(1));
            }
        }
        assert_eq!(submitted, VAIN * fleet.workers, "then somebody must look");
        assert!(memory.decide(&fleet, demand(100, 1), &queue(0, 0)) > 0, "one answer shows that they work");
    }
}
