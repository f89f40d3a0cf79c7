//! What slots compute here: nothing but time passes, and the answers are hashes of the questions. So an answer is right or
//! wrong wherever, whenever and however often it was computed.

use crate::shell::{Answer, Compute, Computing, Job, NoAnswer, Packed, Shared, Trained, Work};
use crate::world::Story;
use epsweep::artifacts::ArtifactId;
use epsweep::engine::Failure;
use epsweep::outcome::Level;
use epsweep::plan::facts::Facts;
use epsweep::plan::{EvaluateQuestion, Question, TaskKey, TrainQuestion};
use epsweep::proto::Passes;
use epsweep::trust::Trust;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How often it is asked whether a task was called off.
const STEP: Duration = Duration::from_millis(250);

/// What was computed, on all benches of a world.
#[derive(Debug, Default)]
pub struct Books {
    /// Attempts that a slot began, by task.
    pub begun: BTreeMap<TaskKey, u32>,
    /// Attempts that came to their end with an answer.
    pub answered: BTreeMap<TaskKey, u32>,
    /// Tasks that two slots of one worker computed at a time.
    pub together: u32,
    /// What is computed now, by worker and its life.
    now: BTreeSet<(String, u64, TaskKey)>,
    /// Epochs that were trained, by run: one that goes on elsewhere does not begin anew.
    pub epochs: BTreeMap<TaskKey, u32>,
}

#[derive(Debug, Clone)]
pub struct Bench {
    pub at: String,
    /// Which of the worker's lives this is.
    pub life: u64,
    pub story: Story,
    pub books: Arc<Mutex<Books>>,
    /// Some first attempts fail.
    pub fails: bool,
    /// How much longer everything takes here than elsewhere.
    pub slowness: f64,
}

/// A number that depends on the task and on what it is for alone.
fn drawn(key: TaskKey, what: &str) -> u32 {
    let hash = blake3::hash(&[&key.0[..], what.as_bytes()].concat());
    u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap())
}

/// From `least` to `most` milliseconds.
fn time(key: TaskKey, what: &str, least: u32, most: u32) -> Duration {
    Duration::from_millis(u64::from(least + drawn(key, what) % (most - least)))
}

fn weights(key: TaskKey, epoch: u32) -> Vec<u8> {
    format!("the weights of {key} after epoch {epoch}\n").repeat(20).into_bytes()
}

impl Bench {
    async fn take(&self, time: Duration, job: &Job) -> Result<(), NoAnswer> {
        let mut left = time.mul_f64(self.slowness);
        while !left.is_zero() {
            let step = left.min(STEP);
            tokio::time::sleep(step).await;
            left -= step;
            if job.is_called_off() {
                return Err(NoAnswer::Stopped);
            }
        }
        Ok(())
    }

    async fn train(&self, key: TaskKey, asked: &TrainQuestion, job: &Job, shared: &Shared) -> Result<Answer, NoAnswer> {
        let folder = shared.training_folder(key);
        let mut epoch = self.reached(&folder).unwrap_or(0) as u32;
        let total = asked.epochs;
        while epoch < total {
            self.take(time(key, "epoch", 800, 6_000), job).await?;
            epoch += 1;
            *self.books.lock().unwrap().epochs.entry(key).or_default() += 1;
            save(&folder, key, epoch);
        }
        let trained = |&epoch: &u32| Trained {
            epoch,
            train_loss: f64::from(drawn(key, "loss") % 1000) / f64::from(epoch * 1000),
            train_seconds: f64::from(epoch),
            facts: Facts::default(),
            weights: weights(key, epoch),
        };
        let checkpoints = job.sent.keep.iter().map(trained).collect();
        Ok(Answer::Train { checkpoints, passes: passes(u64::from(total)) })
    }

    async fn evaluate(
        &self,
        key: TaskKey,
        asked: &EvaluateQuestion,
        job: &Job,
        shared: &Shared,
    ) -> Result<Answer, NoAnswer> {
        let id = ArtifactId::parse(&job.sent.checkpoint).expect("the lease names a checkpoint");
        let found = shared.checkpoints.get(&id).map_err(|error| {
            NoAnswer::Failed(Failure::BadInput, format!("a checkpoint that was fetched is not there: {error}"))
        })?;
        assert_eq!(found, weights(asked.train, asked.epoch), "another network than the one that was asked for");
        self.take(time(key, "evaluation", 200, 8_000), job).await?;
        let most = asked.epsilons.len() as u32 + 2;
        let level = |example: u32| Level((drawn(key, &example.to_string()) % most) as u16);
        let levels = (asked.examples[0]..asked.examples[1]).map(level).collect();
        let witnesses = (!asked.witnesses.is_none())
            .then(|| Packed { content: format!("witnesses of {key}\n").repeat(50).into_bytes(), count: 50 });
        Ok(Answer::Evaluate { levels, passes: passes(100), trust: Trust::default(), witnesses })
    }

    /// The first attempts at some tasks fail, as many as are forgiven whatever happens besides.
    fn fails(&self, key: TaskKey, before: u32) -> Option<Failure> {
        let failure = match drawn(key, "failure") % 20 {
            _ if !self.fails => return None,
            0 => Failure::OutOfMemory,
            1 => Failure::BadInput,
            2 => Failure::Bug,
            _ => return None,
        };
        (before == 0).then_some(failure)
    }
}

fn passes(forwards: u64) -> Passes {
    Passes { forwards, backwards: forwards / 2, examples: 10 }
}

/// The state of a run: its key and how far it is. The time of the file is that of the simulation.
fn save(folder: &Path, key: TaskKey, epoch: u32) {
    fs::create_dir_all(folder).unwrap();
    let (next, state) = (folder.join("next"), folder.join("state"));
    fs::write(&next, format!("{key} {epoch}")).unwrap();
    let file = fs::File::options().write(true).open(&next).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    fs::rename(next, state).unwrap();
}

impl Compute for Bench {
    fn host(&self, _: usize, work: Work) {
        tokio::spawn(work);
    }

    fn answer<'a>(&'a self, _: usize, question: Question, job: &'a Job, shared: &'a Shared) -> Computing<'a> {
        Box::pin(async move {
            let key = question.key();
            let before = {
                let mut books = self.books.lock().unwrap();
                if !books.now.insert((self.at.clone(), self.life, key)) {
                    books.together += 1;
                }
                let begun = books.begun.entry(key).or_default();
                *begun += 1;
                *begun - 1
            };
            let what = format!("{} {} attempt {}", job.sent.kind, key.short(), job.lease.attempt);
            self.story.note(&self.at, &format!("begins {what}"));
            let answer = match (self.fails(key, before), &question) {
                (Some(failure), _) => {
                    let stopped = self.take(time(key, "failing", 100, 3_000), job).await;
                    stopped.and(Err(NoAnswer::Failed(failure, "on purpose".into())))
                }
                (None, Question::Train(asked)) => self.train(key, asked, job, shared).await,
                (None, Question::Evaluate(asked)) => self.evaluate(key, asked, job, shared).await,
                _ => panic!("no sweep here asks for {}", job.sent.kind),
            };
            let mut books = self.books.lock().unwrap();
            books.now.remove(&(self.at.clone(), self.life, key));
            if answer.is_ok() {
                *books.answered.entry(key).or_default() += 1;
            }
            self.story.note(&self.at, &format!("{} {what}", if answer.is_ok() { "ends" } else { "drops" }));
            answer
        })
    }

    fn reached(&self, folder: &Path) -> Option<u64> {
        let state = fs::read_to_string(folder.join("state")).ok()?;
        state.split_once(' ')?.1.parse().ok()
    }
}
