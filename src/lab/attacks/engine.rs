//! The engine: keeps batches full while every example climbs its own ladder of epsilons.
//!
//! ```text
//!  next example ─► clean check ─► start at e_k ─► step ─► ... ─► last iterate ─► e_k+1, or landed
//!                     │ wrong          ▲  next restart │ wrong        │ wrong
//!                     ▼                │               ▼              ▼
//!                  level 0             └── refuted ─ confirmation ◄───┘
//!                                                      │ holds
//!                                                      ▼  level k
//! ```
//!
//! Every example in flight is at its own epsilon, restart and step, and waits either for a gradient
//! or for a mere forward pass. A batch takes whoever waits for the same; a landed example's slot
//! goes to the next one. So batches stay full until the shard runs out, broken examples cost nothing
//! more, and nobody waits for the slowest. The forward pass of a gradient also says whether
//! the iterate is misclassified, so looking at every iterate costs no extra pass.
//!
//! All batches have exactly [`Engine::rows`] rows, short ones being filled up with copies: kernels
//! sum in an order that may depend on the shape, and an example's result must not depend on company.

use super::ball::Ball;
use super::gradient::{predictions, slope};
use super::{EvaluateAnswer, Passes, Watch};
use crate::lab::models::Network;
use crate::lab::{Images, LabError};
use epsweep::outcome::{Known, Level, Verdict};
use epsweep::spec::Norm;
use std::collections::VecDeque;
use tch::{Kind, Tensor};

/// How an attack moves. State it keeps per example lives in tensors indexed by slot.
pub trait Attack {
    /// Independent climbs per epsilon.
    fn restarts(&self) -> u32;

    /// What the iterate after `step` steps of a climb waits for.
    fn need(&self, step: u32) -> Need;

    /// Whether [`Attack::survey`] wants the gradient at every clean image, once.
    fn surveys_origin(&self) -> bool {
        false
    }

    /// Receives every batch of gradients if [`Attack::surveys_origin`]; rows with step 0 of a flight
    /// whose epsilon is still 0 are at their clean image.
    fn survey(&mut self, _tile: &Tile, _gradient: &Tensor) {}

    /// The points that the climbs of `tile` begin at, inside ball and box. No padding here, so use
    /// only arithmetic that works element by element: its rounding does not depend on the shape.
    fn begin(&mut self, tile: &Tile) -> Tensor;

    /// The next iterates, inside ball and box, from the gradients at `tile.points`.
    /// Rows beyond `tile.rows` are padding; their results are dropped.
    fn advance(&mut self, tile: &Tile, gradient: &Tensor) -> Tensor;
}

/// What an iterate waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A step on: the gradient, and whether this iterate is adversarial already.
    Gradient,
    /// The last iterate of a climb: only whether it is adversarial.
    Verdict,
}

/// The epsilons of a question, and what earlier answers say about them.
pub struct Ladder<'a> {
    pub epsilons: &'a [f64],
    pub known: &'a [Known],
}

/// Where an example is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
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
    example: usize,
    /// Position in the test set: what random streams are keyed by.
    pub test_index: u64,
    slot: i64,
    stage: Stage,
    /// Position in the grid, from 0.
    rung: usize,
    pub epsilon: f64,
    pub restart: u32,
    pub step: u32,
    /// The current iterate looked adversarial and was refuted: step on without asking it again.
    refuted: bool,
}

/// A batch: some flights, and their tensors with one row each, plus padding at the end.
pub struct Tile<'a> {
    pub rows: &'a [Flight],
    /// Slots of the real rows, `[rows.len()]`.
    pub slots: Tensor,
    /// Clean images.
    pub origins: Tensor,
    /// Current iterates.
    pub points: Tensor,
    pub labels: Tensor,
    pub ball: Ball,
}

impl Tile<'_> {
    /// The rows of `batch` that are not padding.
    pub fn real(&self, batch: &Tensor) -> Tensor {
        batch.narrow(0, 0, self.rows.len() as i64)
    }
}

/// One evaluation under way.
pub struct Engine<'a> {
    network: &'a Network,
    attack: &'a mut dyn Attack,
    norm: Norm,
    ladder: Ladder<'a>,
    /// The shard.
    images: Images,
    labels: Vec<i64>,
    /// Test set position of the shard's first example.
    first: u32,
    /// Rows of every batch.
    rows: usize,
    /// `[slots, channels, height, width]`: the current iterate of each flight.
    points: Tensor,
    free: Vec<i64>,
    next_example: usize,
    /// Flights that wait for a gradient, and for a forward pass, first come first served.
    for_gradient: VecDeque<Flight>,
    for_verdict: VecDeque<Flight>,
    levels: Vec<Level>,
    landed: usize,
    passes: Passes,
    refuted: u64,
}

/// How many examples are in flight with batches of `rows`: with two queues, twice the rows make
/// sure that one of them can fill a batch.
pub fn slots(rows: u32) -> i64 {
    2 * i64::from(rows)
}

impl<'a> Engine<'a> {
    pub fn new(
        network: &'a Network,
        attack: &'a mut dyn Attack,
        norm: Norm,
        ladder: Ladder<'a>,
        images: Images,
        first: u32,
        rows: u32,
    ) -> Engine<'a> {
        let count = images.count() as usize;
        let [channels, height, width] = images.shape();
        let options = (Kind::Float, images.pixels.device());
        Engine {
            network,
            attack,
            norm,
            ladder,
            labels: Vec::<i64>::try_from(&images.labels).expect("labels are one row of integers"),
            points: Tensor::zeros([slots(rows), channels, height, width], options),
            images,
            first,
            rows: rows as usize,
            free: (0..slots(rows)).rev().collect(),
            next_example: 0,
            for_gradient: VecDeque::new(),
            for_verdict: VecDeque::new(),
            levels: vec![Level::UNKNOWN; count],
            landed: 0,
            passes: Passes { examples: count as u64, ..Passes::default() },
            refuted: 0,
        }
    }

    /// Runs until every example has its level.
    pub fn run(mut self, watch: &mut dyn Watch) -> Result<EvaluateAnswer, LabError> {
        loop {
            self.launch();
            let (gradients, verdicts) = (self.for_gradient.len(), self.for_verdict.len());
            if gradients + verdicts == 0 {
                break;
            }
            if watch.stop() {
                return Err(LabError::Stopped);
            }
            // A full batch of verdicts first: it frees slots. Else the longer queue.
            if verdicts >= self.rows || (gradients < self.rows && verdicts >= gradients) {
                self.judge();
            } else {
                self.climb();
            }
            watch.examples(self.landed, self.levels.len());
        }
        Ok(EvaluateAnswer { levels: self.levels, passes: self.passes, refuted: self.refuted })
    }

    /// Puts waiting examples into free slots.
    fn launch(&mut self) {
        let mut ready = Vec::new();
        while self.next_example < self.levels.len() && !self.free.is_empty() {
            let example = self.next_example;
            self.next_example += 1;
            let mut flight = Flight::at_origin(example, self.first);
            match (self.ladder.verdict(example, 0.0), self.ladder.next(example, 0)) {
                (Verdict::Broken, _) => {
                    self.land(example, Level::CLEAN);
                    continue;
                }
                (Verdict::Withstood, Err(level)) => {
                    self.land(example, level);
                    continue;
                }
                (Verdict::Withstood, Ok(rung)) if !self.attack.surveys_origin() => {
                    flight.enter(rung, self.ladder.epsilons[rung]);
                }
                _ => {}
            }
            flight.slot = self.free.pop().expect("a slot is free");
            ready.push(flight);
        }
        self.depart(ready);
    }

    /// Sets flights down at the first point of their stage and queues them.
    fn depart(&mut self, flights: Vec<Flight>) {
        let (origin, climbs): (Vec<_>, Vec<_>) = flights.into_iter().partition(|f| f.stage == Stage::Origin);
        if !origin.is_empty() {
            let tile = self.tile(&origin, origin.len());
            let _ = self.points.index_copy_(0, &tile.slots, &tile.origins);
            let queue = if self.attack.surveys_origin() { &mut self.for_gradient } else { &mut self.for_verdict };
            queue.extend(origin);
        }
        if !climbs.is_empty() {
            let tile = self.tile(&climbs, climbs.len());
            let points = self.attack.begin(&tile);
            let _ = self.points.index_copy_(0, &tile.slots, &points);
            for flight in climbs {
                self.queue(flight);
            }
        }
    }

    /// Queues a flight in the middle of a climb.
    fn queue(&mut self, flight: Flight) {
        match self.attack.need(flight.step) {
            Need::Gradient => self.for_gradient.push_back(flight),
            Need::Verdict => self.for_verdict.push_back(flight),
        }
    }

    /// One batch of gradients.
    fn climb(&mut self) {
        let flights = take(&mut self.for_gradient, self.rows);
        let tile = self.tile(&flights, self.rows);
        let slope = slope(self.network, &tile.points, &tile.labels);
        self.passes.gradient(flights.len() as i64);
        if self.attack.surveys_origin() {
            self.attack.survey(&tile, &slope.gradient);
        }
        let climbing = flights.iter().any(|flight| flight.stage == Stage::Climb);
        let next = climbing.then(|| self.attack.advance(&tile, &slope.gradient));
        let named = predictions(&slope.logits);
        let mut departing = Vec::new();
        let mut kept = (Vec::new(), Vec::new());
        for (row, (mut flight, class)) in flights.iter().cloned().zip(named).enumerate() {
            let wrong = class != self.labels[flight.example];
            match flight.stage {
                Stage::Origin => self.leave_origin(flight, wrong, &mut departing),
                _ if wrong && !flight.refuted => self.for_verdict.push_back(flight.to(Stage::Confirm)),
                _ => {
                    kept.0.push(row as i64);
                    kept.1.push(flight.slot);
                    flight.step += 1;
                    flight.refuted = false;
                    self.queue(flight);
                }
            }
        }
        if let (Some(next), false) = (next, kept.0.is_empty()) {
            let moved = next.index_select(0, &self.index(&kept.0));
            let _ = self.points.index_copy_(0, &self.index(&kept.1), &moved);
        }
        self.depart(departing);
    }

    /// One batch of forward passes: clean images, last iterates and confirmations alike.
    fn judge(&mut self) {
        let flights = take(&mut self.for_verdict, self.rows);
        let tile = self.tile(&flights, self.rows);
        let named = predictions(&self.network.forward(&tile.points));
        let sound = || Vec::<bool>::try_from(tile.ball.contains(&tile.origins, &tile.points));
        let confirming = flights.iter().any(|flight| flight.stage == Stage::Confirm);
        let sound = if confirming { sound().expect("one truth value per row") } else { Vec::new() };
        self.passes.forward(flights.len() as i64);
        let mut departing = Vec::new();
        for (row, flight) in flights.iter().cloned().enumerate() {
            let wrong = named[row] != self.labels[flight.example];
            match flight.stage {
                Stage::Origin => self.leave_origin(flight, wrong, &mut departing),
                Stage::Climb if wrong => self.for_verdict.push_back(flight.to(Stage::Confirm)),
                Stage::Climb => self.fail(flight, &mut departing),
                Stage::Confirm if wrong && sound[row] => self.finish(flight.slot, flight.example, level(flight.rung)),
                Stage::Confirm => self.refute(flight, &mut departing),
            }
        }
        self.depart(departing);
    }

    fn leave_origin(&mut self, flight: Flight, wrong: bool, departing: &mut Vec<Flight>) {
        if wrong { self.finish(flight.slot, flight.example, Level::CLEAN) } else { self.rise(flight, 0, departing) }
    }

    /// A climb ended without success: the next restart, or the next epsilon.
    fn fail(&mut self, flight: Flight, departing: &mut Vec<Flight>) {
        if flight.restart + 1 < self.attack.restarts() {
            departing.push(Flight { restart: flight.restart + 1, step: 0, refuted: false, ..flight });
        } else {
            let next = flight.rung + 1;
            self.rise(flight, next, departing);
        }
    }

    /// A success that does not hold: the climb goes on where it was.
    fn refute(&mut self, flight: Flight, departing: &mut Vec<Flight>) {
        self.refuted += 1;
        match self.attack.need(flight.step) {
            Need::Gradient => self.for_gradient.push_back(Flight { refuted: true, ..flight.to(Stage::Climb) }),
            Need::Verdict => self.fail(flight.to(Stage::Climb), departing),
        }
    }

    /// Sends a flight to its next open epsilon from grid position `from` on, or lands it.
    fn rise(&mut self, mut flight: Flight, from: usize, departing: &mut Vec<Flight>) {
        match self.ladder.next(flight.example, from) {
            Ok(rung) => {
                flight.enter(rung, self.ladder.epsilons[rung]);
                departing.push(flight);
            }
            Err(level) => self.finish(flight.slot, flight.example, level),
        }
    }

    fn finish(&mut self, slot: i64, example: usize, level: Level) {
        self.free.push(slot);
        self.land(example, level);
    }

    fn land(&mut self, example: usize, level: Level) {
        self.levels[example] = level;
        self.landed += 1;
    }

    /// Gathers the tensors of `flights`, filled up to `rows` rows with copies of the first.
    fn tile<'f>(&self, flights: &'f [Flight], rows: usize) -> Tile<'f> {
        let padded = || flights.iter().chain(std::iter::repeat_n(&flights[0], rows - flights.len()));
        let examples = self.index(&padded().map(|flight| flight.example as i64).collect::<Vec<_>>());
        let slots = self.index(&padded().map(|flight| flight.slot).collect::<Vec<_>>());
        let radii: Vec<f64> = padded().map(|flight| flight.epsilon).collect();
        Tile {
            rows: flights,
            origins: self.images.pixels.index_select(0, &examples),
            points: self.points.index_select(0, &slots),
            labels: self.images.labels.index_select(0, &examples),
            ball: Ball::new(self.norm, &radii, self.points.device()),
            slots: slots.narrow(0, 0, flights.len() as i64),
        }
    }

    fn index(&self, positions: &[i64]) -> Tensor {
        Tensor::from_slice(positions).to_device(self.points.device())
    }
}

impl Ladder<'_> {
    /// What all earlier answers together say about `example` at `epsilon`.
    fn verdict(&self, example: usize, epsilon: f64) -> Verdict {
        let mut verdict = Verdict::Open;
        for known in self.known {
            match known.verdict(example, epsilon) {
                Verdict::Broken => return Verdict::Broken,
                Verdict::Withstood => verdict = Verdict::Withstood,
                Verdict::Open => {}
            }
        }
        verdict
    }

    /// The first grid position from `from` on that has to be attacked, or the level if there is none.
    fn next(&self, example: usize, from: usize) -> Result<usize, Level> {
        for rung in from..self.epsilons.len() {
            match self.verdict(example, self.epsilons[rung]) {
                Verdict::Broken => return Err(level(rung)),
                Verdict::Withstood => {}
                Verdict::Open => return Ok(rung),
            }
        }
        Err(Level::unbroken(self.epsilons.len()))
    }
}

impl Flight {
    fn at_origin(example: usize, first: u32) -> Flight {
        Flight {
            example,
            test_index: u64::from(first) + example as u64,
            slot: 0,
            stage: Stage::Origin,
            rung: 0,
            epsilon: 0.0,
            restart: 0,
            step: 0,
            refuted: false,
        }
    }

    fn to(self, stage: Stage) -> Flight {
        Flight { stage, ..self }
    }

    fn enter(&mut self, rung: usize, epsilon: f64) {
        *self = Flight { stage: Stage::Climb, rung, epsilon, restart: 0, step: 0, refuted: false, ..self.clone() };
    }
}

/// Broken from the epsilon at grid position `rung` (from 0).
fn level(rung: usize) -> Level {
    Level(u16::try_from(rung + 1).expect("an epsilon grid has at most 65,000 points"))
}

fn take(queue: &mut VecDeque<Flight>, rows: usize) -> Vec<Flight> {
    queue.drain(..rows.min(queue.len())).collect()
}
