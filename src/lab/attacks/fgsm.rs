//! The fast gradient sign method (Goodfellow et al., arXiv 1412.6572), and its twins in L2 and L1.

use super::flight::{Attack, Survey, Tile};
use super::gradient::Slope;
use tch::{Device, Kind, Tensor};

/// One step of length epsilon along the clean image's gradient.
///
/// That gradient is the same for every epsilon, so it is taken once per example and kept.
pub struct Fgsm {
    /// `[slots, channels, height, width]`: the step of length 1.
    directions: Tensor,
}

impl Fgsm {
    pub fn new(slots: i64, shape: [i64; 3], device: Device) -> Fgsm {
        let [channels, height, width] = shape;
        Fgsm { directions: Tensor::zeros([slots, channels, height, width], (Kind::Float, device)) }
    }
}

impl Attack for Fgsm {
    fn climbs(&self) -> u32 {
        1
    }

    fn steps(&self) -> u32 {
        0
    }

    fn survey(&self) -> Survey {
        Survey::Gradient
    }

    fn surveyed(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) {
        let directions = tile.ball.direction(&tile.points, &slope.gradient);
        let _ = self.directions.index_copy_(0, &tile.pick(&tile.slots, rows), &tile.pick(&directions, rows));
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        let directions = self.directions.index_select(0, &tile.slots);
        (&tile.origins + &tile.ball.radius * directions).clamp(0.0, 1.0)
    }

    fn advance(&mut self, _tile: &Tile, _rows: &[usize], _slope: &Slope) -> Tensor {
        unreachable!("FGSM asks for no gradient after the survey")
    }
}
