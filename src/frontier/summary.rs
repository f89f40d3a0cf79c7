//! One line per checkpoint: the numbers by which people compare models at a glance.

use super::curves::{standing, worst_case};
use super::intervals::{Interval, clopper_pearson};
use super::results::{CheckpointResults, Results};
use crate::outcome::Level;

/// What one checkpoint amounts to. Fields are empty where nothing is known yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    pub clean: Option<Clean>,
    /// Area under the robustness curve of the worst case over attacks, divided by the largest
    /// epsilon: the mean accuracy over [0, largest epsilon], by the trapezoid rule, between 0 and 1.
    pub area: Option<f64>,
    /// The smallest epsilon of the grid at which half of the examples or more are broken: 0 when
    /// the model misclassifies that many without attack, infinite when more than half stand to the end.
    pub median_break: Option<f64>,
}

/// Accuracy without attack, on the examples that any attack has looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clean {
    pub correct: usize,
    pub n: usize,
    /// Clopper-Pearson, 95 %.
    pub interval: Interval,
}

impl Clean {
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.n as f64
    }
}

/// The summary of one checkpoint of `results`.
pub fn summarise(results: &Results, checkpoint: &CheckpointResults) -> Summary {
    let epsilons = results.positive_epsilons();
    let all = worst_case(results, checkpoint);
    let n = all.iter().filter(|l| l.is_known()).count();
    let mut summary = Summary { clean: clean(checkpoint), ..Summary::default() };
    if n > 0 {
        let accuracy: Vec<f64> = standing(&all, epsilons.len()).iter().map(|&s| s as f64 / n as f64).collect();
        summary.area = area(&accuracy, epsilons);
        summary.median_break = Some(median_break(&accuracy, epsilons));
    }
    summary
}

/// Every attack starts from the same clean predictions, so one that has answered is enough.
fn clean(checkpoint: &CheckpointResults) -> Option<Clean> {
    let examples = checkpoint.levels.first().map_or(0, Vec::len);
    let best = (0..examples).map(|i| checkpoint.levels.iter().map(|l| l[i]).min().unwrap_or(Level::UNKNOWN));
    let (mut correct, mut n) = (0, 0);
    for level in best.filter(|l| l.is_known()) {
        n += 1;
        correct += usize::from(level != Level::CLEAN);
    }
    (n > 0).then(|| Clean { correct, n, interval: clopper_pearson(correct, n) })
}

/// `accuracy` is `[clean, at e_1, ..., at e_K]`. `None` without a positive epsilon.
pub fn area(accuracy: &[f64], epsilons: &[f64]) -> Option<f64> {
    let largest = *epsilons.last()?;
    let mut sum = 0.0;
    let mut before = 0.0;
    for (k, &epsilon) in epsilons.iter().enumerate() {
        sum += (epsilon - before) * 0.5 * (accuracy[k] + accuracy[k + 1]);
        before = epsilon;
    }
    Some(sum / largest)
}

/// `accuracy` is `[clean, at e_1, ..., at e_K]`.
pub fn median_break(accuracy: &[f64], epsilons: &[f64]) -> f64 {
    match accuracy.iter().position(|&a| a <= 0.5) {
        None => f64::INFINITY,
        Some(0) => 0.0,
        Some(k) => epsilons[k - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::synthetic::one_trial;

    fn of(epsilons: &[f64], levels: &[&[Level]]) -> Summary {
        let results = one_trial(epsilons, levels);
        summarise(&results, &results.trials[0].checkpoints[0])
    }

    #[test]
    fn by_hand() {
        let summary = of(&[0.0, 0.1, 0.3], &[&[Level(0), Level(2), Level(3), Level(3)]]);
        let clean = summary.clean.unwrap();
        assert_eq!((clean.correct, clean.n), (3, 4));
        // Accuracy 3/4, 3/4, 2/4 at 0, 0.1, 0.3.
        let area = (0.1 * 0.75 + 0.2 * 0.625) / 0.3;
        assert!((summary.area.unwrap() - area).abs() < 1e-12);
        assert_eq!(summary.median_break, Some(0.3));
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!(of(&[0.1], &[&[Level(0), Level(0)]]).median_break, Some(0.0));
        assert_eq!(of(&[0.1], &[&[Level(2), Level(2)]]).median_break, Some(f64::INFINITY));
        assert_eq!(of(&[0.0], &[&[Level(1)]]).area, None);
        assert_eq!(of(&[0.1], &[&[Level::UNKNOWN]]), Summary::default());
    }

    #[test]
    fn clean_accuracy_needs_one_attack_only() {
        let summary = of(&[0.1], &[&[Level(0), Level(1), Level::UNKNOWN], &[Level::UNKNOWN; 3]]);
        let clean = summary.clean.unwrap();
        assert_eq!((clean.correct, clean.n), (1, 2));
        assert_eq!(summary.area, None);
    }
}
