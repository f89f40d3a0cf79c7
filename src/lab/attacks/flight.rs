//! What passes between the engine and an attack: flights, tiles, and the attack's own interface.

use super::ball::Ball;
use super::gradient::{Slope, margin};
use super::thrift::Check;
use crate::lab::data::upload;
use tch::{Kind, Tensor};

/// How an attack moves. State it keeps per example lives in tensors or lists indexed by slot.
///
/// A *climb* is one run of it at one epsilon: one restart, towards one target. An example's path must
/// not depend on its company: use arithmetic that rounds each row alike wherever it stands in a
/// batch, and on all rows of a tile, whose number never changes.
pub trait Attack {
    /// Independent climbs per epsilon.
    fn climbs(&self) -> u32;

    /// Steps of a climb: its last iterate only waits for a verdict.
    fn steps(&self) -> u32;

    /// What the iterate after `step` steps of a climb waits for.
    fn need(&self, step: u32) -> Need {
        if step < self.steps() { Need::Gradient } else { Need::Verdict }
    }

    /// When a climb is given up as hopeless, if the evaluation is thrifty; see [`super::thrift`].
    fn patience(&self) -> &'static [Check] {
        &[]
    }

    /// Whether this climb may begin at any point of the ball, instead of where [`Attack::begin`] puts it;
    /// see `evaluate: {warm_starts: true}`.
    fn starts_anywhere(&self, _climb: u32) -> bool {
        false
    }

    /// Gradients that are averaged at each step, where the network answers at random.
    fn samples(&self) -> u32 {
        1
    }

    /// What it wants to know of the clean image before its first climb.
    fn survey(&self) -> Survey {
        Survey::Nothing
    }

    /// Receives the gradients of `rows`, at their clean images, if [`Attack::survey`] asks for them.
    fn surveyed(&mut self, _tile: &Tile, _rows: &[usize], _slope: &Slope) {}

    /// Looks for the nearest adversarial example, whatever the epsilon: one run answers for all.
    fn any_radius(&self) -> bool {
        false
    }

    /// Its iterates may lie outside the ball of the epsilon it is at.
    fn strays(&self) -> bool {
        self.any_radius()
    }

    /// What its gradients ascend: `[n]` from logits `[n, classes]`, row by row.
    fn objective(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        margin(logits, &tile.labels)
    }

    /// The points that the climbs of `tile` begin at, inside ball and box. No padding here, so use
    /// only arithmetic that works element by element: its rounding does not depend on the shape.
    fn begin(&mut self, tile: &Tile) -> Tensor;

    /// The next iterates of `rows`, inside ball and box, from what the network said about
    /// `tile.points`. Called once per row and step.
    fn advance(&mut self, tile: &Tile, rows: &[usize], slope: &Slope) -> Tensor;
}

/// What an iterate waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A step on: the gradient, and whether this iterate is adversarial already.
    Gradient,
    /// A step on: the logits alone.
    Logits,
    /// The last iterate of a climb: only whether it is adversarial.
    Verdict,
}

/// What an attack wants to know of clean images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survey {
    Nothing,
    /// [`Tile::ranking`].
    Ranking,
    /// The gradient of the margin too.
    Gradient,
}

/// Where an example is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// At the clean image.
    Origin,
    Climb,
    /// At a point that the search found adversarial.
    Confirm,
}

/// An example in flight.
#[derive(Debug, Clone)]
pub struct Flight {
    /// Position in the shard.
    pub(super) example: usize,
    /// Position in the test set: what random streams are keyed by.
    pub test_index: u64,
    pub slot: i64,
    pub(super) stage: Stage,
    /// Which attack of the cascade it is under.
    pub(super) member: usize,
    /// Position in the grid, from 0.
    pub(super) rung: usize,
    pub epsilon: f64,
    /// From 0, of [`Attack::climbs`].
    pub climb: u32,
    pub step: u32,
    /// It was settled what the current iterate's being adversarial means: step on without asking.
    pub(super) asked: bool,
}

impl Flight {
    /// At the clean image of the shard's `example`-th example; `first` is the shard's first.
    pub fn at_origin(example: usize, first: u32) -> Flight {
        Flight {
            example,
            test_index: u64::from(first) + example as u64,
            slot: 0,
            stage: Stage::Origin,
            member: 0,
            rung: 0,
            epsilon: 0.0,
            climb: 0,
            step: 0,
            asked: false,
        }
    }

    pub(super) fn to(self, stage: Stage) -> Flight {
        Flight { stage, ..self }
    }

    /// At the beginning of a climb.
    pub(super) fn entering(self, member: usize, rung: usize, epsilon: f64, climb: u32) -> Flight {
        Flight { stage: Stage::Climb, member, rung, epsilon, climb, step: 0, asked: false, ..self }
    }
}

/// A batch: some flights, and their tensors with one row each, plus padding at the end.
pub struct Tile<'a> {
    pub rows: &'a [Flight],
    /// `[n]`, padding included, as in all that follows.
    pub slots: Tensor,
    /// Clean images.
    pub origins: Tensor,
    /// Current iterates.
    pub points: Tensor,
    pub labels: Tensor,
    /// `[n, classes]`: all classes, by the logits of the clean image, largest first. Only if an
    /// attack asked for it, else zeros.
    pub ranking: Tensor,
    pub ball: Ball,
}

impl Tile<'_> {
    /// Some rows of `batch`.
    pub fn pick(&self, batch: &Tensor, rows: &[usize]) -> Tensor {
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        batch.index_select(0, &upload(&Tensor::from_slice(&rows), batch.device()))
    }

    /// The class at a place of each row's ranking, `[n]`.
    ///
    /// Clean images are classified correctly, so rank 0 is the label and rank 1 the likeliest other.
    pub fn ranked(&self, rank: impl Fn(&Flight) -> f64) -> Tensor {
        let ranks = self.per_row(1.0, rank).view([-1, 1]).to_kind(Kind::Int64);
        // Rows under other attacks may count further than there are classes; theirs are not used.
        self.ranking.gather(1, &ranks.clamp_max(self.ranking.size()[1] - 1), false).squeeze_dim(1)
    }

    /// The slot of a row.
    pub fn slot(&self, row: usize) -> usize {
        self.rows[row].slot as usize
    }

    /// Values per image.
    pub fn pixels(&self) -> usize {
        self.origins.size()[1..].iter().product::<i64>() as usize
    }

    /// One number per row of the tile, padding included; `default` where no flight is.
    pub fn per_row(&self, default: f64, value: impl Fn(&Flight) -> f64) -> Tensor {
        let mut values: Vec<f32> = self.rows.iter().map(|flight| value(flight) as f32).collect();
        values.resize(self.origins.size()[0] as usize, default as f32);
        upload(&Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_kind(Kind::Float), self.origins.device())
    }
}
