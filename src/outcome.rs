//! Outcomes: what an evaluation found, and why merging them is safe.
//!
//! An adversarial example found at one epsilon lies inside every larger ball too. So all that is
//! known about one test example is a *level*: the position of the smallest epsilon of the grid at
//! which it was broken. Levels form a lattice under `min`; merging over attacks, restarts, shards
//! and repeated attempts is commutative and idempotent, and every curve falls monotonically.

use crate::spec::Search;
use serde::{Deserialize, Serialize};

/// Position in an ascending grid of positive epsilons `e_1 < ... < e_K` at which an example breaks:
/// 0 = already misclassified without attack, k = broken from `e_k` on, K + 1 = never broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u16);

impl Level {
    /// Misclassified without any attack.
    pub const CLEAN: Level = Level(0);
    /// Not evaluated (yet). Larger than every real level, so `min` ignores it.
    pub const UNKNOWN: Level = Level(u16::MAX);

    /// The level of an example that withstood all `epsilons` epsilons.
    pub fn unbroken(epsilons: usize) -> Level {
        Level(u16::try_from(epsilons + 1).expect("an epsilon grid has at most 65,000 points"))
    }

    /// Whether the example still stands at grid position `position` (0 = clean, k = `e_k`).
    pub fn survives(self, position: usize) -> bool {
        self != Level::UNKNOWN && usize::from(self.0) > position
    }

    pub fn is_known(self) -> bool {
        self != Level::UNKNOWN
    }
}

/// Merges `other` into `into`, example by example, by `min`.
///
/// # Panics
/// When the lengths differ: both must speak of the same examples.
pub fn merge(into: &mut [Level], other: &[Level]) {
    assert_eq!(into.len(), other.len(), "outcomes of different examples cannot be merged");
    for (a, b) in into.iter_mut().zip(other) {
        *a = (*a).min(*b);
    }
}

/// An earlier answer to the same question over another epsilon grid: the same model, attack,
/// examples and random streams. It lets an edited sweep attack only the epsilons that are new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Ascending, positive.
    pub epsilons: Vec<f64>,
    /// One per example of the shard.
    pub levels: Vec<Level>,
}

/// What an earlier answer says about one example at one epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An adversarial example is known at this epsilon or a smaller one.
    Broken,
    /// This very attack was tried at this very epsilon and failed.
    Withstood,
    /// Nothing is certain: a failure at a larger epsilon proves nothing about a smaller one.
    Open,
}

impl Known {
    /// The verdict on `example` (position in the shard) at `epsilon` (0 = without attack), when the
    /// answer was found by `search`.
    ///
    /// A search decides what its levels certify. All of them found an adversarial example at the
    /// level. Ascending and exhaustive search also tried every smaller epsilon of their grid;
    /// bisection leapt over most of them, and is sure to have tried only the one just below.
    pub fn verdict(&self, search: Search, example: usize, epsilon: f64) -> Verdict {
        let level = self.levels[example];
        if !level.is_known() {
            return Verdict::Open;
        }
        if level == Level::CLEAN {
            return Verdict::Broken;
        }
        let position = usize::from(level.0);
        let below = &self.epsilons[..position - 1];
        let tried = match search {
            Search::Ascending | Search::Exhaustive => below,
            Search::Bisect => &below[below.len().saturating_sub(1)..],
        };
        match self.epsilons.get(position - 1) {
            Some(&broken_from) if epsilon >= broken_from => Verdict::Broken,
            _ if epsilon == 0.0 || tried.contains(&epsilon) => Verdict::Withstood,
            _ => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_answer_is_used_only_where_it_is_certain() {
        let known = Known { epsilons: vec![0.1, 0.2, 0.4], levels: vec![Level(2), Level(4), Level(0), Level::UNKNOWN] };
        let verdicts = |search, example| [0.0, 0.1, 0.15, 0.2, 0.3, 0.4].map(|e| known.verdict(search, example, e));
        use Verdict::*;
        for search in [Search::Ascending, Search::Exhaustive] {
            assert_eq!(verdicts(search, 0), [Withstood, Withstood, Open, Broken, Broken, Broken]);
            assert_eq!(verdicts(search, 1), [Withstood, Withstood, Open, Withstood, Open, Withstood]);
        }
        assert_eq!(verdicts(Search::Bisect, 0), [Withstood, Withstood, Open, Broken, Broken, Broken]);
        assert_eq!(verdicts(Search::Bisect, 1), [Withstood, Open, Open, Open, Open, Withstood]);
        for search in [Search::Ascending, Search::Bisect, Search::Exhaustive] {
            assert_eq!(verdicts(search, 2), [Broken; 6]);
            assert_eq!(verdicts(search, 3), [Open; 6]);
        }
    }

    #[test]
    fn an_example_broken_at_the_smallest_epsilon_certifies_only_the_clean_image() {
        let known = Known { epsilons: vec![0.1, 0.2], levels: vec![Level(1)] };
        let verdicts = |search| [0.0, 0.05, 0.1].map(|e| known.verdict(search, 0, e));
        use Verdict::*;
        assert_eq!(verdicts(Search::Bisect), [Withstood, Open, Broken]);
        assert_eq!(verdicts(Search::Ascending), [Withstood, Open, Broken]);
    }

    #[test]
    fn merging_takes_the_smallest_level_and_ignores_the_unknown() {
        let mut levels = vec![Level(3), Level::UNKNOWN, Level(0)];
        merge(&mut levels, &[Level(2), Level(5), Level::UNKNOWN]);
        assert_eq!(levels, [Level(2), Level(5), Level(0)]);
    }

    #[test]
    fn an_example_survives_below_its_level_only() {
        assert!(Level(2).survives(1) && !Level(2).survives(2));
        assert!(!Level::CLEAN.survives(0));
        assert!(!Level::UNKNOWN.survives(0));
        assert!(Level::unbroken(3).survives(3));
    }
}
