//! How a trial trains: the method, and the options that go with any method.

use super::recipe::Norm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a trial trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// Cross-entropy on clean examples.
    Natural {},
    /// Cross-entropy on PGD examples (Madry et al., arXiv 1706.06083).
    Pgd {
        /// Radius of the training attack, pixel units of `[0,1]`.
        epsilon: f64,
        /// Gradient steps of the training attack.
        #[serde(default = "default::steps")]
        steps: u32,
        /// Step size, pixel units; 2.5 epsilon / steps when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
        #[serde(default)]
        norm: Norm,
    },
    /// TRADES (Zhang et al., arXiv 1901.08573): CE(clean) + beta KL(clean || adversarial).
    Trades {
        /// Radius of the training attack, pixel units of `[0,1]`.
        epsilon: f64,
        /// Weight of the robust term.
        #[serde(default = "default::beta")]
        beta: f64,
        #[serde(default = "default::steps")]
        steps: u32,
        /// Step size, pixel units; 2.5 epsilon / steps when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
        #[serde(default)]
        norm: Norm,
    },
    /// MART (Wang et al., ICLR 2020): a boosted cross-entropy on PGD examples, and beta KL(clean ||
    /// adversarial) weighted by how unsure the network is of the clean example.
    Mart {
        /// Radius of the training attack, pixel units of `[0,1]`.
        epsilon: f64,
        /// Weight of the second term.
        #[serde(default = "default::beta")]
        beta: f64,
        #[serde(default = "default::steps")]
        steps: u32,
        /// Step size, pixel units; 2.5 epsilon / steps when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
        #[serde(default)]
        norm: Norm,
    },
    /// Fast adversarial training (Wong et al., arXiv 2001.03994): one step from a random start, Linf.
    FastAt {
        /// Radius of the training attack, pixel units of `[0,1]`.
        epsilon: f64,
        /// Step size, pixel units; 1.25 epsilon when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
    },
    /// Free adversarial training (Shafahi et al., arXiv 1904.12843), Linf: every batch is trained on
    /// several times, and one backward pass moves both the weights and the perturbation.
    FreeAt {
        /// Radius of the perturbation, pixel units of `[0,1]`.
        epsilon: f64,
        /// Updates per batch.
        #[serde(default = "default::replays")]
        replays: u32,
        /// Step size of the perturbation, pixel units; epsilon when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
    },
    /// Interval bound propagation (Gowal et al., arXiv 1810.12715), Linf: kappa CE(clean) + (1 - kappa)
    /// CE(worst case that intervals prove). Models that feed forward through affine layers only.
    Ibp {
        /// Radius that is certified at the end of the run, pixel units of `[0,1]`.
        epsilon: f64,
        /// Weight of the clean term at the end of the run; it begins at 1.
        #[serde(default = "default::kappa")]
        kappa: f64,
        /// Fraction of the run before epsilon and kappa begin to move.
        #[serde(default = "default::ibp_warmup")]
        warmup: f64,
        /// Fraction of the run during which they move, linearly, to their final values.
        #[serde(default = "default::ibp_ramp")]
        ramp: f64,
    },
    /// No training: the weights are given, by `weights` or by a TorchScript model.
    Pretrained {},
}

impl Method {
    /// The name users write.
    pub fn kind(&self) -> &'static str {
        match self {
            Method::Natural {} => "natural",
            Method::Pretrained {} => "pretrained",
            Method::Pgd { .. } => "pgd",
            Method::Trades { .. } => "trades",
            Method::Mart { .. } => "mart",
            Method::FastAt { .. } => "fast_at",
            Method::FreeAt { .. } => "free_at",
            Method::Ibp { .. } => "ibp",
        }
    }

    /// Forward and backward passes that one example costs in one epoch: (forwards, backwards).
    pub fn passes(&self) -> (u32, u32) {
        let both = |count| (count, count);
        match *self {
            Method::Natural {} => both(1),
            Method::Pretrained {} => both(0),
            Method::Pgd { steps, .. } => both(steps + 1),
            // The clean logits are computed once, and serve the inner loop and the loss.
            Method::Trades { steps, .. } | Method::Mart { steps, .. } => both(steps + 2),
            Method::FastAt { .. } => both(2),
            Method::FreeAt { replays, .. } => both(replays),
            // The clean pass; the centres and the radii of the intervals.
            Method::Ibp { .. } => both(3),
        }
    }

    /// Updates of the weights per batch.
    pub fn updates(&self) -> u32 {
        match *self {
            Method::FreeAt { replays, .. } => replays,
            _ => 1,
        }
    }

    /// The ball that the method trains in; `None` for natural training.
    pub fn ball(&self) -> Option<(f64, Norm)> {
        match *self {
            Method::Natural {} | Method::Pretrained {} => None,
            Method::Pgd { epsilon, norm, .. }
            | Method::Trades { epsilon, norm, .. }
            | Method::Mart { epsilon, norm, .. } => Some((epsilon, norm)),
            Method::FastAt { epsilon, .. } | Method::FreeAt { epsilon, .. } | Method::Ibp { epsilon, .. } => {
                Some((epsilon, Norm::Linf))
            }
        }
    }

    /// Passes per example that adversarial weight perturbation adds to an epoch, each forward and
    /// backward; `None` where it is not defined.
    pub fn awp_passes(&self) -> Option<u32> {
        match self {
            Method::Pgd { .. } | Method::FastAt { .. } => Some(1),
            Method::Trades { .. } | Method::Mart { .. } => Some(2),
            Method::Natural {} | Method::Pretrained {} | Method::FreeAt { .. } | Method::Ibp { .. } => None,
        }
    }

    /// Whether a single gradient makes the training examples, so that training can collapse
    /// (catastrophic overfitting) and is watched.
    pub fn can_collapse(&self) -> bool {
        matches!(self, Method::FastAt { .. } | Method::FreeAt { .. })
    }
}

/// What goes with any method. At its default it changes nothing, and stands in no question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Share of the target that is spread over all classes, 0 to below 1 (arXiv 1512.00567).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awp: Option<Awp>,
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_early: Option<StopEarly>,
}

impl Options {
    pub fn is_default(&self) -> bool {
        *self == Options::default()
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// Random changes of the training images, drawn anew for each example and epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// The image is shifted by up to this many pixels along both axes; black comes in.
    #[serde(default)]
    pub crop: u32,
    /// Mirrored left to right with probability 1/2.
    #[serde(default)]
    pub flip: bool,
}

/// Adversarial weight perturbation (Wu et al., arXiv 2004.05884).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Awp {
    /// How far each weight tensor is moved, as a multiple of its own length.
    #[serde(default = "default::gamma")]
    pub gamma: f64,
    /// Epochs before it begins.
    #[serde(default)]
    pub warmup: u32,
}

/// What networks compute with in training, or in the search for adversarial examples. Weights, updates and
/// verdicts are in 32 bits either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// Convolutions and affine maps in bfloat16, forwards and backwards; the rest in 32 bits.
    Bf16,
}

impl Precision {
    /// Whether this is what was computed with before there was a choice.
    pub fn is_full(&self) -> bool {
        *self == Precision::Fp32
    }
}

/// Early stopping on robust accuracy: the weights of the best epoch become the final ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopEarly {
    /// Share of the training set that is held out and attacked.
    #[serde(default = "default::fraction")]
    pub fraction: f64,
    /// Epochs between two checks; the last epoch is always checked.
    #[serde(default = "default::every")]
    pub every: u32,
    /// Checks without a new best after which training ends.
    #[serde(default = "default::patience")]
    pub patience: u32,
    /// Radius of the validation attack, pixel units; that of the method when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// That of the method when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// Steps of the validation attack (PGD, each of 2.5 epsilon / steps).
    #[serde(default = "default::steps")]
    pub steps: u32,
}

impl StopEarly {
    /// How many of `examples` are held out: at least one, and never all.
    pub fn held_out(&self, examples: u32) -> u32 {
        let share = (f64::from(examples) * self.fraction).round() as u32;
        share.clamp(1, examples.saturating_sub(1).max(1))
    }

    /// Whether the weights after `epoch` (from 1) of a run of `epochs` are checked.
    pub fn is_due(&self, epoch: u32, epochs: u32) -> bool {
        epoch == epochs || epoch.is_multiple_of(self.every.max(1))
    }
}

/// Steps of the PGD that watches over training that can collapse.
pub const WATCH_STEPS: u32 = 10;

/// How many of `examples` training examples it looks at.
pub fn watched(examples: u32) -> u32 {
    (examples / 100).clamp(64, 256).min(examples)
}

mod default {
    pub fn fraction() -> f64 {
        0.1
    }
    pub fn every() -> u32 {
        1
    }
    pub fn patience() -> u32 {
        10
    }
    pub fn gamma() -> f64 {
        0.005
    }
    pub fn steps() -> u32 {
        10
    }
    pub fn beta() -> f64 {
        6.0
    }
    pub fn replays() -> u32 {
        8
    }
    pub fn kappa() -> f64 {
        0.5
    }
    pub fn ibp_warmup() -> f64 {
        0.05
    }
    pub fn ibp_ramp() -> f64 {
        0.5
    }
}
