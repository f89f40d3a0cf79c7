//! Auto-PGD (Croce and Hein, arXiv 2003.01690): projected ascent with momentum that halves its step
//! size by itself, and on halving returns to the best point so far.

use super::ball::surface_offset;
use super::flight::{Attack, Survey, Tile};
use super::gradient::{Slope, difference_ratio, margin, targeted_difference_ratio};
use super::pgd::random_starts;
use super::thrift::{Check, TOWARDS_ONE_CLASS};
use crate::lab::data::upload;
use crate::lab::streams::Key;
use epsweep::spec::AttackLoss;
use tch::{Device, Kind, Tensor};

/// The share of the new step in an iterate; the rest carries on in the old direction.
const MOMENTUM: f64 = 0.75;
/// A window in which at most this share of the steps gained ends in a shorter step.
const GAINING: f64 = 0.75;
/// The first step, in epsilons.
const FIRST_STEP: f64 = 2.0;
/// Lengths of the windows between check points, as shares of the steps: the first, how much each is
/// shorter than the one before, and the last.
const WINDOWS: [f64; 3] = [0.22, 0.03, 0.06];

/// `steps` steps from a start drawn on the ball's surface, `restarts` times over, and towards
/// `targets` classes in turn if the loss has targets.
pub struct Apgd {
    loss: AttackLoss,
    steps: u32,
    restarts: u32,
    targets: u32,
    samples: u32,
    /// Extended by example, epsilon and climb.
    starts: Key,
    /// After how many steps the step size is reconsidered.
    checkpoints: Vec<u32>,
    /// `[slots, channels, height, width]` each: the iterate before, the best one, its gradient.
    before: Tensor,
    best: Tensor,
    best_gradient: Tensor,
    progress: Vec<Progress>,
}

/// How a climb goes; one per slot.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// In epsilons.
    step: f64,
    loss: f32,
    best: f32,
    /// The best loss at the last check point.
    best_then: f32,
    /// Steps of the current window that increased the loss.
    gains: u32,
    /// Whether the last check point halved the step.
    halved: bool,
}

impl Apgd {
    /// `loss` must be defined for `classes` classes, see [`defined`].
    pub fn new(
        loss: AttackLoss,
        [steps, restarts, targets]: [u32; 3],
        samples: u32,
        starts: Key,
        place: &Tensor,
    ) -> Apgd {
        let state = || Tensor::zeros(place.size(), (Kind::Float, place.device()));
        Apgd {
            loss,
            steps,
            restarts,
            targets: if loss == AttackLoss::DlrTargeted { targets } else { 1 },
            samples,
            starts,
            checkpoints: checkpoints(steps),
            before: state(),
            best: state(),
            best_gradient: state(),
            progress: vec![Progress::default(); place.size()[0] as usize],
        }
    }

    /// The length of the next step in `slot`, in epsilons.
    pub fn step_size(&self, slot: usize) -> f64 {
        self.progress[slot].step
    }

    /// Takes note of a loss; says whether it is the best so far, and whether to go back to the best.
    fn note(&mut self, slot: usize, step: u32, loss: f32) -> (bool, bool) {
        if step == 0 {
            self.progress[slot] =
                Progress { step: FIRST_STEP, loss, best: loss, best_then: loss, gains: 0, halved: true };
            return (true, false);
        }
        let progress = &mut self.progress[slot];
        progress.gains += u32::from(loss > progress.loss);
        progress.loss = loss;
        let better = loss > progress.best;
        if better {
            progress.best = loss;
        }
        let halve = window(&self.checkpoints, step).is_some_and(|steps| {
            let stuck = f64::from(progress.gains) <= GAINING * f64::from(steps);
            let halve = stuck || (!progress.halved && progress.best_then >= progress.best);
            *progress = Progress { gains: 0, halved: halve, best_then: progress.best, ..*progress };
            halve
        });
        if halve {
            progress.step /= 2.0;
        }
        (better, halve)
    }
}

/// The loss to use in place of `loss` where there are too few classes for it.
pub fn defined(loss: AttackLoss, classes: i64) -> AttackLoss {
    match loss {
        AttackLoss::Dlr if classes < 3 => AttackLoss::Ce,
        AttackLoss::DlrTargeted if classes < 4 => AttackLoss::Ce,
        loss => loss,
    }
}

/// After how many steps of `steps` the step size is reconsidered: 22, 41, 57, 70, 80, 87, 93, 99 of 100.
pub fn checkpoints(steps: u32) -> Vec<u32> {
    let [first, shorter, last] = WINDOWS.map(|share| ((share * f64::from(steps)) as u32).max(1));
    let mut points = Vec::new();
    let (mut point, mut window) = (first, first);
    while point <= steps {
        points.push(point);
        window = window.saturating_sub(shorter).max(last);
        point += window;
    }
    points
}

/// The length of the window that ends after `step` steps, if one does.
fn window(checkpoints: &[u32], step: u32) -> Option<u32> {
    let position = checkpoints.binary_search(&step).ok()?;
    Some(step - position.checked_sub(1).map_or(0, |before| checkpoints[before]))
}

impl Attack for Apgd {
    fn climbs(&self) -> u32 {
        self.restarts * self.targets
    }

    fn steps(&self) -> u32 {
        self.steps
    }

    fn patience(&self) -> &'static [Check] {
        if self.loss == AttackLoss::DlrTargeted { &TOWARDS_ONE_CLASS } else { &[] }
    }

    fn samples(&self) -> u32 {
        self.samples
    }

    fn survey(&self) -> Survey {
        if self.loss == AttackLoss::DlrTargeted { Survey::Ranking } else { Survey::Nothing }
    }

    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        objective(self.loss, self.restarts, tile, logits)
    }

    fn begin(&mut self, tile: &Tile) -> Tensor {
        random_starts(tile, &self.starts, surface_offset)
    }

    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor {
        let losses = Vec::<f32>::try_from(slope.values.to_device(Device::Cpu)).expect("one loss per row");
        let (mut first, mut better, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for &row in rows {
            let (best, halve) = self.note(tile.slot(row), tile.rows[row].step, losses[row]);
            if tile.rows[row].step == 0 {
                first.push(row);
            }
            if best {
                better.push(row);
            }
            if halve {
                back.push(row);
            }
        }
        keep(&mut self.best, tile, &better, &tile.points);
        keep(&mut self.best_gradient, tile, &better, &slope.gradient);
        // Before the first step there is no momentum.
        keep(&mut self.before, tile, &first, &tile.points);

        let from = swap(&tile.points, &self.best, tile, &back);
        let gradient = swap(&slope.gradient, &self.best_gradient, tile, &back);
        let momentum = &from - self.before.index_select(0, &tile.slots);
        let step = tile.per_row(1.0, |flight| self.step_size(flight.slot as usize));
        let ahead = tile.ball.ascend(&tile.origins, &from, &gradient, &(step * &tile.ball.radius));
        let share = tile.per_row(1.0, |flight| if flight.step == 0 { 1.0 } else { MOMENTUM });
        let carried = momentum * (1.0 - &share);
        let next = tile.ball.project(&tile.origins, &(&from + (ahead - &from) * share + carried));
        keep(&mut self.before, tile, rows, &from);
        tile.pick(&next, rows)
    }
}

/// The loss of each row, `[n]`; with targets, every `restarts` climbs aim at another one.
pub fn objective(loss: AttackLoss, restarts: u32, tile: &Tile, logits: &Tensor) -> Tensor {
    match loss {
        // Rises and falls with the cross-entropy, and does not round to 0 where that does.
        AttackLoss::Ce => margin(logits, &tile.labels),
        AttackLoss::Dlr => difference_ratio(logits, &tile.labels),
        AttackLoss::DlrTargeted => targeted_difference_ratio(logits, &tile.labels, &targets(tile, restarts)),
    }
}

/// The class that each row aims at: the likeliest wrong one on the clean image first. `[n]`.
pub fn targets(tile: &Tile, restarts: u32) -> Tensor {
    tile.ranked(|flight| f64::from(1 + flight.climb / restarts))
}

/// Writes `rows` of `values` to their slots in `state`.
fn keep(state: &mut Tensor, tile: &Tile, rows: &[usize], values: &Tensor) {
    if !rows.is_empty() {
        let _ = state.index_copy_(0, &tile.pick(&tile.slots, rows), &tile.pick(values, rows));
    }
}

/// `values` with `rows` replaced by what `state` holds for them.
fn swap(values: &Tensor, state: &Tensor, tile: &Tile, rows: &[usize]) -> Tensor {
    if rows.is_empty() {
        return values.shallow_clone();
    }
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let rows = upload(&Tensor::from_slice(&rows), values.device());
    let stored = state.index_select(0, &tile.slots.index_select(0, &rows));
    values.index_copy(0, &rows, &stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_points_are_the_papers() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
        for steps in 1..300 {
            let points = checkpoints(steps);
            assert!(points.is_sorted_by(|a, b| a < b) && points.iter().all(|&point| point <= steps), "{points:?}");
        }
        assert_eq!(window(&checkpoints(100), 41), Some(19));
        assert_eq!((window(&checkpoints(100), 22), window(&checkpoints(100), 23)), (Some(22), None));
    }
}
