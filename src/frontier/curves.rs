//! Robustness curves: the fraction of test examples that still stand, as epsilon grows.

use super::intervals::{ClopperPearson, Interval};
use super::results::{CheckpointResults, Results};
use crate::outcome::{Level, merge};

/// The name of the worst case over all attacks in the column `attack`.
pub const ALL: &str = "all";

/// Robust accuracy over epsilon, of one checkpoint under one attack or under all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Position in [`Results::trials`].
    pub trial: usize,
    /// Position in that trial's checkpoints.
    pub checkpoint: usize,
    /// Position in [`Results::attacks`]; `None` is the worst case over all.
    pub attack: Option<usize>,
    /// One per [`Results::epsilons`], ascending; accuracy never rises.
    pub points: Vec<CurvePoint>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// In pixel units of `[0,1]`.
    pub epsilon: f64,
    /// Examples whose outcome is known (under `all`: known to every attack), at least 1.
    pub n: usize,
    /// How many of them still stand.
    pub robust: usize,
    /// Clopper-Pearson, 95 %: the luck of the finite test set, for these very weights.
    pub interval: Interval,
}

impl CurvePoint {
    pub fn accuracy(&self) -> f64 {
        self.robust as f64 / self.n as f64
    }
}

impl Curve {
    pub fn attack_name<'a>(&self, results: &'a Results) -> &'a str {
        self.attack.map_or(ALL, |a| &results.attacks[a])
    }
}

/// Every curve of a sweep: trials in their order, checkpoints, then attacks with `all` last.
/// Where no example is known yet there is no curve.
pub fn curves(results: &Results) -> Vec<Curve> {
    let mut intervals = ClopperPearson::default();
    let mut curves = Vec::new();
    for (t, trial) in results.trials.iter().enumerate() {
        for (c, checkpoint) in trial.checkpoints.iter().enumerate() {
            let mut push = |attack, levels: &[Level]| {
                let points = points(levels, &results.epsilons, &mut intervals);
                if !points.is_empty() {
                    curves.push(Curve { trial: t, checkpoint: c, attack, points });
                }
            };
            for (a, levels) in checkpoint.levels.iter().enumerate() {
                push(Some(a), levels);
            }
            push(None, &worst_case(results, checkpoint));
        }
    }
    curves
}

/// The level of each example under all attacks together: their minimum, and
/// [`Level::UNKNOWN`] as soon as one attack has not answered, because it might have been the one.
pub fn worst_case(results: &Results, checkpoint: &CheckpointResults) -> Vec<Level> {
    let Some((first, others)) = checkpoint.levels.split_first() else { return Vec::new() };
    if checkpoint.levels.len() < results.attacks.len() {
        return vec![Level::UNKNOWN; first.len()];
    }
    let mut levels = first.clone();
    let mut open: Vec<bool> = first.iter().map(|l| !l.is_known()).collect();
    for other in others {
        merge(&mut levels, other);
        open.iter_mut().zip(other).for_each(|(open, l)| *open |= !l.is_known());
    }
    for (level, open) in levels.iter_mut().zip(open) {
        if open {
            *level = Level::UNKNOWN;
        }
    }
    levels
}

/// Position in the grid of positive epsilons that each epsilon stands for: 0 for clean.
pub(super) fn positions(epsilons: &[f64]) -> impl Iterator<Item = (usize, f64)> + '_ {
    let zeros = epsilons.partition_point(|&e| e <= 0.0);
    epsilons.iter().enumerate().map(move |(i, &e)| ((i + 1).saturating_sub(zeros), e))
}

/// How many examples stand at each position: `[clean, e_1, ..., e_K]`, of the known ones.
pub(crate) fn standing(levels: &[Level], positive: usize) -> Vec<usize> {
    let mut count = vec![0usize; positive + 2];
    for level in levels.iter().filter(|l| l.is_known()) {
        count[usize::from(level.0).min(positive + 1)] += 1;
    }
    // An example of level l stands at all positions below l.
    let mut standing = vec![0; positive + 1];
    let mut sum = 0;
    for position in (0..=positive).rev() {
        sum += count[position + 1];
        standing[position] = sum;
    }
    standing
}

pub(super) fn points(levels: &[Level], epsilons: &[f64], intervals: &mut ClopperPearson) -> Vec<CurvePoint> {
    let n = levels.iter().filter(|l| l.is_known()).count();
    if n == 0 {
        return Vec::new();
    }
    let positive = epsilons.len() - epsilons.partition_point(|&e| e <= 0.0);
    let standing = standing(levels, positive);
    positions(epsilons)
        .map(|(position, epsilon)| {
            let robust = standing[position];
            CurvePoint { epsilon, n, robust, interval: intervals.of(robust, n) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::synthetic::one_trial;
    use proptest::prelude::*;

    const U: Level = Level::UNKNOWN;

    #[test]
    fn counts_and_worst_case_by_hand() {
        let results = one_trial(
            &[0.0, 0.1, 0.2],
            &[&[Level(0), Level(1), Level(3), U], &[Level(0), Level(3), Level(2), Level(2)]],
        );
        let curves = curves(&results);
        let seen: Vec<(Option<usize>, usize, Vec<usize>)> =
            curves.iter().map(|c| (c.attack, c.points[0].n, c.points.iter().map(|p| p.robust).collect())).collect();
        assert_eq!(
            seen,
            [(Some(0), 3, vec![2, 1, 1]), (Some(1), 4, vec![3, 3, 1]), (None, 3, vec![2, 1, 0])],
            "an example that one attack has not answered does not count under all"
        );
        assert_eq!(curves[2].attack_name(&results), "all");
    }

    #[test]
    fn a_grid_without_zero_starts_at_its_first_epsilon() {
        let results = one_trial(&[0.1, 0.2], &[&[Level(0), Level(1), Level(2), Level(3)]]);
        let robust: Vec<usize> = curves(&results)[0].points.iter().map(|p| p.robust).collect();
        assert_eq!(robust, [2, 1]);
    }

    #[test]
    fn where_nothing_is_known_there_is_no_curve() {
        let results = one_trial(&[0.0, 0.1], &[&[U, U], &[Level(1), U]]);
        let curves = curves(&results);
        assert_eq!(curves.len(), 1);
        assert_eq!(curves[0].attack, Some(1));
    }

    fn level() -> impl Strategy<Value = Level> {
        prop_oneof![1 => Just(U), 9 => (0u16..=5).prop_map(Level)]
    }

    proptest! {
        #[test]
        fn curves_fall_and_all_lies_below_every_attack_on_the_same_examples(
            a in prop::collection::vec(level(), 30),
            b in prop::collection::vec(level(), 30),
        ) {
            let results = one_trial(&[0.0, 0.1, 0.2, 0.3, 0.4], &[&a, &b]);
            for curve in curves(&results) {
                prop_assert!(curve.points.windows(2).all(|p| p[0].robust >= p[1].robust && p[0].n == p[1].n));
                prop_assert!(curve.points.iter().all(|p| p.robust <= p.n));
            }
            let all = worst_case(&results, &results.trials[0].checkpoints[0]);
            for (i, level) in all.iter().enumerate() {
                prop_assert_eq!(level.is_known(), a[i].is_known() && b[i].is_known());
                prop_assert!(!level.is_known() || *level <= a[i] && *level <= b[i]);
            }
        }
    }
}
