//! What must be computed: a validated sweep becomes a graph of tasks with content keys. Pure.
//!
//! ```text
//! trial ──► train ──┬─► checkpoint at epoch 1     ──► evaluate attack x shard, ...
//!                   └─► checkpoint at last epoch  ──► evaluate attack x shard, certify, measure, ...
//! ```
//!
//! Everything that decides a number is decided here, before any worker is known: the shards of the
//! test set and the seeds of all random streams. So one worker and eight write the same files.

pub mod cost;
pub mod facts;
mod index;
pub mod question;

use crate::data::DataInfo;
use crate::spec::{GivenFile, Model, NamedMeasure, Normalization, Recipe, Sweep, Trial};
pub use index::KeyIndex;
pub use question::{
    ALGORITHM_VERSION, CertifyQuestion, EvaluateQuestion, MeasureQuestion, Question, TaskKey, TrainQuestion,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The task graph of one sweep. About 70 bytes a task, whatever the size of the questions:
/// those are written out only when a task is leased, see [`Plan::question`].
#[derive(Debug, Clone)]
pub struct Plan {
    pub sweep: Arc<Sweep>,
    pub data: DataInfo,
    /// Examples of the test set that are evaluated.
    pub examples: u32,
    /// One per trial of the sweep, in its order.
    pub trials: Vec<PlannedTrial>,
    /// A task never stands before the one it waits for.
    pub tasks: Vec<Task>,
}

/// One training run and the epochs whose weights must be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTrial {
    pub key: TaskKey,
    /// Short digest of the recipe without the seed: equal for trials that differ in their seed only.
    pub config: String,
    /// All that are evaluated or measured. Ascending; never empty.
    pub keep: Vec<u32>,
    /// Position of its train task in [`Plan::tasks`].
    pub task: u32,
}

/// The unit that is leased.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub key: TaskKey,
    /// Position in [`Plan::trials`].
    pub trial: u32,
    pub work: Work,
    /// Estimated seconds on one slot; measured costs refine it while a sweep runs.
    pub seconds: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Train,
    Evaluate {
        epoch: u32,
        /// Position in the sweep's list of attacks.
        attack: u16,
        /// First example, and one past the last.
        examples: [u32; 2],
    },
    Certify {
        epoch: u32,
        /// Position in the sweep's list of certificates.
        certificate: u16,
        /// First example, and one past the last.
        examples: [u32; 2],
    },
    Measure {
        epoch: u32,
        /// Position in the sweep's list of measures.
        measure: u16,
        /// First unit, and one past the last: see [`MeasureQuestion::units`].
        units: [u32; 2],
    },
}

impl Work {
    /// The word for logs and tables.
    pub fn kind(self) -> &'static str {
        match self {
            Work::Train => "train",
            Work::Evaluate { .. } => "evaluate",
            Work::Certify { .. } => "certify",
            Work::Measure { .. } => "measure",
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    #[error("evaluate.test_examples asks for {asked} examples, but the test set of {data} has {available}")]
    TooFewExamples { asked: u32, available: u32, data: String },
    #[error(
        "no checkpoint of a {epochs}-epoch trial would ever be evaluated: evaluate.epochs lists only later ones; add `final`"
    )]
    NothingEvaluated { epochs: u32 },
    #[error("{measure} asks for {asked} examples, but the test set of {data} has {available}")]
    TooFewToMeasure { measure: String, asked: u32, available: u32, data: String },
    #[error("{0}")]
    Unsuitable(String),
    #[error("the plan has more than {MAX_TASKS} tasks; make the grid or the list of evaluated epochs smaller")]
    TooManyTasks,
}

/// Positions in a plan are 32-bit, and nobody waits for more than this.
pub const MAX_TASKS: usize = 50_000_000;

impl Plan {
    /// Builds the graph.
    ///
    /// # Errors
    /// When the sweep asks for more test examples than the data set has, when a trial would be
    /// trained but never evaluated, or when there are too many tasks to hold.
    pub fn new(sweep: Arc<Sweep>, data: DataInfo) -> Result<Plan, PlanError> {
        let available = data.test_count;
        sweep.trials.iter().try_for_each(|trial| suits(&trial.recipe, &data))?;
        let examples = sweep.evaluate.test_examples.unwrap_or(available);
        if examples > available {
            return Err(PlanError::TooFewExamples { asked: examples, available, data: data.id.name });
        }
        let many = |measure: &&NamedMeasure| measure.least_examples() > available;
        if let Some(named) = sweep.measures.iter().find(many) {
            let (measure, asked, data) = (named.name.clone(), named.least_examples(), data.id.name);
            return Err(PlanError::TooFewToMeasure { measure, asked, available, data });
        }
        let sweep = with_content(sweep, &data);
        let mut plan = Plan { sweep: sweep.clone(), data, examples, trials: Vec::new(), tasks: Vec::new() };
        let mut configs = HashMap::new();
        for trial in &sweep.trials {
            plan.add_trial(trial, &mut configs)?;
        }
        Ok(plan)
    }

    fn add_trial(&mut self, trial: &Trial, configs: &mut HashMap<String, String>) -> Result<(), PlanError> {
        let evaluated = self.sweep.evaluate.epochs.of(trial.recipe.epochs);
        if evaluated.is_empty() {
            return Err(PlanError::NothingEvaluated { epochs: trial.recipe.epochs });
        }
        let mut keep = evaluated.clone();
        for measure in &self.sweep.measures {
            keep.extend(measure.epochs.iter().flat_map(|epochs| epochs.of(trial.recipe.epochs)));
        }
        keep.sort_unstable();
        keep.dedup();
        let recipe = serde_json::to_string(&trial.recipe).expect("recipes hold only finite numbers");
        let config = configs
            .entry(recipe)
            .or_insert_with_key(|recipe| TaskKey::of(recipe.as_bytes()).short()[..8].to_string())
            .clone();
        let position = self.trials.len() as u32;
        let key = Question::Train(self.train_question(trial)).key();
        let task = self.tasks.len() as u32;
        let seconds = cost::train(&trial.recipe, &self.data) as f32;
        self.trials.push(PlannedTrial { key, config, keep, task });
        self.tasks.push(Task { key, trial: position, work: Work::Train, seconds });

        let evaluate = self.sweep.evaluate.clone();
        for &epoch in &evaluated {
            for (index, named) in evaluate.attacks.iter().enumerate() {
                let per_example = cost::attack(&trial.recipe.model, &named.attack, &self.data);
                let search = evaluate.search_of(&named.attack);
                let shard = cost::shard_size(per_example, search);
                for first in (0..self.examples).step_by(shard as usize) {
                    let examples = [first, (first + shard).min(self.examples)];
                    let work = Work::Evaluate { epoch, attack: index as u16, examples };
                    let key = Question::Evaluate(self.evaluate_question(position, work)).key();
                    let count = f64::from(examples[1] - examples[0]);
                    let rounds = cost::rounds(search, evaluate.epsilons.len() as f64);
                    let seconds = (per_example * count * rounds) as f32;
                    self.tasks.push(Task { key, trial: position, work, seconds });
                }
            }
        }
        self.add_certificates(trial, position, &evaluated);
        self.add_measures(trial, position, &evaluated);
        if self.tasks.len() > MAX_TASKS { Err(PlanError::TooManyTasks) } else { Ok(()) }
    }

    fn add_certificates(&mut self, trial: &Trial, position: u32, epochs: &[u32]) {
        let certify = self.sweep.evaluate.certify.clone();
        for &epoch in epochs {
            for (index, named) in certify.iter().enumerate() {
                let per_example = cost::certify(&trial.recipe.model, &named.certificate, &self.data);
                let shard = cost::certify_shard(per_example);
                for first in (0..self.examples).step_by(shard as usize) {
                    let examples = [first, (first + shard).min(self.examples)];
                    let work = Work::Certify { epoch, certificate: index as u16, examples };
                    let key = Question::Certify(self.certify_question(position, work)).key();
                    let seconds = (per_example * f64::from(examples[1] - examples[0])) as f32;
                    self.tasks.push(Task { key, trial: position, work, seconds });
                }
            }
        }
    }

    fn add_measures(&mut self, trial: &Trial, position: u32, evaluated: &[u32]) {
        for (index, named) in self.sweep.measures.clone().iter().enumerate() {
            let own = named.epochs.as_ref().map(|epochs| epochs.of(trial.recipe.epochs));
            let units = named.units(self.data.classes);
            let per_unit = cost::measure(&trial.recipe.model, &named.measure, &self.data);
            let shard = cost::measure_shard(per_unit, &self.data);
            for &epoch in own.as_deref().unwrap_or(evaluated) {
                for first in (0..units).step_by(shard as usize) {
                    let units = [first, (first + shard).min(units)];
                    let work = Work::Measure { epoch, measure: index as u16, units };
                    let key = Question::Measure(self.measure_question(position, work)).key();
                    let seconds = (per_unit * f64::from(units[1] - units[0])) as f32;
                    self.tasks.push(Task { key, trial: position, work, seconds });
                }
            }
        }
    }

    /// Position of the task that must be answered before `position` can run.
    pub fn after(&self, position: u32) -> Option<u32> {
        let task = &self.tasks[position as usize];
        match task.work {
            Work::Train => None,
            Work::Evaluate { .. } | Work::Certify { .. } | Work::Measure { .. } => {
                Some(self.trials[task.trial as usize].task)
            }
        }
    }

    /// The full question of a task; its canonical bytes hash to the task's key.
    pub fn question(&self, position: u32) -> Question {
        let task = &self.tasks[position as usize];
        match task.work {
            Work::Train => Question::Train(self.train_question(&self.sweep.trials[task.trial as usize])),
            Work::Evaluate { .. } => Question::Evaluate(self.evaluate_question(task.trial, task.work)),
            Work::Certify { .. } => Question::Certify(self.certify_question(task.trial, task.work)),
            Work::Measure { .. } => Question::Measure(self.measure_question(task.trial, task.work)),
        }
    }

    fn train_question(&self, trial: &Trial) -> TrainQuestion {
        let recipe = trial.recipe.clone();
        TrainQuestion {
            version: ALGORITHM_VERSION,
            data: self.data.id.clone(),
            model: recipe.model,
            normalize: recipe.normalize,
            weights: recipe.weights,
            method: recipe.method,
            optimizer: recipe.optimizer,
            schedule: recipe.schedule,
            epochs: recipe.epochs,
            batch_size: recipe.batch_size,
            options: recipe.options,
            seed: trial.seed,
        }
    }

    fn certify_question(&self, trial: u32, work: Work) -> CertifyQuestion {
        let Work::Certify { epoch, certificate, examples } = work else {
            unreachable!("only certificates have a certify question")
        };
        let (evaluate, recipe) = (&self.sweep.evaluate, &self.sweep.trials[trial as usize].recipe);
        let certificate = evaluate.certify[usize::from(certificate)].certificate.clone();
        CertifyQuestion {
            version: ALGORITHM_VERSION,
            train: self.trials[trial as usize].key,
            epoch,
            data: self.data.id.clone(),
            model: recipe.model.clone(),
            normalize: recipe.normalize.clone(),
            norm: evaluate.norm,
            seed: (!certificate.is_deterministic()).then_some(self.sweep.seed),
            certificate,
            epsilons: evaluate.positive_epsilons().to_vec(),
            examples,
        }
    }

    fn measure_question(&self, trial: u32, work: Work) -> MeasureQuestion {
        let Work::Measure { epoch, measure, units } = work else {
            unreachable!("only measures have a measure question")
        };
        let recipe = &self.sweep.trials[trial as usize].recipe;
        MeasureQuestion {
            version: ALGORITHM_VERSION,
            train: self.trials[trial as usize].key,
            epoch,
            data: self.data.id.clone(),
            model: recipe.model.clone(),
            normalize: recipe.normalize.clone(),
            measure: self.sweep.measures[usize::from(measure)].measure.clone(),
            units,
            seed: self.sweep.seed,
        }
    }

    fn evaluate_question(&self, trial: u32, work: Work) -> EvaluateQuestion {
        let Work::Evaluate { epoch, attack, examples } = work else {
            unreachable!("only evaluations have an evaluate question")
        };
        let (evaluate, recipe) = (&self.sweep.evaluate, &self.sweep.trials[trial as usize].recipe);
        let attack = evaluate.attacks[usize::from(attack)].attack.clone();
        EvaluateQuestion {
            version: ALGORITHM_VERSION,
            train: self.trials[trial as usize].key,
            epoch,
            data: self.data.id.clone(),
            model: recipe.model.clone(),
            normalize: recipe.normalize.clone(),
            norm: evaluate.norm,
            search: evaluate.search_of(&attack),
            attack,
            epsilons: evaluate.positive_epsilons().to_vec(),
            examples,
            batch_size: evaluate.batch_size,
            seed: self.sweep.seed,
            witnesses: evaluate.witnesses,
            search_precision: evaluate.search_precision,
            warm_starts: evaluate.warm_starts,
        }
    }
}

/// Whether a network can see the images.
fn suits(recipe: &Recipe, data: &DataInfo) -> Result<(), PlanError> {
    let (height, width) = (data.height, data.width);
    let images = format!("the images of {} have {height}x{width} pixels", data.id.name);
    let unsuitable = |why: String| Err(PlanError::Unsuitable(why));
    match recipe.model {
        Model::Smallcnn { .. } | Model::Madry {} if height.min(width) < 4 => {
            unsuitable(format!("`{}` needs images of 4x4 pixels or more; {images}", recipe.model.kind()))
        }
        Model::Lenet5 {} if height.min(width) < 12 => unsuitable(format!(
            "`lenet5` needs images of 12x12 pixels or more; {images}; `smallcnn` takes smaller ones"
        )),
        Model::Vit { patch, .. } if height % patch != 0 || width % patch != 0 => {
            unsuitable(format!("`vit` cannot cut images into patches of {patch}x{patch}; {images}"))
        }
        _ => match &recipe.normalize {
            Some(Normalization { mean, .. }) if mean.len() as u32 != data.channels => unsuitable(format!(
                "`normalize` has numbers for {} channels; the images of {} have {}",
                mean.len(),
                data.id.name,
                data.channels
            )),
            _ => Ok(()),
        },
    }
}

/// The sweep with the content of its files in place of their paths, as far as it is known.
fn with_content(mut sweep: Arc<Sweep>, data: &DataInfo) -> Arc<Sweep> {
    if sweep.trials.iter().all(|trial| trial.recipe.files().next().is_none()) {
        return sweep;
    }
    for trial in &mut Arc::make_mut(&mut sweep).trials {
        let content = |file: &GivenFile| {
            let known = file.path().and_then(|path| data.given.get(path.to_str()?));
            known.map_or_else(|| file.clone(), |known| GivenFile::of_content(&known.digest))
        };
        trial.recipe = trial.recipe.with_files(content);
    }
    sweep
}

#[cfg(test)]
mod tests;
