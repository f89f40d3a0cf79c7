//! FAB-T, the targeted Fast Adaptive Boundary attack (Croce and Hein, arXiv 1907.02044): looks for the
//! adversarial example nearest to the clean image, whatever the epsilon.
//!
//! Each step linearises the boundary between the true class and the target, projects the iterate
//! and the clean image onto that hyperplane within the box, steps a little beyond a mixture of
//! both, and, where that is misclassified, moves back towards the clean image.
//!
//! As in [`super::square`], all but the passes happens in plain numbers, one example at a time.

use super::apgd::targets;
use super::flight::{Attack, Need, Survey, Tile};
use super::gradient::{Slope, predictions, towards};
use super::hyperplane::{Hyperplane, length};
use epsweep::spec::Norm;
use tch::{Device, Kind, Tensor};

/// The largest weight of the clean image's projection in a step.
const LARGEST_PULL: f64 = 0.1;
/// Steps go this much further than the hyperplane.
const OVERSHOOT: f64 = 1.05;
/// How much of the way from the clean image is left after moving back.
const BACKWARD: f64 = 0.9;

/// `steps` steps towards each of `targets` classes, from the clean image. Two engine steps each: a
/// gradient at the iterate, then the logits of the candidate that follows from it.
pub struct Fab {
    pub steps: u32,
    pub targets: u32,
}

impl Attack for Fab {
    fn climbs(&self) -> u32 {
        self.targets
    }

    fn need(&self, step: u32) -> Need {
        match step {
            step if step >= 2 * self.steps => Need::Verdict,
            step if step % 2 == 0 => Need::Gradient,
            _ => Need::Logits,
        }
    }

    fn survey(&self) -> Survey {
        Survey::Ranking
    }

    fn any_radius(&self) -> bool {
        true
    }

    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        towards(logits, &tile.labels, &targets(tile, 1))
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        tile.origins.copy()
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
                step(&origin, &point, part(&gradients), f64::from(values[row]), tile.ball.norm)
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
        Tensor::from_slice(&next).view(size.as_slice()).to_device(tile.origins.device())
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

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1)).expect("numbers")
}
