//! FAB, the Fast Adaptive Boundary attack (Croce and Hein, arXiv 1907.02044), and FAB-T, which aims at
//! one class after the other: looks for the
//! adversarial example nearest to the clean image, whatever the epsilon.
//!
//! Each step linearises the boundary between the true class and another, projects the iterate
//! and the clean image onto that hyperplane within the box, steps a little beyond a mixture of
//! both, and, where that is misclassified, moves back towards the clean image.
//!
//! As in [`super::square`], all but the passes happens in plain numbers, one example at a time.

use super::apgd::targets;
use super::ball::surface_offset;
use super::flight::{Attack, Flight, Need, Survey, Tile};
use super::gradient::{Slope, predictions, towards};
use super::hyperplane::{Hyperplane, dual_length, length};
use super::l1::numbers;
use super::pgd::random_starts;
use super::thrift::{Check, TOWARDS_THE_BOUNDARY};
use crate::lab::data::upload;
use crate::lab::streams::Key;
use epsweep::spec::Norm;
use tch::{Device, Tensor};

/// The largest weight of the clean image's projection in a step.
const LARGEST_PULL: f64 = 0.1;
/// Steps go this much further than the hyperplane.
const OVERSHOOT: f64 = 1.05;
/// How much of the way from the clean image is left after moving back.
const BACKWARD: f64 = 0.9;

/// `steps` steps, `restarts` times over: towards each of `targets` classes in turn, or, without targets,
/// towards whichever boundary is nearest at each iterate. The first climb begins at the clean image, restarts
/// at half the probe's epsilon from it.
///
/// A step is several of the engine's: a gradient at the iterate for each class that comes into
/// question, then the logits of the candidate that follows.
pub struct Fab {
    steps: u32,
    restarts: u32,
    /// 0: the nearest class of all.
    targets: u32,
    /// Gradients per step.
    gradients: u32,
    /// Extended by example, epsilon and climb.
    starts: Key,
    /// The nearest boundary at the current iterate, by slot.
    nearest: Vec<Boundary>,
}

/// Where the linearised difference of two logits, `value + gradient . (x - point)`, vanishes.
#[derive(Debug, Clone, Default)]
struct Boundary {
    distance: f64,
    value: f64,
    gradient: Vec<f64>,
}

impl Fab {
    /// `targets` is 0 for the untargeted attack, which takes a gradient for every other class.
    pub fn new([steps, restarts, targets, classes]: [u32; 4], starts: Key, slots: i64) -> Fab {
        let gradients = if targets == 0 { classes - 1 } else { 1 };
        Fab { steps, restarts, targets, gradients, starts, nearest: vec![Boundary::default(); slots as usize] }
    }

    /// Takes note of the boundary that a gradient speaks of; the nearest one so far, when all are known.
    fn boundary(&mut self, flight: &Flight, value: f64, gradient: Vec<f64>, norm: Norm) -> Option<Boundary> {
        let part = flight.step % (self.gradients + 1);
        let distance = value.abs() / dual_length(&gradient, norm).max(1e-12);
        let nearest = &mut self.nearest[flight.slot as usize];
        if part == 0 || distance < nearest.distance {
            *nearest = Boundary { distance, value, gradient };
        }
        (part + 1 == self.gradients).then(|| std::mem::take(nearest))
    }
}

impl Attack for Fab {
    fn climbs(&self) -> u32 {
        self.restarts * self.targets.max(1)
    }

    fn steps(&self) -> u32 {
        self.steps * (self.gradients + 1)
    }

    fn need(&self, step: u32) -> Need {
        match step {
            step if step >= self.steps() => Need::Verdict,
            step if step % (self.gradients + 1) < self.gradients => Need::Gradient,
            _ => Need::Logits,
        }
    }

    fn survey(&self) -> Survey {
        Survey::Ranking
    }

    fn any_radius(&self) -> bool {
        true
    }

    fn patience(&self) -> &'static [Check] {
        if self.targets > 0 { &TOWARDS_THE_BOUNDARY } else { &[] }
    }

    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        if self.targets > 0 {
            return towards(logits, &tile.labels, &targets(tile, self.restarts));
        }
        let rank = |flight: &Flight| f64::from(1 + flight.step % (self.gradients + 1));
        towards(logits, &tile.labels, &tile.ranked(rank))
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        let half = tile.per_row(0.0, |flight| if flight.climb.is_multiple_of(self.restarts) { 0.0 } else { 0.5 });
        let away = random_starts(tile, &self.starts, surface_offset);
        &tile.origins + (away - &tile.origins) * half
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let pixels = tile.pixels();
        let (origins, points) = (numbers(&tile.origins), numbers(&tile.points));
        let at_iterate = slope.gradient.defined();
        let (values, gradients) =
            if at_iterate { (numbers(&slope.values), numbers(&slope.gradient)) } else { (Vec::new(), Vec::new()) };
        let named = predictions(&slope.logits);
        let labels = Vec::<i64>::try_from(tile.labels.to_device(Device::Cpu)).expect("labels are integers");
        let mut next = Vec::with_capacity(rows.len() * pixels);
        for &row in rows {
            let part =
                |all: &[f32]| -> Vec<f64> { all[row * pixels..][..pixels].iter().map(|&x| f64::from(x)).collect() };
            let (origin, point) = (part(&origins), part(&points));
            let moved = if at_iterate {
                let norm = tile.ball.norm;
                match self.boundary(&tile.rows[row], f64::from(values[row]), part(&gradients), norm) {
                    Some(nearest) => step(&origin, &point, nearest.gradient, nearest.value, norm),
                    None => point,
                }
            } else if named[row] != labels[row] {
                let back = |(&o, &p): (&f64, &f64)| o + (p - o) * BACKWARD;
                origin.iter().zip(&point).map(back).collect()
            } else {
                point
            };
            next.extend(moved.iter().map(|&x| x as f32));
        }
        let mut size = tile.origins.size();
        size[0] = rows.len() as i64;
        upload(&Tensor::from_slice(&next).view(size.as_slice()), tile.origins.device())
    }
}

/// The candidate that follows from an iterate with logit difference `value = z_t - z_y` and its
/// `gradient`; all vectors have one value per pixel, in pixel units.
pub fn step(origin: &[f64], point: &[f64], gradient: Vec<f64>, value: f64, norm: Norm) -> Vec<f64> {
    let offset = gradient.iter().zip(point).map(|(w, x)| w * x).sum::<f64>() - value;
    let plane = Hyperplane { normal: gradient, offset };
    let (from_point, from_origin) = (plane.project(point, norm), plane.project(origin, norm));
    let sizes = [&from_point, &from_origin].map(|change| length(change, norm).max(1e-8));
    let pull = (sizes[0] / (sizes[0] + sizes[1])).clamp(0.0, LARGEST_PULL);
    let mixed = |position: usize| {
        let own = point[position] + OVERSHOOT * from_point[position];
        let clean = origin[position] + OVERSHOOT * from_origin[position];
        (own * (1.0 - pull) + clean * pull).clamp(0.0, 1.0)
    };
    (0..point.len()).map(mixed).collect()
}
