//! DDN, the decoupled direction and norm attack (Rony et al., arXiv 1811.09600): looks for the
//! adversarial example nearest to the clean image in L2, whatever the epsilon.
//!
//! Every iterate lies on a sphere around the clean image, which shrinks after an adversarial iterate and
//! grows after any other, while the direction follows the cross-entropy's gradient.

use super::flight::{Attack, Tile};
use super::gradient::{Slope, predictions};
use super::l1::numbers;
use crate::lab::data::upload;
use tch::{Device, Tensor};

/// The share of the sphere's radius that an iterate changes it by.
const GAMMA: f64 = 0.05;
/// The first radius, pixel units.
const FIRST_RADIUS: f64 = 1.0;
/// Lengths of the first step and of the last, with a cosine in between.
const STEPS: [f64; 2] = [1.0, 0.01];

/// `steps` steps from the clean image.
pub struct Ddn {
    steps: u32,
    /// Of the spheres, by slot.
    radii: Vec<f64>,
}

impl Ddn {
    pub fn new(steps: u32, slots: i64) -> Ddn {
        Ddn { steps, radii: vec![FIRST_RADIUS; slots as usize] }
    }

    /// The next iterate of one image; all vectors have one value per pixel.
    fn next(&mut self, slot: usize, step: u32, wrong: bool, [origin, point, gradient]: [&[f32]; 3]) -> Vec<f32> {
        let radius = &mut self.radii[slot];
        if step == 0 {
            *radius = FIRST_RADIUS;
        }
        // No image of the box is further away.
        let farthest = length(origin.iter().map(|&x| f64::from(x.max(1.0 - x))));
        *radius = (*radius * if wrong { 1.0 - GAMMA } else { 1.0 + GAMMA }).min(farthest);
        let turned = f64::from(step) / f64::from(self.steps) * std::f64::consts::PI;
        let stride = STEPS[1] + (STEPS[0] - STEPS[1]) * (1.0 + turned.cos()) / 2.0;
        let stride = stride / length(gradient.iter().map(|&g| f64::from(g))).max(f64::MIN_POSITIVE);
        let ahead = |i: usize| f64::from(point[i]) - f64::from(origin[i]) + stride * f64::from(gradient[i]);
        let offset: Vec<f64> = (0..point.len()).map(ahead).collect();
        let scale = *radius / length(offset.iter().copied()).max(f64::MIN_POSITIVE);
        origin.iter().zip(&offset).map(|(&x, d)| ((f64::from(x) + scale * d) as f32).clamp(0.0, 1.0)).collect()
    }
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

impl Attack for Ddn {
    fn climbs(&self) -> u32 {
        1
    }

    fn steps(&self) -> u32 {
        self.steps
    }

    fn any_radius(&self) -> bool {
        true
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        tile.origins.copy()
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let wrong = wrong(tile, slope);
        tile.map_rows(rows, [&tile.origins, &tile.points, &slope.gradient], |row, parts| {
            self.next(tile.slot(row), tile.rows[row].step, wrong[row], parts)
        })
    }
}

/// Which rows are misclassified.
pub fn wrong(tile: &Tile, slope: &Slope) -> Vec<bool> {
    let labels = Vec::<i64>::try_from(tile.labels.to_device(Device::Cpu)).expect("labels are integers");
    predictions(&slope.logits).iter().zip(labels).map(|(named, label)| *named != label).collect()
}

impl Tile<'_> {
    /// The next iterates of `rows`, each made in plain numbers from its parts of three tensors.
    pub fn map_rows(
        &self,
        rows: &[usize],
        from: [&Tensor; 3],
        mut make: impl FnMut(usize, [&[f32]; 3]) -> Vec<f32>,
    ) -> Tensor {
        let pixels = self.pixels();
        let all = from.map(numbers);
        let mut next = Vec::with_capacity(rows.len() * pixels);
        for &row in rows {
            next.extend(make(row, [&all[0], &all[1], &all[2]].map(|all| &all[row * pixels..][..pixels])));
        }
        let mut size = self.origins.size();
        size[0] = rows.len() as i64;
        upload(&Tensor::from_slice(&next).view(size.as_slice()), self.origins.device())
    }
}
