//! Small sweeps that overlap: few trials, so that random ones share tasks.

use epsweep::engine::{Admission, NewTask, NewWork, SweepId};
use epsweep::plan::TaskKey;

/// Which trials a sweep wants, and what of each.
#[derive(Debug, Clone)]
pub struct Shape(pub Vec<TrialShape>);

#[derive(Debug, Clone)]
pub struct TrialShape {
    /// Equal numbers are equal questions.
    pub trial: u8,
    /// Ascending, not empty.
    pub keep: Vec<u32>,
    /// Evaluations of each checkpoint.
    pub shards: u8,
}

/// What a task's key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Train { trial: u8 },
    Evaluate { trial: u8, epoch: u32 },
}

pub fn train_key(trial: u8) -> TaskKey {
    key(trial, 0, 0)
}

fn key(trial: u8, epoch: u32, shard: u8) -> TaskKey {
    let mut bytes = [0; 32];
    bytes[..3].copy_from_slice(&[trial, epoch as u8, shard]);
    TaskKey(bytes)
}

pub fn meaning(key: TaskKey) -> Meaning {
    match key.0 {
        [trial, 0, ..] => Meaning::Train { trial },
        [trial, epoch, ..] => Meaning::Evaluate { trial, epoch: epoch.into() },
    }
}

impl Shape {
    pub fn admission(&self, sweep: SweepId, revive: bool) -> Admission {
        let mut tasks = Vec::new();
        for wanted in &self.0 {
            let train = tasks.len() as u32;
            let mut add = |key, work| tasks.push(NewTask { key, work, seconds: 1.0 + f32::from(wanted.trial) });
            add(train_key(wanted.trial), NewWork::Train { keep: wanted.keep.clone() });
            for &epoch in &wanted.keep {
                for shard in 0..wanted.shards {
                    add(key(wanted.trial, epoch, shard), NewWork::Evaluate { train, epoch });
                }
            }
        }
        Admission { sweep, tasks, revive }
    }

    pub fn keys(&self) -> Vec<TaskKey> {
        self.admission(0, false).tasks.iter().map(|task| task.key).collect()
    }

    pub fn wants(&self, task: TaskKey) -> bool {
        self.keys().contains(&task)
    }

    /// The epochs it wants of a trial; empty when it does not want the trial.
    pub fn keep(&self, trial: u8) -> &[u32] {
        self.0.iter().find(|wanted| wanted.trial == trial).map_or(&[], |wanted| &wanted.keep)
    }
}
