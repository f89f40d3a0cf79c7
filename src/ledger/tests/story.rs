//! A coordinator and its only worker in small: engine, plan and ledger, with made-up answers.

use super::super::*;
use crate::data::DataInfo;
use crate::engine::{Admission, Effect, Engine, Event, Failure, Lease, Settings, Status};
use crate::frontier::results::TrialStatus;
use crate::measure::moments::{Figure, Figures, PerFeature};
use crate::measure::{MeasureAnswer, uncertainty};
use crate::outcome::Level;
use crate::plan::facts::Facts;
use crate::plan::question::DataId;
use crate::plan::{MeasureQuestion, Plan, Question, TaskKey};
use crate::trust::Trust;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

/// Retries come at once.
const SETTINGS: Settings = Settings { lease_ms: 30_000, prefetch_seconds: 0.5, failure_budget: None, retry_ms: 0 };

/// Two configurations, two seeds, two epochs, two attacks, one of them in three shards.
pub const YAML: &str = "
name: story
dataset: {mnist: {dir: here}}
trial: {model: smallcnn, method: natural, optimizer: sgd, epochs: 5, batch_size: 32}
grid: [{method: [natural, {pgd: {epsilon: 0.1}}]}]
seeds: 2
evaluate:
  epochs: [1, final]
  epsilons: [0, 0.1, 0.2, 0.30000000000000004]
  attacks: [fgsm, {pgd: {steps: 400, restarts: 5}}]
";

pub struct Story {
    pub ledger: Ledger,
    pub plan: Plan,
    pub sweep: SweepId,
    engine: Engine,
    now: u64,
    request: u64,
    _dir: TempDir,
}

impl Story {
    pub fn new() -> Story {
        Story::of(YAML)
    }

    pub fn of(yaml: &str) -> Story {
        let data = DataInfo {
            id: DataId { name: "mnist".into(), digest: "5eed".into() },
            classes: 10,
            channels: 1,
            height: 28,
            width: 28,
            train_count: 1000,
            test_count: 300,
            given: Default::default(),
        };
        let sweep = crate::spec::parse(yaml, "story.yaml", Path::new("/base")).expect("a valid file");
        let dir = tempfile::tempdir().unwrap();
        let mut story = Story {
            ledger: Ledger::open(dir.path()).unwrap(),
            plan: Plan::new(Arc::new(sweep), data).unwrap(),
            sweep: 0,
            engine: Engine::new(SETTINGS),
            now: 0,
            request: 0,
            _dir: dir,
        };
        let worker = WorkerInfo {
            worker: "w".into(),
            host: "h".into(),
            slots: 1,
            device: "cpu".into(),
            version: "1".into(),
            libtorch: "2".into(),
        };
        story.ledger.store_worker(&worker, 0).unwrap();
        story.apply(Event::Register { worker: "w".into(), slots: 1, running: vec![] });
        story.submit();
        story
    }

    pub fn submit(&mut self) {
        self.now += 1;
        let at_ms = self.now as i64;
        let new = NewSweep { yaml: YAML, source: "story.yaml", base_dir: "/base", plan: &self.plan, at_ms };
        let earlier = self.sweep;
        self.sweep = self.ledger.add_sweep(&new).unwrap();
        self.apply(Event::Cancel(earlier));
        self.apply(self.admission(true));
    }

    fn admission(&self, revive: bool) -> Event {
        Event::Admit(Admission::of(&self.plan, self.sweep, revive))
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.engine.apply(event, self.now);
        self.engine.sanity_check();
        for effect in &effects {
            match effect {
                Effect::Persist(record) => self.ledger.append(record, self.now as i64).unwrap(),
                Effect::Finished(sweep) => self.ledger.end_sweep(*sweep, "finished", self.now as i64).unwrap(),
                _ => {}
            }
        }
        self.ledger.commit().unwrap();
        effects
    }

    pub fn acquire(&mut self) -> Vec<Lease> {
        self.request += 1;
        let acquire = Event::Acquire {
            worker: "w".into(),
            request: self.request,
            free_slots: 1,
            prefetch: 0,
            seconds_left: None,
        };
        let effects = self.apply(acquire);
        let granted = effects
            .into_iter()
            .find_map(|effect| if let Effect::Granted(grants) = effect { Some(grants) } else { None });
        granted.into_iter().flatten().map(|grant| grant.lease).collect()
    }

    /// Answers the next `count` tasks, or as many as there are.
    pub fn run_some(&mut self, count: usize) {
        for _ in 0..count {
            let Some(lease) = self.acquire().pop() else { return };
            self.answer(lease);
        }
    }

    fn answer(&mut self, lease: Lease) {
        let position = self.plan.tasks.iter().position(|task| task.key == lease.task).expect("a planned task");
        let keep = &self.plan.trials[self.plan.tasks[position].trial as usize].keep;
        let kind = self.plan.tasks[position].work.kind();
        let mut epochs = None;
        match self.plan.question(position as u32) {
            Question::Train(_) => {
                epochs = Some(keep.clone());
                let checkpoint = |&epoch| CheckpointAnswer {
                    epoch,
                    train_loss: 1.0 / f64::from(epoch),
                    train_seconds: f64::from(epoch),
                    artifact: format!("{}-{epoch}", lease.task.short()),
                    bytes: 100,
                    facts: Facts { pgd_accuracy: Some(0.5), ..Facts::default() },
                };
                let checkpoints: Vec<_> = keep.iter().map(checkpoint).collect();
                self.ledger.store_checkpoints(lease.task, &checkpoints).unwrap();
            }
            Question::Evaluate(question) => {
                let levels = made_up_levels(lease.task, question.examples, question.epsilons.len());
                let (family, epsilons, first) = (question.family(), question.epsilons, question.examples[0]);
                let (witnesses, trust) = (None, Some(Trust { attacked: levels.len() as u64, ..Trust::default() }));
                let answer = EvaluateAnswer { family, epsilons, first, levels, witnesses, trust };
                self.ledger.store_levels(lease.task, &answer).unwrap();
            }
            Question::Certify(question) => {
                let levels = made_up_levels(lease.task, question.examples, question.epsilons.len());
                let (family, epsilons, first) = (lease.task, question.epsilons, question.examples[0]);
                let answer = EvaluateAnswer { family, epsilons, first, levels, witnesses: None, trust: None };
                self.ledger.store_levels(lease.task, &answer).unwrap();
            }
            Question::Measure(question) => self.ledger.store_measure(lease.task, &made_up_measure(&question)).unwrap(),
        }
        let (task, attempt) = (lease.task, lease.attempt);
        let cost = Cost {
            task,
            attempt,
            kind: kind.into(),
            worker: "w".into(),
            seconds: 1.0,
            forwards: 2,
            backwards: 1,
            examples: 1,
        };
        self.ledger.store_cost(&cost).unwrap();
        self.apply(Event::Commit { worker: "w".into(), lease, epochs, seconds: 1.0 });
    }

    /// Lets the next task fail so many times; it must be the same task each time.
    pub fn fail_next(&mut self, failure: Failure, times: u32) -> TaskKey {
        let mut failed = None;
        for _ in 0..times {
            let lease = self.acquire().pop().expect("something is ready");
            assert_eq!(*failed.get_or_insert(lease.task), lease.task);
            self.apply(Event::Fail { worker: "w".into(), lease, failure, message: "it hurts".into() });
        }
        failed.expect("at least one time")
    }

    pub fn stored(&self) -> StoredSweep {
        self.ledger.find_sweep(Some("story")).unwrap()
    }

    pub fn results(&self) -> SweepResults {
        self.ledger.results(&self.stored(), &self.plan).unwrap()
    }

    pub fn trial_statuses(&self) -> Vec<TrialStatus> {
        self.results().results.trials.into_iter().map(|trial| trial.status).collect()
    }

    pub fn tasks_of_trial(&self, trial: u32) -> usize {
        self.plan.tasks.iter().filter(|task| task.trial == trial).count()
    }

    pub fn statuses(&self) -> BTreeMap<TaskKey, Status> {
        self.engine.statuses(self.sweep).collect()
    }

    /// The statuses in an engine that knows the ledger alone.
    pub fn recovered_statuses(&self) -> BTreeMap<TaskKey, Status> {
        let mut engine = Engine::new(SETTINGS);
        self.ledger.replay(|record| engine.replay(&record, 0)).unwrap();
        engine.apply(self.admission(false), 0);
        engine.sanity_check();
        engine.statuses(self.sweep).collect()
    }

    /// The only column of a query.
    pub fn column<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        let mut statement = self.ledger.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

/// As random as the key, and every level occurs.
fn made_up_levels(task: TaskKey, examples: [u32; 2], epsilons: usize) -> Vec<Level> {
    let level = |example: u32| {
        let hash = blake3::hash(&[&task.0[..], &example.to_le_bytes()].concat());
        Level(u16::from(hash.as_bytes()[0]) % (epsilons as u16 + 2))
    };
    (examples[0]..examples[1]).map(level).collect()
}

/// Figures that say which unit they are of.
fn made_up_measure(question: &MeasureQuestion) -> MeasureAnswer {
    let mut answer = uncertainty::Answer::default();
    for unit in question.units[0]..question.units[1] {
        let figure = |value: u32| Figure { value: f64::from(value), se: 0.5 };
        let figures = Figures { dx: figure(unit), dp: figure(2), product: figure(3), bound: figure(1), effective: 9.0 };
        let features = [Some(PerFeature { dx: f64::from(unit), dp: 1.0, c: -1.0 }), None];
        answer.push(uncertainty::Unit { class: unit % 3, figures: (unit != 5).then_some(figures) }, &features);
    }
    MeasureAnswer::Uncertainty(answer)
}
