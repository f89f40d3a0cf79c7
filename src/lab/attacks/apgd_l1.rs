//! Auto-PGD in L1 (Croce and Hein, arXiv 2103.01208): sparse steps, whose sparsity and length follow
//! the best point so far, through balls of three, two and one times epsilon.
//!
//! As in [`super::square`], all but the passes happens in plain numbers, one example at a time.

use super::apgd::objective;
use super::ball::surface_offset;
use super::flight::{Attack, Flight, Survey, Tile};
use super::gradient::Slope;
use super::l1::{numbers, project, sparse_step};
use crate::lab::data::upload;
use crate::lab::streams::Key;
use epsweep::spec::{AttackLoss, Norm};
use tch::Tensor;

/// Radii of the phases in epsilons, and the shares of the steps that the first two get.
const RADII: [f64; 3] = [3.0, 2.0, 1.0];
const EARLY_SHARE: f64 = 0.3;
/// A check after this share of a phase's steps.
const WINDOW: f64 = 0.04;
/// A step moves the pixels that the best point has moved, over this.
const SPARSER: f64 = 1.5;
/// The best point has become sparser when it moves less than this share of what it moved.
const SETTLED: f64 = 0.95;
/// Steps shrink by this factor, down to this share of the radius.
const SHORTER: f64 = 1.5;
const SHORTEST: f64 = 0.1;

/// As [`super::apgd::Apgd`], for balls of L1.
pub struct ApgdL1 {
    loss: AttackLoss,
    restarts: u32,
    targets: u32,
    samples: u32,
    /// Extended by example, epsilon and climb.
    starts: Key,
    phases: Vec<Phase>,
    hunts: Vec<Hunt>,
}

/// Part of a climb: the iterates from `first` to `first + steps` lie in a ball of `radius` epsilons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    pub first: u32,
    pub steps: u32,
    pub radius: f64,
}

/// How a climb goes; one per slot.
#[derive(Debug, Clone, Default)]
struct Hunt {
    /// In radii of the phase.
    step: f64,
    /// The share of the pixels that a step moves.
    share: f64,
    /// How many pixels the best point had moved at the last check.
    spread: usize,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f32,
}

impl ApgdL1 {
    /// `loss` must be defined for the number of classes, see [`super::apgd::defined`].
    pub fn new(
        loss: AttackLoss,
        [steps, restarts, targets]: [u32; 3],
        samples: u32,
        starts: Key,
        slots: i64,
    ) -> ApgdL1 {
        let targets = if loss == AttackLoss::DlrTargeted { targets } else { 1 };
        let hunts = vec![Hunt::default(); slots as usize];
        ApgdL1 { loss, restarts, targets, samples, starts, phases: phases(steps), hunts }
    }

    fn phase(&self, step: u32) -> usize {
        self.phases.iter().rposition(|phase| step >= phase.first).expect("the first phase begins at 0")
    }

    /// The next iterate of one example.
    fn next(&mut self, flight: &Flight, origin: &[f32], point: &[f32], gradient: &[f32], loss: f32) -> Vec<f32> {
        let current = self.phase(flight.step);
        let (phase, next) = (self.phases[current], self.phases.get(current + 1).copied());
        let done = flight.step - phase.first;
        let hunt = &mut self.hunts[flight.slot as usize];
        let radius = flight.epsilon * phase.radius;
        let back = if done == 0 {
            hunt.begin(origin, point, gradient, loss);
            false
        } else {
            hunt.note(point, gradient, loss);
            let window = ((WINDOW * f64::from(phase.steps)) as u32).max(1);
            done.is_multiple_of(window) && hunt.check(origin)
        };
        if let Some(next) = next.filter(|_| done == phase.steps) {
            return project(origin, &hunt.best, flight.epsilon * next.radius);
        }
        let (from, gradient) = if back { (&hunt.best[..], &hunt.best_gradient[..]) } else { (point, gradient) };
        let still = ((1.0 - hunt.share) * point.len() as f64).max(0.0) as usize;
        let moved = sparse_step(from, gradient, point.len().saturating_sub(still), hunt.step * radius);
        project(origin, &moved, radius)
    }
}

impl Hunt {
    fn begin(&mut self, origin: &[f32], point: &[f32], gradient: &[f32], loss: f32) {
        let spread = spread(point, origin);
        let share = spread as f64 / origin.len() as f64 / SPARSER;
        (self.best, self.best_gradient, self.best_loss) = (point.to_vec(), gradient.to_vec(), loss);
        (self.step, self.share, self.spread) = (1.0, share, spread);
    }

    fn note(&mut self, point: &[f32], gradient: &[f32], loss: f32) {
        if loss > self.best_loss {
            (self.best, self.best_gradient, self.best_loss) = (point.to_vec(), gradient.to_vec(), loss);
        }
    }

    /// Chooses sparsity and length of the steps anew; says whether to go back to the best point.
    fn check(&mut self, origin: &[f32]) -> bool {
        let spread = spread(&self.best, origin);
        let sparser = (spread as f64) < SETTLED * self.spread as f64;
        self.step = if sparser { 1.0 } else { (self.step / SHORTER).max(SHORTEST) };
        self.share = spread as f64 / origin.len() as f64 / SPARSER;
        self.spread = spread;
        sparser
    }
}

/// How many pixels differ.
fn spread(point: &[f32], origin: &[f32]) -> usize {
    point.iter().zip(origin).filter(|(p, o)| p != o).count()
}

/// The phases of a climb of `steps` steps: 30, 30 and 40 of 100.
pub fn phases(steps: u32) -> Vec<Phase> {
    // The last phase has a step at least.
    let early = ((EARLY_SHARE * f64::from(steps)).ceil() as u32).min((steps - 1) / 2);
    let mut first = 0;
    let mut phases = Vec::new();
    for (steps, radius) in [early, early, steps - 2 * early].into_iter().zip(RADII).filter(|(steps, _)| *steps > 0) {
        phases.push(Phase { first, steps, radius });
        // Its own start, and one iterate per step.
        first += steps + 1;
    }
    phases
}

impl Attack for ApgdL1 {
    fn climbs(&self) -> u32 {
        self.restarts * self.targets
    }

    fn steps(&self) -> u32 {
        let last = self.phases.last().expect("a climb has steps");
        last.first + last.steps
    }

    fn samples(&self) -> u32 {
        self.samples
    }

    fn survey(&self) -> Survey {
        if self.loss == AttackLoss::DlrTargeted { Survey::Ranking } else { Survey::Nothing }
    }

    fn strays(&self) -> bool {
        true
    }

    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        objective(self.loss, self.restarts, tile, logits)
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        let (origins, pixels) = (numbers(&tile.origins), tile.pixels());
        let mut starts = Vec::with_capacity(origins.len());
        for (row, flight) in tile.rows.iter().enumerate() {
            let origin = &origins[row * pixels..][..pixels];
            let key = self.starts.clone().number(flight.test_index).number(flight.epsilon.to_bits());
            let mut stream = key.number(u64::from(flight.climb)).stream();
            // Far outside, so that it is the projection that spreads the start over ball and box.
            let offset = surface_offset(Norm::L2, &mut stream, pixels);
            let scale = (pixels as f32).sqrt();
            let point: Vec<f32> = origin.iter().zip(&offset).map(|(x, d)| x + d * scale).collect();
            starts.extend(project(origin, &point, flight.epsilon * self.phases[0].radius));
        }
        upload(&Tensor::from_slice(&starts).view_as(&tile.origins), tile.origins.device())
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let losses = numbers(&slope.values);
        tile.map_rows(rows, [&tile.origins, &tile.points, &slope.gradient], |row, [origin, point, gradient]| {
            self.next(&tile.rows[row], origin, point, gradient, losses[row])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_the_papers() {
        let plain =
            |steps| phases(steps).iter().map(|phase| (phase.first, phase.steps, phase.radius)).collect::<Vec<_>>();
        assert_eq!(plain(100), [(0, 30, 3.0), (31, 30, 2.0), (62, 40, 1.0)]);
        assert_eq!(plain(1), [(0, 1, 1.0)]);
        for steps in 1..200 {
            assert_eq!(phases(steps).iter().map(|phase| phase.steps).sum::<u32>(), steps);
            assert_eq!(phases(steps).last().map(|phase| phase.radius), Some(1.0));
        }
    }
}
