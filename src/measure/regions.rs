//! Answers about class regions: what a network names on a plane of images.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most points along a side of a map.
pub const MAX_POINTS: u32 = 256;

/// The maps of one checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The plane through the clean images first; then, if asked for, that through the attacked ones.
    pub maps: Vec<Map>,
}

/// A square of a plane through the space of images, seen on a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// The plane goes through the images as an attack left them.
    pub attacked: bool,
    /// Points along each side, at the middles of equal cells.
    pub points: u32,
    /// Length of a side: Euclidean distance between images, pixel units of `[0,1]`.
    pub side: f64,
    /// By rows from the top, each from the left: the class that is named.
    pub classes: Vec<u8>,
    /// Its softmax probability, times 255.
    pub confidence: Vec<u8>,
    /// The images that span the plane; none where principal components do.
    pub marks: Vec<Mark>,
}

/// An image on a map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Position in the test set.
    pub example: u32,
    pub label: u8,
    pub predicted: u8,
    /// From the left and from the top, as shares of the side.
    pub at: [f64; 2],
}

/// A map in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Different classes that are named.
    pub classes: u32,
    /// Share of neighbouring points, to the right or below, that are named differently.
    pub boundary: f64,
    /// Mean probability of the class that is named.
    pub confidence: f64,
    /// Share of points at which that is below [`SURE`]: how wide the boundaries are.
    pub unsure: f64,
    /// Images that span the plane and are named right.
    pub right: u32,
}

/// A network that is less confident than this is unsure.
pub const SURE: f64 = 0.9;

impl Map {
    pub fn summary(&self) -> Summary {
        let side = self.points as usize;
        let count = (side * side) as f64;
        let differs = |a: usize, b: usize| usize::from(self.classes[a] != self.classes[b]);
        let across = (0..side * side).filter(|at| at % side + 1 < side).map(|at| differs(at, at + 1)).sum::<usize>();
        let down = (0..side * (side - 1)).map(|at| differs(at, at + side)).sum::<usize>();
        let confidence = || self.confidence.iter().map(|&c| f64::from(c) / 255.0);
        Summary {
            classes: self.classes.iter().collect::<BTreeSet<_>>().len() as u32,
            boundary: (across + down) as f64 / (2 * side * (side - 1)).max(1) as f64,
            confidence: confidence().sum::<f64>() / count,
            unsure: confidence().filter(|&c| c < SURE).count() as f64 / count,
            right: self.marks.iter().filter(|mark| mark.predicted == mark.label).count() as u32,
        }
    }

    fn check(&self, points: u32) -> Result<(), String> {
        let count = (self.points as usize).pow(2);
        if self.points != points || self.classes.len() != count || self.confidence.len() != count {
            return Err(format!("a map of {points} x {points} points was asked for"));
        }
        let inside = |mark: &Mark| mark.at.iter().all(|at| (0.0..=1.0).contains(at));
        if !(self.side.is_finite() && self.side > 0.0) || self.marks.len() > 3 || !self.marks.iter().all(inside) {
            return Err("a map that cannot be".into());
        }
        Ok(())
    }
}

impl Answer {
    /// Whether it can be an answer for maps of so many points a side.
    pub(super) fn check(&self, points: u32) -> Result<(), String> {
        if self.maps.is_empty() || self.maps.len() > 2 {
            return Err(format!("expected one map or two, found {}", self.maps.len()));
        }
        self.maps.iter().try_for_each(|map| map.check(points))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left half class 1 and sure, right half class 2 and unsure.
    fn map() -> Map {
        Map {
            attacked: false,
            points: 4,
            side: 2.0,
            classes: [1, 1, 2, 2].repeat(4),
            confidence: [255, 255, 102, 102].repeat(4),
            marks: vec![
                Mark { example: 3, label: 1, predicted: 1, at: [0.2, 0.5] },
                Mark { example: 4, label: 1, predicted: 2, at: [0.8, 0.5] },
            ],
        }
    }

    #[test]
    fn a_map_is_summed_up() {
        let Summary { classes, boundary, confidence, unsure, right } = map().summary();
        assert_eq!((classes, right), (2, 1));
        assert!((boundary - 4.0 / 24.0).abs() < 1e-12 && (unsure - 0.5).abs() < 1e-12);
        assert!((confidence - 0.7).abs() < 1e-12, "{confidence}");
    }

    #[test]
    fn maps_that_cannot_be_are_refused() {
        let answer = |change: &dyn Fn(&mut Map)| {
            let mut map = map();
            change(&mut map);
            Answer { maps: vec![map] }.check(4)
        };
        assert_eq!(answer(&|_| {}), Ok(()));
        assert!(answer(&|map| map.points = 3).is_err());
        assert!(answer(&|map| map.side = f64::NAN).is_err());
        assert!(answer(&|map| map.marks[0].at[1] = 1.5).is_err());
        assert!(answer(&|map| map.classes.truncate(3)).is_err());
        assert!(Answer::default().check(4).is_err());
    }
}
