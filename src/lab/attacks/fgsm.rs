//! The fast gradient sign method (Goodfellow et al., arXiv 1412.6572), and its L2 twin.

use super::flight::{Attack, Need, Survey, Tile};
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

    fn need(&self, _step: u32) -> Need {
        Need::Verdict
    }

    fn survey(&self) -> Survey {
        Survey::Gradient
    }

    fn surveyed(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) {
        let directions = tile.ball.direction(&slope.gradient);
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
