//! The vocabulary of a trial: model, norm, optimizer, schedule.
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
    /// Sum of the changes of all pixels.
    L1,
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
}
