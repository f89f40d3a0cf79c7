//! A validated sweep: what the YAML file means once grids are expanded and defaults filled in.

use super::attack::{Attack, Certificate, Search};
use super::inputs::{GivenFile, Normalization};
use super::measure::NamedMeasure;
use super::method::{Method, Options, Precision, WATCH_STEPS, watched};
use super::recipe::{Model, Norm, Optimizer, Schedule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One YAML file, validated and expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Letters, digits, `-`, `_` and `.`; names the run's folder.
    pub name: String,
    /// Seed of the evaluation's random streams (trials have seeds of their own).
    pub seed: u64,
    pub dataset: Dataset,
    /// Column names of the varied settings, in the order of the grid, e.g. `model`, `optimizer.sgd.lr`.
    pub axes: Vec<String>,
    /// The expanded grid times seeds: duplicates merged, in grid order, seeds innermost.
    pub trials: Vec<Trial>,
    pub evaluate: Evaluate,
    /// With distinct names; mostly none.
    pub measures: Vec<NamedMeasure>,
    pub counts: GridCounts,
}

/// How the grid became trials; `epsweep plan` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct GridCounts {
    /// Points of the grid with `when` applied, before anything is dropped.
    pub points: usize,
    /// Points dropped by `exclude`.
    pub excluded: usize,
    /// Points added by `include`.
    pub included: usize,
    /// Points that `sample` left out.
    pub unsampled: usize,
    /// Points that turned out equal to another one and were merged into it.
    pub merged: usize,
    /// Points that remain; trials are this many times the seeds.
    pub configs: usize,
}

/// Where the examples come from. In a sweep's file a relative path starts at that file's folder;
/// after validation all are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Dataset {
    /// 1,797 handwritten 8x8 digits, embedded in the binary, with a fixed split.
    Digits {},
    /// MNIST's own IDX files, gzipped or plain.
    Mnist {
        /// The folder of the four files.
        dir: PathBuf,
    },
    /// Fashion-MNIST, in four IDX files named like MNIST's.
    FashionMnist {
        /// The folder of the four files.
        dir: PathBuf,
    },
    /// CIFAR-10 in its binary format: six `.bin` files, or the archive they come in.
    Cifar10 {
        /// The folder of the files.
        dir: PathBuf,
    },
    /// CIFAR-100 in its binary format: two `.bin` files, or the archive they come in.
    Cifar100 {
        /// The folder of the files.
        dir: PathBuf,
        #[serde(default)]
        labels: CifarLabels,
    },
    /// Arrays that NumPy saved: images (uint8, or float32 in `[0,1]`) and integer labels.
    Npz {
        /// One file with `x_train`, `y_train`, `x_test` and `y_test`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// Or two files with `x` and `y` each: this one to train ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        train: Option<PathBuf>,
        /// ... and this one to test.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test: Option<PathBuf>,
        /// Order of the axes where shapes leave it open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layout: Option<Layout>,
    },
    /// PNG and JPEG files in `train/CLASS/` and `test/CLASS/`.
    Folder {
        /// The folder that holds `train` and `test`.
        dir: PathBuf,
        /// `[height, width]` to which every image is resized (bilinear); without it all must have one size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<[u32; 2]>,
    },
}

/// Which of CIFAR-100's two labels is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CifarLabels {
    /// 100 classes.
    #[default]
    Fine,
    /// 20 superclasses.
    Coarse,
}

/// The order of the axes of an array of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Channels before height and width, as PyTorch has it.
    Nchw,
    /// Channels last, as TensorFlow has it.
    Nhwc,
}

impl Dataset {
    /// Channels times height times width, where the name alone fixes it.
    pub fn pixels(&self) -> Option<u32> {
        match self {
            Dataset::Digits {} => Some(64),
            Dataset::Cifar10 { .. } | Dataset::Cifar100 { .. } => Some(3 * 32 * 32),
            // Files in MNIST's format may hold images of any size.
            _ => None,
        }
    }

    /// The size of the test set, where the name alone fixes it.
    pub fn test_examples(&self) -> Option<u32> {
        match self {
            Dataset::Digits {} => Some(450),
            _ => None,
        }
    }

    /// Every path in it.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Dataset::Digits {} => Vec::new(),
            Dataset::Mnist { dir }
            | Dataset::FashionMnist { dir }
            | Dataset::Cifar10 { dir }
            | Dataset::Cifar100 { dir, .. }
            | Dataset::Folder { dir, .. } => vec![dir],
            Dataset::Npz { file, train, test, .. } => [file, train, test].into_iter().flatten().collect(),
        }
    }
}

/// One point of the training grid, seed included: one model being trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// One formatted value per axis of the sweep, e.g. `pgd(epsilon=0.1)`; empty where the axis does not apply.
    pub axes: Vec<String>,
    pub recipe: Recipe,
    pub seed: u64,
}

/// All that determines a training run but the data and the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    /// What the weights begin as, instead of random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<GivenFile>,
    pub method: Method,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    /// At least 1; 0 for a pretrained network, to which nothing from `optimizer` on applies.
    pub epochs: u32,
    /// Examples per step, at least 1; the last, smaller batch of an epoch is used too.
    pub batch_size: u32,
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub options: Options,
}

impl Recipe {
    /// Forward and backward passes of a whole run on `examples` training examples, if it is not stopped
    /// early: (forwards, backwards).
    pub fn passes(&self, examples: u32) -> (u64, u64) {
        let (forwards, backwards) = self.method.passes();
        let perturbed = self.options.awp.as_ref().map_or(0, |awp| self.epochs.saturating_sub(awp.warmup));
        let awp = u64::from(perturbed) * u64::from(self.method.awp_passes().unwrap_or(0));
        // What is clean in evaluation mode is not what training sees: one pass more.
        let twice = u32::from(matches!(self.method, Method::Trades { .. }) && self.model.has_batch_norm());
        let epochs = u64::from(self.epochs);
        let (held, checks) = self.options.stop_early.as_ref().map_or((0, [0, 0]), |rule| {
            let checks = (1..=self.epochs).filter(|&epoch| rule.is_due(epoch, self.epochs)).count() as u64;
            (rule.held_out(examples), [checks * u64::from(rule.steps + 1), checks * u64::from(rule.steps)])
        });
        let trained = examples.saturating_sub(held);
        let total = |passes: u32| u64::from(trained) * (epochs * u64::from(passes) + awp);
        // One step and PGD, each with a look at where it came to.
        let watched = if self.method.can_collapse() { epochs * u64::from(watched(trained)) } else { 0 };
        let watch = [watched * u64::from(WATCH_STEPS + 3), watched * u64::from(WATCH_STEPS + 1)];
        let held = u64::from(held);
        (total(forwards + twice) + held * checks[0] + watch[0], total(backwards) + held * checks[1] + watch[1])
    }
}

impl Recipe {
    pub fn is_pretrained(&self) -> bool {
        matches!(self.method, Method::Pretrained {})
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &GivenFile> {
        let module = match &self.model {
            Model::Torchscript(file) => Some(file),
            _ => None,
        };
        module.into_iter().chain(&self.weights)
    }

    /// The same with every file replaced.
    pub fn with_files(&self, replace: impl Fn(&GivenFile) -> GivenFile) -> Recipe {
        let mut recipe = self.clone();
        if let Model::Torchscript(file) = &mut recipe.model {
            *file = replace(file);
        }
        recipe.weights = recipe.weights.as_ref().map(replace);
        recipe
    }
}

/// The evaluation grid, the same for every trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluate {
    pub epochs: EvalEpochs,
    pub norm: Norm,
    /// Ascending, distinct, each at least 0; 0 stands for clean accuracy.
    pub epsilons: Vec<f64>,
    /// With distinct names, at least one.
    pub attacks: Vec<NamedAttack>,
    /// How many examples from the start of the test set; `None` means all.
    pub test_examples: Option<u32>,
    /// Examples per forward pass of the attack loop.
    pub batch_size: u32,
    /// For all attacks; `None` means each attack's usual one.
    pub search: Option<Search>,
    pub witnesses: Witnesses,
    /// What attacks compute with while they search; what they find counts when 32 bits confirm it.
    pub search_precision: Precision,
    /// Whether searches begin where those at other epsilons ended.
    pub warm_starts: bool,
    /// With distinct names, of the evaluation's norm; mostly empty.
    pub certify: Vec<NamedCertificate>,
}

/// Which adversarial examples an evaluation keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Witnesses {
    /// None: they are verified, counted and dropped.
    #[default]
    None,
    /// For each broken example the one at its level, the smallest epsilon that broke it.
    Break,
    /// Every one that made an example's level smaller.
    All,
}

impl Witnesses {
    /// Whether this is what questions meant before there was a choice.
    pub fn is_none(&self) -> bool {
        *self == Witnesses::None
    }
}

impl Evaluate {
    /// The search that `attack` is evaluated with.
    pub fn search_of(&self, attack: &Attack) -> Search {
        self.search.unwrap_or(attack.usual_search())
    }

    /// The grid that outcomes refer to: without 0, which needs no attack.
    pub fn positive_epsilons(&self) -> &[f64] {
        &self.epsilons[self.epsilons.partition_point(|&e| e <= 0.0)..]
    }
}

/// An attack under the name that stands in the `attack` column.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedAttack {
    pub name: String,
    pub attack: Attack,
}

/// A certificate under the name that stands in the `certificate` column.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedCertificate {
    pub name: String,
    pub certificate: Certificate,
}

/// At which epochs checkpoints are kept and evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvalEpochs {
    /// Ascending and distinct, each at least 1; those beyond a trial's last epoch do not apply to it.
    pub at: Vec<u32>,
    /// All multiples of each of these, at least 1.
    pub every: Vec<u32>,
    /// So many epochs (at least 2) from the first to the last, each the same multiple of the one
    /// before, as far as whole numbers allow.
    pub log: Vec<u32>,
    /// Also after the last epoch of the trial.
    pub last: bool,
}

impl EvalEpochs {
    /// The last epoch of each trial, and no other.
    pub fn last_only() -> EvalEpochs {
        EvalEpochs { last: true, ..EvalEpochs::default() }
    }

    /// The epochs at which a trial of `epochs` epochs is evaluated: ascending, distinct, possibly empty.
    /// A pretrained network has none behind it, and is evaluated as it is: at epoch 0.
    pub fn of(&self, epochs: u32) -> Vec<u32> {
        if epochs == 0 {
            return vec![0];
        }
        let mut chosen: Vec<u32> = self.at.iter().copied().filter(|&e| e <= epochs).collect();
        for &step in &self.every {
            chosen.extend((step..=epochs).step_by(step as usize));
        }
        for &count in &self.log {
            let at = |k: u32| f64::from(epochs).powf(f64::from(k) / f64::from(count - 1)).round() as u32;
            chosen.extend((0..count).map(|k| at(k).clamp(1, epochs)));
        }
        if self.last {
            chosen.push(epochs);
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}
