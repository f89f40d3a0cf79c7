//! What a training run says about a checkpoint besides its weights.

use serde::{Deserialize, Serialize};

/// Travels with the checkpoint as JSON; what does not apply is left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The epoch whose weights these are, where early stopping chose it for the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Accuracy under PGD on the examples that early stopping held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Accuracy under one step on a few training examples, where training can collapse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fgsm_accuracy: Option<f64>,
    /// Accuracy under PGD on the same examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgd_accuracy: Option<f64>,
    /// The first epoch, up to this one, after which PGD undid what withstands one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<u32>,
}

impl Facts {
    pub fn is_empty(&self) -> bool {
        *self == Facts::default()
    }

    /// Whether all of it can be true of a run of `epochs`.
    pub fn is_sound(&self, epochs: u32) -> bool {
        let shares = [self.validation_accuracy, self.fgsm_accuracy, self.pgd_accuracy];
        let at = [self.epoch, self.collapsed];
        shares.iter().flatten().all(|share| (0.0..=1.0).contains(share))
            && at.iter().flatten().all(|epoch| (1..=epochs).contains(epoch))
    }

    /// What a reader of the results must know; empty where there is nothing.
    pub fn note(&self) -> String {
        self.collapsed.map(|epoch| format!("collapsed in epoch {epoch}")).unwrap_or_default()
    }
}

/// Whether single-step training has collapsed (catastrophic overfitting, arXiv 2001.03994): PGD leaves
/// less than a quarter of the accuracy that one step leaves, and the gap could not be chance on 64
/// examples. In a sound network the two are far closer; in a collapsed one PGD leaves next to nothing.
pub fn has_collapsed(fgsm_accuracy: f64, pgd_accuracy: f64) -> bool {
    pgd_accuracy < fgsm_accuracy / 4.0 && fgsm_accuracy - pgd_accuracy > 0.25
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_is_a_wide_gap_and_not_a_weak_network() {
        for (fgsm, pgd, expected) in
            [(0.95, 0.0, true), (0.6, 0.5, false), (0.3, 0.0, true), (0.2, 0.0, false), (0.5, 0.22, false)]
        {
            assert_eq!(has_collapsed(fgsm, pgd), expected, "{fgsm} {pgd}");
        }
    }

    #[test]
    fn facts_are_read_back_and_judged() {
        let facts = Facts { epoch: Some(3), pgd_accuracy: Some(0.25), collapsed: Some(2), ..Facts::default() };
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(json, r#"{"epoch":3,"pgd_accuracy":0.25,"collapsed":2}"#);
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
        assert_eq!(serde_json::from_str::<Facts>("{}").unwrap(), Facts::default());
        assert!(facts.is_sound(3) && !facts.is_sound(2));
        assert!(!Facts { pgd_accuracy: Some(1.5), ..Facts::default() }.is_sound(3));
        assert_eq!(facts.note(), "collapsed in epoch 2");
    }
}
