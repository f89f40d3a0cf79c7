//! The vocabulary of a trial: model, method, optimizer, schedule, attack.
//!
//! These types are both what a user writes and, with every default filled in, what a task's
//! identity is computed from (see [`crate::plan::question`]). So their serialised form is stable:
//! a new field must be skipped when it holds the value that reproduces the old behaviour.

use super::inputs::GivenFile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ball an adversarial perturbation lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Largest change of any pixel.
    #[default]
    Linf,
    /// Euclidean length over all pixels.
    L2,
}

/// A network architecture. Inputs are NCHW in `[0,1]`; outputs are logits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Model {
    /// One affine map from pixels to logits.
    Linear {},
    /// Fully connected layers with ReLU between them.
    Mlp {
        /// Widths of the hidden layers, 1 to 8192 each.
        #[serde(default = "default::mlp_hidden")]
        hidden: Vec<u32>,
    },
    /// Two 5x5 convolutions (3x3 for inputs under 16 pixels), each with ReLU and 2x2 max pooling,
    /// then one hidden fully connected layer.
    Smallcnn {
        /// Output channels of the two convolutions.
        #[serde(default = "default::smallcnn_channels")]
        channels: [u32; 2],
        /// Width of the fully connected layer.
        #[serde(default = "default::smallcnn_hidden")]
        hidden: u32,
    },
    /// LeNet-5 with ReLU and max pooling: two 5x5 convolutions, hidden layers of 120 and 84.
    Lenet5 {},
    /// Madry et al.'s network for MNIST: 5x5 convolutions to 32 and 64 channels, a hidden layer of 1024.
    Madry {},
    /// PreActResNet-18 (arXiv 1603.05027), with batch normalisation.
    Preactresnet18 {
        /// Channels of the first stage; 64 is the usual network.
        #[serde(default = "default::preactresnet18_width")]
        width: u32,
    },
    /// Wide residual network WRN-depth-width (arXiv 1605.07146), with batch normalisation.
    Wrn {
        /// 6n + 4: 10, 16, 22, 28, 34, ...
        #[serde(default = "default::wrn_depth")]
        depth: u32,
        /// Channels as a multiple of 16, 32 and 64.
        #[serde(default = "default::wrn_width")]
        width: u32,
    },
    /// A small vision transformer (arXiv 2010.11929).
    Vit {
        /// Pixels a side of a patch; the images' sides must be multiples of it.
        #[serde(default = "default::vit_patch")]
        patch: u32,
        /// Numbers per patch; a multiple of `heads`.
        #[serde(default = "default::vit_dim")]
        dim: u32,
        /// Blocks.
        #[serde(default = "default::vit_depth")]
        depth: u32,
        #[serde(default = "default::vit_heads")]
        heads: u32,
    },
    /// A network of one's own: the file of a TorchScript module.
    Torchscript(GivenFile),
}

/// The update rule of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent, PyTorch's definition (momentum buffer starts at the gradient).
    Sgd {
        #[serde(default = "default::sgd_lr")]
        lr: f64,
        #[serde(default = "default::sgd_momentum")]
        momentum: f64,
        /// L2 penalty, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam with decoupled weight decay (arXiv 1711.05101), PyTorch's definition.
    Adamw {
        #[serde(default = "default::adamw_lr")]
        lr: f64,
        #[serde(default = "default::adamw_betas")]
        betas: [f64; 2],
        #[serde(default = "default::adamw_eps")]
        eps: f64,
        #[serde(default = "default::adamw_weight_decay")]
        weight_decay: f64,
    },
}

/// The learning rate over a training run, as a factor on the optimizer's `lr`, updated every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Factor 1 throughout.
    Constant {},
    /// Multiplied by `gamma` at each milestone.
    Step {
        /// Fractions of the run, ascending, each in (0, 1).
        #[serde(default = "default::step_milestones")]
        milestones: Vec<f64>,
        #[serde(default = "default::step_gamma")]
        gamma: f64,
    },
    /// Half a cosine from 1 down to 0 (arXiv 1608.03983).
    Cosine {},
    /// Cosine up from 1/25 to 1 over the first `warmup` of the run, then cosine down to 1e-4 / 25
    /// (arXiv 1708.07120, PyTorch's OneCycleLR defaults).
    OneCycle {
        /// Fraction of the run spent rising, in (0, 1).
        #[serde(default = "default::one_cycle_warmup")]
        warmup: f64,
    },
}

/// An attack of the evaluation. Every attack sees the true labels and the whole pipeline's gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Attack {
    /// One gradient step of length epsilon (arXiv 1412.6572).
    Fgsm {},
    /// Projected gradient ascent from a random start (arXiv 1706.06083), on a margin with the
    /// direction of the cross-entropy that does not vanish where that one saturates.
    Pgd {
        #[serde(default = "default::attack_steps")]
        steps: u32,
        /// Step size, pixel units; 2.5 epsilon / steps when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
        /// Independent random starts.
        #[serde(default = "default::attack_restarts")]
        restarts: u32,
    },
    /// Auto-PGD: projected ascent with momentum that chooses its step sizes itself (arXiv 2003.01690).
    Apgd {
        #[serde(default)]
        loss: AttackLoss,
        #[serde(default = "default::apgd_steps")]
        steps: u32,
        /// Independent random starts, for each target.
        #[serde(default = "default::attack_restarts")]
        restarts: u32,
        /// How many of the likeliest wrong classes `dlr_targeted` aims at, one after the other.
        #[serde(default = "default::attack_targets")]
        targets: u32,
    },
    /// FAB-T: looks for the nearest adversarial example, whatever the epsilon (arXiv 1907.02044).
    Fab {
        /// Steps towards each target.
        #[serde(default = "default::apgd_steps")]
        steps: u32,
        /// How many of the likeliest wrong classes it aims at, one after the other.
        #[serde(default = "default::attack_targets")]
        targets: u32,
    },
    /// Random search with square windows, without gradients (arXiv 1912.00049).
    Square {
        /// Random changes that are tried.
        #[serde(default = "default::square_queries")]
        queries: u32,
    },
    /// AutoAttack: several attacks, each on what withstood the ones before (arXiv 2003.01690).
    Autoattack {
        #[serde(default)]
        version: AutoattackVersion,
    },
}

/// A proof that no adversarial example exists up to some epsilon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Certificate {
    /// Interval bounds (arXiv 1810.12715): Linf, feed-forward models.
    Ibp {},
    /// Linear bounds (CROWN, arXiv 1811.00866), and intervals where they are tighter: Linf,
    /// feed-forward models.
    Crown {},
    /// Randomised smoothing (arXiv 1902.02918): L2, any model. Certifies the smoothed network, not
    /// the network itself.
    Smoothing {
        /// Standard deviation of the noise, pixel units.
        sigma: f64,
        /// Noisy copies that choose the class.
        #[serde(default = "default::smoothing_n0")]
        n0: u32,
        /// Noisy copies that count how often it wins.
        #[serde(default = "default::smoothing_n")]
        n: u32,
        /// Probability that an example's certificate is wrong.
        #[serde(default = "default::smoothing_alpha")]
        alpha: f64,
    },
}

/// What APGD increases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttackLoss {
    /// Cross-entropy of the true class.
    #[default]
    Ce,
    /// Difference of logits ratio: does not change with the scale of the logits; needs 3 classes.
    Dlr,
    /// Difference of logits ratio towards the likeliest wrong classes in turn; needs 4 classes.
    DlrTargeted,
}

/// Which attacks AutoAttack consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoattackVersion {
    /// APGD on the cross-entropy, APGD on the targeted DLR loss, FAB-T, Square.
    #[default]
    Standard,
    /// APGD on the cross-entropy and on the DLR loss: for networks that answer at random. Those of
    /// epsweep do not, so that one gradient says as much as the 20 that are averaged elsewhere.
    Rand,
}

/// How an evaluation looks for the smallest epsilon of the grid that breaks an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// From the smallest epsilon up, until one breaks it: all smaller ones have been tried.
    #[default]
    Ascending,
    /// Closes in on the break from both sides. Tried and withstood is only the epsilon just below it.
    Bisect,
    /// From the largest epsilon down to the smallest, whatever happens: all below the break have
    /// been tried, and what larger balls reveal about smaller ones counts too.
    Exhaustive,
}

impl Search {
    /// Whether this is the search that questions meant before there was a choice.
    pub fn is_ascending(&self) -> bool {
        *self == Search::Ascending
    }
}

impl Model {
    /// The name users write.
    pub fn kind(&self) -> &'static str {
        match self {
            Model::Linear {} => "linear",
            Model::Mlp { .. } => "mlp",
            Model::Smallcnn { .. } => "smallcnn",
            Model::Lenet5 {} => "lenet5",
            Model::Madry {} => "madry",
            Model::Preactresnet18 { .. } => "preactresnet18",
            Model::Wrn { .. } => "wrn",
            Model::Vit { .. } => "vit",
            Model::Torchscript(_) => "torchscript",
        }
    }

    /// Whether batch normalisation makes training see other numbers than evaluation.
    pub fn has_batch_norm(&self) -> bool {
        matches!(self, Model::Preactresnet18 { .. } | Model::Wrn { .. })
    }

    /// Whether interval bounds can be trained on: affine layers, ReLU and pooling, one after the other.
    pub fn has_trainable_bounds(&self) -> bool {
        matches!(
            self,
            Model::Linear {} | Model::Mlp { .. } | Model::Smallcnn { .. } | Model::Lenet5 {} | Model::Madry {}
        )
    }
}

impl Certificate {
    /// The name users write.
    pub fn kind(&self) -> &'static str {
        match self {
            Certificate::Ibp {} => "ibp",
            Certificate::Crown {} => "crown",
            Certificate::Smoothing { .. } => "smoothing",
        }
    }

    /// The norm that it speaks of.
    pub fn norm(&self) -> Norm {
        match self {
            Certificate::Ibp {} | Certificate::Crown {} => Norm::Linf,
            Certificate::Smoothing { .. } => Norm::L2,
        }
    }

    /// Whether it is a lower bound on the robustness of the very network that is attacked. One that
    /// needs luck speaks of another network, and with some probability of nothing.
    pub fn is_deterministic(&self) -> bool {
        !matches!(self, Certificate::Smoothing { .. })
    }
}

impl Attack {
    /// The name users write.
    pub fn kind(&self) -> &'static str {
        match self {
            Attack::Fgsm {} => "fgsm",
            Attack::Pgd { .. } => "pgd",
            Attack::Apgd { .. } => "apgd",
            Attack::Fab { .. } => "fab",
            Attack::Square { .. } => "square",
            Attack::Autoattack { .. } => "autoattack",
        }
    }

    /// The attacks this one consists of, in order; itself for all but AutoAttack.
    pub fn members(&self) -> Vec<Attack> {
        let apgd = |loss| Attack::Apgd { loss, steps: 100, restarts: 1, targets: 9 };
        match self {
            Attack::Autoattack { version: AutoattackVersion::Standard } => vec![
                apgd(AttackLoss::Ce),
                apgd(AttackLoss::DlrTargeted),
                Attack::Fab { steps: 100, targets: 9 },
                Attack::Square { queries: 5000 },
            ],
            Attack::Autoattack { version: AutoattackVersion::Rand } => {
                vec![apgd(AttackLoss::Ce), apgd(AttackLoss::Dlr)]
            }
            own => vec![own.clone()],
        }
    }

    /// Forward and backward passes that a robust example costs at one epsilon: (forwards, backwards).
    pub fn passes(&self) -> (u64, u64) {
        let gradients = |count: u64| (count, count);
        match *self {
            Attack::Fgsm {} => (1, 1),
            Attack::Pgd { steps, restarts, .. } => gradients(u64::from(steps) * u64::from(restarts)),
            Attack::Apgd { loss, steps, restarts, targets } => {
                let targets = if loss == AttackLoss::DlrTargeted { targets } else { 1 };
                gradients(u64::from(steps) * u64::from(restarts) * u64::from(targets))
            }
            Attack::Fab { steps, targets } => {
                let count = u64::from(steps) * u64::from(targets);
                (2 * count, count)
            }
            Attack::Square { queries } => (u64::from(queries), 0),
            Attack::Autoattack { .. } => {
                let members = self.members();
                let passes = members.iter().map(Attack::passes);
                passes.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
            }
        }
    }

    /// The search that an evaluation uses when none is written: the dear attacks close in.
    pub fn usual_search(&self) -> Search {
        match self {
            Attack::Fgsm {} | Attack::Pgd { .. } => Search::Ascending,
            _ => Search::Bisect,
        }
    }
}

mod default {
    pub fn mlp_hidden() -> Vec<u32> {
        vec![256, 128]
    }
    pub fn smallcnn_channels() -> [u32; 2] {
        [16, 32]
    }
    pub fn smallcnn_hidden() -> u32 {
        100
    }
    pub fn preactresnet18_width() -> u32 {
        64
    }
    pub fn wrn_depth() -> u32 {
        28
    }
    pub fn wrn_width() -> u32 {
        10
    }
    pub fn vit_patch() -> u32 {
        4
    }
    pub fn vit_dim() -> u32 {
        128
    }
    pub fn vit_depth() -> u32 {
        6
    }
    pub fn vit_heads() -> u32 {
        4
    }
    pub fn sgd_lr() -> f64 {
        0.1
    }
    pub fn sgd_momentum() -> f64 {
        0.9
    }
    pub fn adamw_lr() -> f64 {
        1e-3
    }
    pub fn adamw_betas() -> [f64; 2] {
        [0.9, 0.999]
    }
    pub fn adamw_eps() -> f64 {
        1e-8
    }
    pub fn adamw_weight_decay() -> f64 {
        0.01
    }
    pub fn step_milestones() -> Vec<f64> {
        vec![0.5, 0.75]
    }
    pub fn step_gamma() -> f64 {
        0.1
    }
    pub fn one_cycle_warmup() -> f64 {
        0.3
    }
    pub fn attack_steps() -> u32 {
        40
    }
    pub fn attack_restarts() -> u32 {
        1
    }
    pub fn apgd_steps() -> u32 {
        100
    }
    pub fn attack_targets() -> u32 {
        9
    }
    pub fn square_queries() -> u32 {
        5000
    }
    pub fn smoothing_n0() -> u32 {
        100
    }
    pub fn smoothing_n() -> u32 {
        100_000
    }
    pub fn smoothing_alpha() -> f64 {
        0.001
    }
}
