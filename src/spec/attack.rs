//! The vocabulary of an evaluation: attacks, searches, certificates.
//!
//! As in [`super::recipe`], a task's identity is computed from these types, so their serialised form
//! is stable: a new field must be skipped when it holds the value that reproduces the old behaviour.

use super::recipe::Norm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        /// Gradients that are averaged at each step, for networks that answer at random.
        #[serde(default = "default::samples", skip_serializing_if = "default::is_one")]
        samples: u32,
    },
    /// FAB: looks for the nearest adversarial example, whatever the epsilon (arXiv 1907.02044).
    Fab {
        /// Steps of each climb.
        #[serde(default = "default::apgd_steps")]
        steps: u32,
        /// How many of the likeliest wrong classes it aims at, one after the other (FAB-T); 0 aims at
        /// the nearest boundary of all, which costs a gradient per class and step.
        #[serde(default = "default::attack_targets")]
        targets: u32,
        /// Climbs for each target; those after the first begin at random.
        #[serde(default = "default::attack_restarts", skip_serializing_if = "default::is_one")]
        restarts: u32,
    },
    /// DDN: looks for the nearest adversarial example in L2, whatever the epsilon (arXiv 1811.09600).
    Ddn {
        #[serde(default = "default::apgd_steps")]
        steps: u32,
    },
    /// Carlini and Wagner: looks for the nearest adversarial example in L2, whatever the epsilon
    /// (arXiv 1608.04644).
    Cw {
        /// Steps of each search.
        #[serde(default = "default::cw_steps")]
        steps: u32,
        /// How often the weight of the misclassification is chosen anew.
        #[serde(default = "default::cw_searches")]
        searches: u32,
        /// Adam's learning rate.
        #[serde(default = "default::cw_lr")]
        lr: f64,
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
        #[serde(default, skip_serializing_if = "Effort::is_full")]
        effort: Effort,
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

/// Whether AutoAttack plays every climb to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// As published.
    #[default]
    Full,
    /// Climbs that have come next to nowhere after part of their steps are given up.
    Thrifty,
}

impl Effort {
    fn is_full(&self) -> bool {
        *self == Effort::Full
    }
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
    /// Both of APGD's untargeted losses and FAB, five restarts each, Square, targeted APGD and FAB-T.
    Plus,
    /// APGD on the cross-entropy and on the DLR loss, 20 gradients averaged at each step: for networks
    /// that answer at random.
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
            Attack::Ddn { .. } => "ddn",
            Attack::Cw { .. } => "cw",
            Attack::Square { .. } => "square",
            Attack::Autoattack { .. } => "autoattack",
        }
    }

    /// The attacks this one consists of, in order; itself for all but AutoAttack. As the reference
    /// implementation has it, L1 gets more restarts and fewer targets.
    pub fn members(&self, norm: Norm) -> Vec<Attack> {
        let Attack::Autoattack { version, .. } = *self else { return vec![self.clone()] };
        let apgd = |loss, restarts, targets, samples| Attack::Apgd { loss, steps: 100, restarts, targets, samples };
        let fab = |targets, restarts| Attack::Fab { steps: 100, targets, restarts };
        let square = Attack::Square { queries: 5000 };
        let (restarts, targets) = if norm == Norm::L1 { (5, 5) } else { (1, 9) };
        match version {
            AutoattackVersion::Standard => vec![
                apgd(AttackLoss::Ce, restarts, 9, 1),
                apgd(AttackLoss::DlrTargeted, 1, targets, 1),
                fab(9, 1),
                square,
            ],
            AutoattackVersion::Plus => vec![
                apgd(AttackLoss::Ce, 5, 9, 1),
                apgd(AttackLoss::Dlr, 5, 9, 1),
                fab(0, 5),
                square,
                apgd(AttackLoss::DlrTargeted, 1, 9, 1),
                fab(9, 1),
            ],
            AutoattackVersion::Rand => vec![apgd(AttackLoss::Ce, 1, 9, 20), apgd(AttackLoss::Dlr, 1, 9, 20)],
        }
    }

    /// What an evaluation plays, in order: the members, and before those of PGD and AutoAttack a scout.
    ///
    /// FGSM costs one gradient per example and a forward pass per epsilon. It now and then finds what
    /// stronger attacks miss; where it leads, they cannot come out weaker than it anywhere.
    pub fn cascade(&self, norm: Norm) -> Vec<Attack> {
        let scout = matches!(self, Attack::Pgd { .. } | Attack::Autoattack { .. }).then_some(Attack::Fgsm {});
        scout.into_iter().chain(self.members(norm)).collect()
    }

    /// Whether its climbs are given up when they are hopeless.
    pub fn is_thrifty(&self) -> bool {
        matches!(self, Attack::Autoattack { effort: Effort::Thrifty, .. })
    }

    /// Forward and backward passes that a robust example costs at one epsilon: (forwards, backwards).
    pub fn passes(&self) -> (u64, u64) {
        let gradients = |count: u64| (count, count);
        match *self {
            Attack::Fgsm {} => (1, 1),
            Attack::Pgd { steps, restarts, .. } => gradients(u64::from(steps) * u64::from(restarts)),
            Attack::Apgd { loss, steps, restarts, targets, samples: _ } => {
                let targets = if loss == AttackLoss::DlrTargeted { targets } else { 1 };
                gradients(u64::from(steps) * u64::from(restarts) * u64::from(targets))
            }
            Attack::Fab { steps, targets: 0, restarts } => {
                // With ten classes.
                let count = u64::from(steps) * u64::from(restarts);
                (10 * count, 9 * count)
            }
            Attack::Fab { steps, targets, restarts } => {
                let count = u64::from(steps) * u64::from(targets) * u64::from(restarts);
                (2 * count, count)
            }
            Attack::Ddn { steps } => gradients(u64::from(steps)),
            Attack::Cw { steps, searches, .. } => gradients(u64::from(steps) * u64::from(searches)),
            Attack::Square { queries } => (u64::from(queries), 0),
            Attack::Autoattack { .. } => {
                let members = self.members(Norm::Linf);
                let passes = members.iter().map(Attack::passes);
                passes.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
            }
        }
    }

    /// The search that an evaluation uses when none is written: all but the cheapest close in.
    pub fn usual_search(&self) -> Search {
        match self {
            Attack::Fgsm {} => Search::Ascending,
            _ => Search::Bisect,
        }
    }
}

mod default {
    pub fn attack_steps() -> u32 {
        40
    }
    pub fn cw_steps() -> u32 {
        1000
    }
    pub fn cw_searches() -> u32 {
        9
    }
    pub fn cw_lr() -> f64 {
        0.01
    }
    pub fn samples() -> u32 {
        1
    }
    pub fn is_one(count: &u32) -> bool {
        *count == 1
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
