//! Warm starts, for `evaluate: {warm_starts: true}`: the first climb of a probe begins where an earlier probe
//! of the same example ended, and not at random.
//!
//! The lead is the nearest verified adversarial example of any attack, pulled back into the ball; until there is one,
//! the last iterate of the attack that failed last. It is for `pgd`: `apgd` takes its first steps across the
//! whole ball, and was found to be weaker from a start near the boundary (docs/attacks.md). Where an earlier probe ended depends on the epsilons that
//! were asked for, so answers of such evaluations are never handed on to another grid
//! (`EvaluateQuestion::can_build_on`).

use super::flight::{Flight, Tile};
use tch::{Kind, Tensor};

/// What earlier probes left of each example in flight.
pub struct Warm {
    /// `[slots, channels, height, width]`.
    points: Tensor,
    leads: Vec<Lead>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lead {
    Nothing,
    /// The last iterate of a climb that failed.
    Failed,
    /// An adversarial example at this distance from its clean image.
    Broken(f64),
}

impl Warm {
    /// For iterates of the shape of `points`, `[slots, channels, height, width]`.
    pub fn new(points: &Tensor) -> Warm {
        let leads = vec![Lead::Nothing; points.size()[0] as usize];
        Warm { points: Tensor::zeros(points.size(), (Kind::Float, points.device())), leads }
    }

    /// Another example takes the slot.
    pub fn forget(&mut self, slot: i64) {
        self.leads[slot as usize] = Lead::Nothing;
    }

    /// `row` of `tile` is a verified adversarial example at `distance`.
    pub fn broke(&mut self, tile: &Tile, row: usize, distance: f64) {
        let slot = tile.slot(row);
        if !matches!(self.leads[slot], Lead::Broken(nearest) if nearest <= distance) {
            self.keep(tile, row, Lead::Broken(distance));
        }
    }

    /// `row` of `tile` is the last iterate of a climb that failed.
    pub fn failed(&mut self, tile: &Tile, row: usize) {
        if !matches!(self.leads[tile.slot(row)], Lead::Broken(_)) {
            self.keep(tile, row, Lead::Failed);
        }
    }

    fn keep(&mut self, tile: &Tile, row: usize, lead: Lead) {
        self.points.get(tile.slot(row) as i64).copy_(&tile.points.get(row as i64));
        self.leads[tile.slot(row)] = lead;
    }

    /// Whether there is somewhere to begin for `flight`.
    pub fn knows(&self, flight: &Flight) -> bool {
        self.leads[flight.slot as usize] != Lead::Nothing
    }

    /// Where the climbs of `tile` begin: inside ball and box. Padding included, since lengths are sums.
    pub fn starts(&self, tile: &Tile) -> Tensor {
        tile.ball.project(&tile.origins, &self.points.index_select(0, &tile.slots))
    }
}
