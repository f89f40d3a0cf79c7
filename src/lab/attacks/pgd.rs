//! Projected gradient ascent on the cross-entropy (Madry et al., arXiv 1706.06083).

use super::ball::random_offset;
use super::flight::{Attack, Tile};
use super::gradient::Slope;
use crate::lab::data::upload;
use crate::lab::streams::{Key, Stream};
use epsweep::spec::Norm;
use tch::Tensor;

/// `steps` steps from a start drawn uniformly from the ball, `restarts` times over.
pub struct Pgd {
    pub steps: u32,
    /// Pixel units; 2.5 epsilon / steps when absent.
    pub step: Option<f64>,
    pub restarts: u32,
    /// Extended by example, epsilon and restart, and by nothing else: a start does not depend on
    /// the batch, the shard, or the other epsilons of the grid.
    pub starts: Key,
}

/// The field's default step size, as a multiple of epsilon / steps.
const REACH: f64 = 2.5;

/// Step sizes in pixel units, to broadcast over images; `radius` is `[n, 1, 1, 1]`.
pub fn step_sizes(step: Option<f64>, steps: u32, radius: &Tensor) -> Tensor {
    match step {
        Some(step) => radius.full_like(step),
        None => radius * (REACH / f64::from(steps)),
    }
}

/// The clean images of `tile`, each moved by epsilon times an offset that `draw` makes from the
/// flight's own stream, cut to the box.
pub fn random_starts(tile: &Tile, starts: &Key, draw: fn(Norm, &mut Stream, usize) -> Vec<f32>) -> Tensor {
    let pixels = tile.pixels();
    let mut offsets = Vec::with_capacity(tile.rows.len() * pixels);
    for row in tile.rows {
        let key = starts.clone().number(row.test_index).number(row.epsilon.to_bits());
        let mut stream = key.number(u64::from(row.climb)).stream();
        offsets.extend(draw(tile.ball.norm, &mut stream, pixels));
    }
    let offsets = upload(&Tensor::from_slice(&offsets).view_as(&tile.origins), tile.origins.device());
    (&tile.origins + &tile.ball.radius * offsets).clamp(0.0, 1.0)
}

impl Attack for Pgd {
    fn climbs(&self) -> u32 {
        self.restarts
    }

    fn steps(&self) -> u32 {
        self.steps
    }

    fn starts_anywhere(&self, climb: u32) -> bool {
        climb == 0
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        random_starts(tile, &self.starts, random_offset)
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let step = step_sizes(self.step, self.steps, &tile.ball.radius);
        tile.pick(&tile.ball.ascend(&tile.origins, &tile.points, &slope.gradient, &step), rows)
    }
}
