//! The attack of Carlini and Wagner in L2 (arXiv 1608.04644): looks for the adversarial example nearest to
//! the clean image, whatever the epsilon.
//!
//! Images are written as `(tanh w + 1) / 2`, which keeps them in the box, and Adam lowers
//! `|x' - x|^2 + c max(z_y - max_{i != y} z_i, 0)` over `w`. A binary search over `c`, one climb for each,
//! looks for the smallest that still leads to an adversarial example.

use super::ddn::wrong;
use super::flight::{Attack, Flight, Tile};
use super::gradient::{Slope, best_other};
use super::l1::numbers;
use crate::lab::data::upload;
use tch::Tensor;

/// The first `c`, and what it grows by while none was large enough.
pub const FIRST_WEIGHT: f64 = 1e-3;
const GROWTH: f64 = 10.0;
/// Pixels at the border of the box would need an infinite `w`.
const INSIDE: f64 = 0.999_999;
/// Adam's constants.
const BETAS: [f64; 2] = [0.9, 0.999];
const ROOM: f64 = 1e-8;

/// `searches` climbs of `steps` steps, each from the clean image.
pub struct Cw {
    steps: u32,
    searches: u32,
    /// Adam's learning rate, in units of `w`.
    lr: f64,
    /// The first `c`.
    first_weight: f64,
    hunts: Vec<Hunt>,
}

/// The search of one example, by slot.
#[derive(Debug, Clone, Default)]
struct Hunt {
    weight: f64,
    /// The largest `c` that failed, and the smallest that succeeded.
    bounds: [f64; 2],
    /// Whether this climb has met an adversarial example.
    found: bool,
    /// The image where all climbs begin.
    start: Vec<f64>,
    w: Vec<f64>,
    moments: [Vec<f64>; 2],
}

impl Cw {
    /// `first_weight` is the `c` of the first climb, usually [`FIRST_WEIGHT`].
    pub fn new([steps, searches]: [u32; 2], lr: f64, first_weight: f64, slots: i64) -> Cw {
        Cw { steps, searches, lr, first_weight, hunts: vec![Hunt::default(); slots as usize] }
    }
}

impl Hunt {
    /// Chooses `c` for the next climb.
    fn begin(&mut self, flight: &Flight, first_weight: f64, origin: &[f32]) -> Vec<f32> {
        if flight.climb == 0 {
            (self.weight, self.bounds) = (first_weight, [0.0, f64::INFINITY]);
        } else {
            self.bounds[usize::from(self.found)] = self.weight;
            let [failed, enough] = self.bounds;
            self.weight = if enough.is_finite() { (failed + enough) / 2.0 } else { self.weight * GROWTH };
        }
        self.found = false;
        self.w = origin.iter().map(|&x| ((2.0 * f64::from(x) - 1.0) * INSIDE).atanh()).collect();
        self.start = self.w.iter().copied().map(image).collect();
        self.moments = [vec![0.0; origin.len()], vec![0.0; origin.len()]];
        self.start.iter().map(|&x| x as f32).collect()
    }

    /// One step of Adam; `gap` is `max z_i - z_y` with its `gradient`, `step` counts from 0.
    fn next(&mut self, step: u32, lr: f64, gap: f32, gradient: &[f32]) -> Vec<f32> {
        let corrections = BETAS.map(|beta| 1.0 - beta.powi(step as i32 + 1));
        let push = if gap < 0.0 { self.weight } else { 0.0 };
        for (i, &g) in gradient.iter().enumerate() {
            let (pixel, lean) = (image(self.w[i]), self.w[i].tanh());
            let slope = (2.0 * (pixel - self.start[i]) - push * f64::from(g)) * (1.0 - lean * lean) / 2.0;
            for (moment, (beta, part)) in self.moments.iter_mut().zip(BETAS.into_iter().zip([slope, slope * slope])) {
                moment[i] = beta * moment[i] + (1.0 - beta) * part;
            }
            let [first, second] = [0, 1].map(|k: usize| self.moments[k][i] / corrections[k]);
            self.w[i] -= lr * first / (second.sqrt() + ROOM);
        }
        self.w.iter().map(|&w| image(w) as f32).collect()
    }
}

fn image(w: f64) -> f64 {
    (w.tanh() + 1.0) / 2.0
}

impl Attack for Cw {
    fn climbs(&self) -> u32 {
        self.searches
    }

    fn steps(&self) -> u32 {
        self.steps
    }

    fn any_radius(&self) -> bool {
        true
    }

    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        best_other(logits, &tile.labels)
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        let (origins, pixels) = (numbers(&tile.origins), tile.pixels());
        let begin = |(row, flight): (usize, &Flight)| {
            self.hunts[flight.slot as usize].begin(flight, self.first_weight, &origins[row * pixels..][..pixels])
        };
        let starts: Vec<f32> = tile.rows.iter().enumerate().flat_map(begin).collect();
        upload(&Tensor::from_slice(&starts).view_as(&tile.origins), tile.origins.device())
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let (wrong, gaps) = (wrong(tile, slope), numbers(&slope.values));
        tile.map_rows(rows, [&tile.origins, &tile.points, &slope.gradient], |row, [_, _, gradient]| {
            let hunt = &mut self.hunts[tile.slot(row)];
            hunt.found |= wrong[row];
            hunt.next(tile.rows[row].step, self.lr, gaps[row], gradient)
        })
    }
}
