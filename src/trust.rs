//! How far to trust an evaluation: what it noticed about the network and the attack while it ran. Pure.
//!
//! Robust accuracies are upper bounds; these facts say where a bound may be far from the truth. They
//! are counts over the examples that this very answer attacked (what earlier answers settled is not
//! attacked again), so answers over shards merge by adding. What they mean is for the report to say.

use serde::{Deserialize, Serialize};

/// What one evaluation, or several together, noticed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// Examples that were classified correctly and then attacked.
    pub attacked: u64,
    /// Examples whose input gradient was asked for at all ...
    pub gradients: u64,
    /// ... and those for which the first one was exactly zero: the attack had nothing to follow.
    pub zero_gradients: u64,
    /// The attacks of the cascade, in order.
    pub members: Vec<MemberTrust>,
    /// Successes of the search that the separate check did not confirm.
    pub refuted: u64,
    /// Examples by class, whether attacked or not.
    pub labels: Vec<u64>,
    /// Numbers per image: channels times height times width.
    pub pixels: u64,
    /// Pixels outside `[0,1]`.
    pub outside_box: u64,
    /// Two passes of one batch gave different outputs.
    pub random_outputs: bool,
    /// An example's outputs depended on the rest of its batch, as in train mode.
    pub batch_dependent: bool,
    /// A module was saved in train mode, where it answers otherwise than in eval mode, in which it is evaluated.
    pub train_mode: bool,
    /// The outputs were probabilities instead of logits.
    pub softmax_outputs: bool,
    /// A DLR loss was asked for, and there were too few classes for it: cross-entropy took its place.
    pub replaced_loss: bool,
}

/// One attack of a cascade, and what its successes look like. A success here is an adversarial
/// example that decided the final level of an example.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberTrust {
    /// `pgd`, `apgd-ce`, `square`, ...
    pub name: String,
    /// Steps of one climb.
    pub steps: u64,
    pub restarts: u64,
    pub breaks: u64,
    /// Breaks in the last tenth of the steps; of attacks with fewer than ten steps none counts.
    pub late: u64,
    /// Breaks in the last restart; where there is but one, none counts.
    pub last_restart: u64,
}

impl Trust {
    /// Adds what another shard of the same evaluation noticed.
    pub fn merge(&mut self, other: &Trust) {
        self.attacked += other.attacked;
        self.gradients += other.gradients;
        self.zero_gradients += other.zero_gradients;
        self.refuted += other.refuted;
        self.pixels = self.pixels.max(other.pixels);
        self.outside_box += other.outside_box;
        self.random_outputs |= other.random_outputs;
        self.batch_dependent |= other.batch_dependent;
        self.train_mode |= other.train_mode;
        self.softmax_outputs |= other.softmax_outputs;
        self.replaced_loss |= other.replaced_loss;
        self.labels.resize(self.labels.len().max(other.labels.len()), 0);
        self.labels.iter_mut().zip(&other.labels).for_each(|(count, more)| *count += more);
        if self.members.is_empty() {
            self.members.clone_from(&other.members);
            return;
        }
        for (member, more) in self.members.iter_mut().zip(&other.members) {
            member.breaks += more.breaks;
            member.late += more.late;
            member.last_restart += more.last_restart;
        }
    }

    /// Examples that the attack broke.
    pub fn breaks(&self) -> u64 {
        self.members.iter().map(|member| member.breaks).sum()
    }

    /// Breaks owed to attacks without gradients, where attacks with them had been tried before.
    pub fn black_box_only(&self) -> u64 {
        let guided = self.members.iter().any(|member| !member.is_black_box());
        let blind = self.members.iter().filter(|member| member.is_black_box());
        if guided { blind.map(|member| member.breaks).sum() } else { 0 }
    }

    /// The largest share of one class among the examples: no attack that may turn every image into
    /// every other leaves more than that. `None` where the classes are not known.
    pub fn largest_class(&self) -> Option<f64> {
        let all: u64 = self.labels.iter().sum();
        let largest = self.labels.iter().max().filter(|_| all > 0)?;
        Some(*largest as f64 / all as f64)
    }
}

impl MemberTrust {
    /// Whether it uses no gradients.
    pub fn is_black_box(&self) -> bool {
        self.name == "square"
    }

    /// Whether a break at `step` came in the last tenth of the steps.
    pub fn is_late(&self, step: u64) -> bool {
        self.steps >= 10 && step * 10 > self.steps * 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(breaks: u64, late: u64) -> Trust {
        let member = |name: &str, breaks| MemberTrust {
            name: name.into(),
            steps: 40,
            restarts: 1,
            breaks,
            late,
            ..MemberTrust::default()
        };
        Trust {
            attacked: 10,
            gradients: 9,
            zero_gradients: 1,
            labels: vec![4, 6],
            members: vec![member("pgd", breaks), member("square", 2)],
            ..Trust::default()
        }
    }

    #[test]
    fn shards_add_up_and_flags_stay_up() {
        let mut sum = Trust::default();
        sum.merge(&shard(3, 1));
        sum.merge(&Trust { softmax_outputs: true, ..shard(4, 0) });
        assert_eq!((sum.attacked, sum.gradients, sum.zero_gradients), (20, 18, 2));
        assert_eq!((sum.breaks(), sum.black_box_only(), sum.members[0].late), (11, 4, 1));
        assert!(sum.softmax_outputs && !sum.random_outputs);
        assert_eq!((sum.labels.as_slice(), sum.largest_class()), (&[8, 12][..], Some(0.6)));
        assert_eq!(Trust::default().largest_class(), None);
    }

    #[test]
    fn square_alone_is_no_sign_of_masking() {
        let mut alone = shard(0, 0);
        alone.members.remove(0);
        assert_eq!((alone.breaks(), alone.black_box_only()), (2, 0));
    }

    #[test]
    fn the_last_tenth_begins_after_nine_tenths() {
        let member = |steps| MemberTrust { steps, ..MemberTrust::default() };
        assert!(!member(40).is_late(36) && member(40).is_late(37) && member(40).is_late(40));
        assert!(!member(5).is_late(5), "five steps have no last tenth");
    }
}
