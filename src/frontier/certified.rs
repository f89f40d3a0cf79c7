//! Lower bounds: what is certified, beside what was broken.

use super::curves::{CurvePoint, points, worst_case};
use super::intervals::ClopperPearson;
use super::results::{CheckpointResults, Results};
use crate::outcome::Level;

/// Certified accuracy over epsilon, of one checkpoint under one certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedCurve {
    /// Position in [`Results::trials`].
    pub trial: usize,
    /// Position in that trial's checkpoints.
    pub checkpoint: usize,
    /// Position in [`Results::certificates`].
    pub certificate: usize,
    /// One per [`Results::epsilons`], ascending; `robust` counts the certified examples.
    pub points: Vec<CurvePoint>,
}

/// An example that an attack broke where a certificate says that nothing can. One of the two is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    pub trial: usize,
    pub checkpoint: usize,
    pub certificate: usize,
    /// Position in the evaluated part of the test set.
    pub example: usize,
}

/// Every certified curve of a sweep, in the order of trials, checkpoints and certificates.
pub fn certified(results: &Results) -> Vec<CertifiedCurve> {
    let mut intervals = ClopperPearson::default();
    let mut curves = Vec::new();
    for (trial, checkpoint, found) in checkpoints(results) {
        for (certificate, levels) in found.certified.iter().enumerate() {
            let points = points(levels, &results.epsilons, &mut intervals);
            if !points.is_empty() {
                curves.push(CertifiedCurve { trial, checkpoint, certificate, points });
            }
        }
    }
    curves
}

/// Where the deterministic certificates contradict the attacks: an example certified up to an epsilon
/// at which it was broken, or at a larger one. There is none unless the program is wrong.
///
/// Smoothing is left out: it certifies another network, and only probably.
pub fn contradictions(results: &Results) -> Vec<Contradiction> {
    let mut found = Vec::new();
    for (trial, checkpoint, of) in checkpoints(results) {
        let broken = least_broken(results, of);
        for (certificate, levels) in of.certified.iter().enumerate() {
            if !results.certificates[certificate].deterministic {
                continue;
            }
            // Certified at all positions below the one level, broken from the other on.
            let both = levels.iter().zip(&broken).enumerate();
            let wrong = both.filter(|(_, (certified, broken))| certified.is_known() && broken < certified);
            found.extend(wrong.map(|(example, _)| Contradiction { trial, checkpoint, certificate, example }));
        }
    }
    found
}

/// The level of each example under the attacks that have answered, be they all or not.
fn least_broken(results: &Results, checkpoint: &CheckpointResults) -> Vec<Level> {
    let mut least = worst_case(results, checkpoint);
    for levels in &checkpoint.levels {
        crate::outcome::merge(&mut least, levels);
    }
    least
}

fn checkpoints(results: &Results) -> impl Iterator<Item = (usize, usize, &CheckpointResults)> {
    let trials = results.trials.iter().enumerate();
    trials.flat_map(|(t, trial)| trial.checkpoints.iter().enumerate().map(move |(c, checkpoint)| (t, c, checkpoint)))
}

#[cfg(test)]
mod tests {
    use super::super::results::CertificateName;
    use super::super::synthetic::one_trial;
    use super::*;

    /// Four examples on the grid 0, 0.1, 0.2 under one attack and two certificates.
    fn with(certified: [[u16; 4]; 2]) -> Results {
        let mut results = one_trial(&[0.0, 0.1, 0.2], &[&[Level(0), Level(1), Level(2), Level(3)]]);
        results.certificates = [("ibp", true), ("smoothing", false)]
            .map(|(name, deterministic)| CertificateName { name: name.into(), deterministic })
            .to_vec();
        let levels = certified.map(|levels| levels.map(|l| if l == 9 { Level::UNKNOWN } else { Level(l) }).to_vec());
        results.trials[0].checkpoints[0].certified = levels.to_vec();
        results
    }

    #[test]
    fn certified_examples_are_counted_below_their_level() {
        let curves = certified(&with([[0, 1, 2, 3], [0, 9, 9, 1]]));
        let counts: Vec<(usize, Vec<usize>)> =
            curves.iter().map(|c| (c.points[0].n, c.points.iter().map(|p| p.robust).collect())).collect();
        assert_eq!(counts, [(4, vec![3, 2, 1]), (2, vec![1, 0, 0])]);
    }

    #[test]
    fn a_certificate_may_reach_the_break_and_not_beyond() {
        assert_eq!(contradictions(&with([[0, 1, 2, 3], [0, 0, 0, 0]])), []);
        let examples = |results: &Results| contradictions(results).iter().map(|c| c.example).collect::<Vec<_>>();
        assert_eq!(examples(&with([[1, 1, 3, 3], [0, 0, 0, 0]])), [0, 2]);
        assert_eq!(examples(&with([[0, 9, 9, 9], [3, 3, 3, 3]])), [] as [usize; 0], "smoothing is of another network");
        let mut unfinished = with([[1, 1, 3, 3], [0, 0, 0, 0]]);
        unfinished.attacks.push("another".into());
        assert_eq!(examples(&unfinished), [0, 2], "what one attack broke is broken");
    }
}
