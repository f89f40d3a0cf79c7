//! The engine: keeps batches full while every example is led through its own search.
//!
//! ```text
//!  next example ─► clean check ─► start at e_k ─► step ─► ... ─► last iterate ─► next probe, or landed
//!                     │ wrong          ▲  next climb   │ wrong        │ wrong
//!                     ▼                │               ▼              ▼
//!                  level 0             └── refuted ─ confirmation ◄───┘
//!                                                      │ holds
//!                                                      ▼  bracket ─► next probe, or landed
//! ```
//!
//! A probe is one attack of the cascade at one epsilon; [`super::search`] says which comes next.
//! Every example in flight is at its own probe, climb and step, and waits either for a gradient or
//! for a mere forward pass. A batch takes whoever waits for the same, whatever attack they are
//! under; a landed example's slot goes to the next one. So batches stay full until the shard runs
//! out, broken examples cost nothing more, and nobody waits for the slowest. The pass that moves an
//! iterate also says whether it is misclassified, so looking at every one costs nothing. Short batches
//! are filled up with copies; [`super::shapes`] says why.

use super::ball::Ball;
use super::flight::{Attack, Flight, Need, Stage, Survey, Tile};
use super::gradient::{Slope, ascend, average, look, margin, margins, predictions};
use super::ladder::Ladder;
use super::queues::{Queues, Turn};
use super::record::{Found, Record};
use super::search::{Bracket, Probe};
use super::shapes::{CPU_ROWS, slots};
use super::thrift::Progress;
use super::warm::Warm;
use super::{EvaluateAnswer, Passes, Watch};
use crate::lab::data::upload;
use crate::lab::models::Network;
use crate::lab::{Images, LabError};
use epsweep::outcome::{Level, Verdict};
use epsweep::spec::Precision;
use tch::{Kind, Tensor};

/// One evaluation under way.
pub struct Engine<'a> {
    network: &'a Network,
    /// The same weights, in the precision that the search computes in.
    searched: Network,
    /// A cascade: each attack sees only what withstood those before it.
    attacks: &'a mut [Box<dyn Attack>],
    survey: Survey,
    ladder: Ladder<'a>,
    /// The shard.
    images: Images,
    labels: Vec<i64>,
    /// Test set position of the shard's first example.
    first: u32,
    /// Rows that a batch may have, ascending.
    shapes: Vec<usize>,
    /// `[slots, channels, height, width]`: the current iterate of each flight.
    points: Tensor,
    /// `[slots, classes]`: see [`Tile::ranking`].
    ranking: Tensor,
    /// By slot.
    brackets: Vec<Bracket>,
    /// Of an example about which nothing is known.
    blank: Bracket,
    /// By slot; kept only where hopeless climbs are given up.
    progress: Vec<Progress>,
    thrifty: bool,
    /// Where earlier probes ended, if climbs begin there.
    warm: Option<Warm>,
    /// The network answers the same image differently.
    random: bool,
    free: Vec<i64>,
    next_example: usize,
    queues: Queues,
    levels: Vec<Level>,
    landed: usize,
    passes: Passes,
    record: Record,
}

/// What the rows of an answered batch do next.
#[derive(Default)]
struct Orders {
    /// Rows at their clean image.
    surveyed: Vec<usize>,
    /// By attack: rows that take a step.
    moving: Vec<Vec<usize>>,
    /// Flights that begin a climb.
    departing: Vec<Flight>,
}

impl<'a> Engine<'a> {
    pub fn new(
        network: &'a Network,
        attacks: &'a mut [Box<dyn Attack>],
        ladder: Ladder<'a>,
        images: Images,
        [classes, first]: [u32; 2],
        shapes: Vec<usize>,
        record: Record,
    ) -> Engine<'a> {
        let count = images.count() as usize;
        let [channels, height, width] = images.shape();
        let device = images.pixels.device();
        let slots = slots(*shapes.last().expect("at least one shape"));
        let scout = attacks.len() > 1 && attacks[0].steps() == 0;
        let blank = Bracket::new(ladder.search, ladder.epsilons.len(), attacks.len()).scouted(scout);
        let survey = attacks.iter().map(|attack| attack.survey()).max().unwrap_or(Survey::Nothing);
        Engine {
            network,
            searched: network.frozen(),
            survey,
            attacks,
            ladder,
            labels: Vec::<i64>::try_from(&images.labels).expect("labels are one row of integers"),
            points: Tensor::zeros([slots, channels, height, width], (Kind::Float, device)),
            ranking: Tensor::zeros([slots, i64::from(classes)], (Kind::Int64, device)),
            brackets: vec![blank.clone(); slots as usize],
            blank,
            progress: vec![Progress::default(); slots as usize],
            thrifty: false,
            warm: None,
            random: false,
            images,
            first,
            shapes,
            free: (0..slots).rev().collect(),
            next_example: 0,
            queues: Queues::new(survey == Survey::Gradient),
            levels: vec![Level::UNKNOWN; count],
            landed: 0,
            passes: Passes { examples: count as u64, ..Passes::default() },
            record,
        }
    }

    /// Gives up climbs that are hopeless.
    pub fn thrifty(self, thrifty: bool) -> Engine<'a> {
        Engine { thrifty, ..self }
    }

    /// Begins climbs where earlier ones ended.
    pub fn warm(self, warm: bool) -> Engine<'a> {
        let warm = warm.then(|| Warm::new(&self.points));
        Engine { warm, ..self }
    }

    /// Searches in `precision`; verdicts stay in 32 bits.
    pub fn searching_in(mut self, precision: Precision) -> Engine<'a> {
        self.queues.apart = precision != Precision::Fp32;
        self.searched = self.searched.computing_in(precision);
        self
    }

    /// Runs until every example has its level.
    pub fn run(mut self, watch: &mut dyn Watch) -> Result<EvaluateAnswer, LabError> {
        self.random = self.attacks.iter().any(|attack| attack.samples() > 1) && self.answers_at_random();
        loop {
            self.launch();
            let Some((turn, flights)) = self.queues.take(self.largest()) else { break };
            if watch.stop() {
                return Err(LabError::Stopped);
            }
            self.pass(turn, &flights);
            watch.examples(self.landed, self.levels.len());
        }
        let (trust, witnesses) = self.record.finish();
        Ok(EvaluateAnswer { levels: self.levels, passes: self.passes, refuted: trust.refuted, trust, witnesses })
    }

    fn largest(&self) -> usize {
        *self.shapes.last().expect("at least one shape")
    }

    /// The rows of a batch of this many flights.
    fn rows(&self, flights: usize) -> usize {
        self.shapes.iter().copied().find(|&rows| rows >= flights).expect("no batch is larger than the largest shape")
    }

    /// Whether two passes over the same images differ. Where they are equal bit by bit, the average of
    /// many gradients is the gradient.
    fn answers_at_random(&mut self) -> bool {
        let rows = self.rows(self.largest().min(CPU_ROWS as usize)).min(self.levels.len()) as i64;
        let images = self.images.pixels.narrow(0, 0, rows);
        self.passes.forward(2 * rows);
        let [first, second] = [(), ()].map(|()| look(self.network, &images).logits);
        !first.equal(&second)
    }

    /// Puts waiting examples into free slots.
    fn launch(&mut self) {
        let mut ready = Vec::new();
        while self.next_example < self.levels.len() && !self.free.is_empty() {
            let example = self.next_example;
            self.next_example += 1;
            let mut flight = Flight::at_origin(example, self.first);
            let mut bracket = self.ladder.bracket(example, &self.blank);
            match (self.ladder.verdict(example, 0.0), bracket.next()) {
                (Verdict::Broken, _) => {
                    self.land(example, Level::CLEAN);
                    continue;
                }
                (Verdict::Withstood, None) => {
                    self.land(example, self.ladder.level(&bracket));
                    continue;
                }
                (Verdict::Withstood, Some(probe)) if self.survey == Survey::Nothing => {
                    flight = self.ladder.enter(flight, probe);
                }
                _ => {}
            }
            flight.slot = self.free.pop().expect("a slot is free");
            self.brackets[flight.slot as usize] = bracket;
            self.warm.iter_mut().for_each(|warm| warm.forget(flight.slot));
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
            origin.into_iter().for_each(|flight| self.queues.push(flight, Need::Verdict));
        }
        for member in 0..self.attacks.len() {
            let climbs: Vec<Flight> = climbs.iter().filter(|flight| flight.member == member).cloned().collect();
            if climbs.is_empty() {
                continue;
            }
            let tile = self.tile(&climbs, climbs.len());
            let points = self.attacks[member].begin(&tile);
            let _ = self.points.index_copy_(0, &tile.slots, &points);
            self.warm_up(&climbs);
            for flight in climbs {
                self.queue(flight);
            }
        }
    }

    /// Moves those of `climbs` that may begin anywhere to where an earlier probe ended.
    fn warm_up(&mut self, climbs: &[Flight]) {
        let Some(warm) = &self.warm else { return };
        let free = |flight: &Flight| self.attacks[flight.member].starts_anywhere(flight.climb) && warm.knows(flight);
        let climbs: Vec<Flight> = climbs.iter().filter(|flight| free(flight)).cloned().collect();
        for part in climbs.chunks(self.largest()) {
            let tile = self.tile(part, self.rows(part.len()));
            let (slots, starts) = (tile.slots.narrow(0, 0, part.len() as i64), warm.starts(&tile));
            let _ = self.points.index_copy_(0, &slots, &starts.narrow(0, 0, part.len() as i64));
        }
    }

    /// Queues a flight in the middle of a climb.
    fn queue(&mut self, flight: Flight) {
        let need = self.attacks[flight.member].need(flight.step);
        self.queues.push(flight, need);
    }

    /// One batch through the network: gradients; or clean images, queries, last iterates and
    /// confirmations alike.
    fn pass(&mut self, turn: Turn, flights: &[Flight]) {
        let tile = self.tile(flights, self.rows(flights.len()));
        let exact = matches!(turn, Turn::Verdicts | Turn::Origins);
        let network = if exact { self.network } else { &self.searched };
        let slope = match turn {
            Turn::Verdicts | Turn::Logits => {
                self.passes.forward(flights.len() as i64);
                look(network, &tile.points)
            }
            Turn::Gradients | Turn::Origins => {
                let wanted = flights.iter().map(|flight| self.attacks[flight.member].samples()).max();
                let samples = if self.random { wanted.unwrap_or(1) } else { 1 };
                self.passes.gradient(flights.len() as i64 * i64::from(samples));
                average(samples, || ascend(network, &tile.points, |logits| self.objectives(&tile, logits)))
            }
        };
        if slope.gradient.defined() {
            self.record.gradients(flights, &slope.gradient);
        }
        self.answer(&tile, &slope);
    }

    /// What each row's gradient is of: its own attack's objective, and of clean images the margin.
    fn objectives(&self, tile: &Tile, logits: &Tensor) -> Tensor {
        let surveyed = tile.rows.iter().any(|flight| flight.stage == Stage::Origin);
        let mut total = surveyed.then(|| margin(logits, &tile.labels));
        for (member, attack) in self.attacks.iter().enumerate() {
            let own = |flight: &Flight| flight.stage == Stage::Climb && flight.member == member;
            if !tile.rows.iter().any(own) {
                continue;
            }
            let values = attack.objective(tile, logits);
            total = Some(match total {
                None => values,
                Some(others) => {
                    let mine = tile.per_row(0.0, |flight| f64::from(u8::from(own(flight)))).view([-1]).gt(0.0);
                    values.where_self(&mine, &others)
                }
            });
        }
        total.expect("who waits for a gradient climbs, or is at its clean image")
    }

    /// Deals with a batch that has been through the network.
    fn answer(&mut self, tile: &Tile, slope: &Slope) {
        let named = predictions(&slope.logits);
        let wrong = |row: usize| named[row] != self.labels[tile.rows[row].example];
        let measured = (0..tile.rows.len()).any(|row| wrong(row) && self.matters(&tile.rows[row]));
        let distances = if measured { tile.ball.distances(&tile.origins, &tile.points) } else { Vec::new() };
        let margins = if self.thrifty { margins(&slope.logits, &tile.labels) } else { Vec::new() };
        let mut orders = Orders { moving: vec![Vec::new(); self.attacks.len()], ..Orders::default() };
        for (row, flight) in tile.rows.iter().cloned().enumerate() {
            let wrong = named[row] != self.labels[flight.example];
            if self.thrifty && flight.stage == Stage::Climb {
                let distance = distances.get(row).copied().filter(|_| wrong);
                self.note(&flight, margins[row], distance);
            }
            match flight.stage {
                Stage::Origin if wrong => self.finish(flight.slot, flight.example, Level::CLEAN),
                Stage::Origin => {
                    orders.surveyed.push(row);
                    orders.departing.extend(self.proceed(flight));
                }
                Stage::Climb if wrong && !flight.asked && self.news(&flight, &distances, row) => {
                    self.queues.push(flight.to(Stage::Confirm), Need::Verdict);
                }
                Stage::Climb => self.go_on(flight, tile, row, &mut orders),
                Stage::Confirm => match self.rung(&flight, distances.get(row).copied()).filter(|_| wrong) {
                    Some(rung) => {
                        let (predicted, distance) = (named[row], distances[row]);
                        self.record.found(&flight, &tile.points.get(row as i64), Found { rung, predicted, distance });
                        self.warm.iter_mut().for_each(|warm| warm.broke(tile, row, distance));
                        self.confirmed(flight, rung, tile, row, &mut orders);
                    }
                    None => self.refute(flight, tile, row, &mut orders),
                },
            }
        }
        self.survey(tile, slope, &orders.surveyed);
        self.advance(tile, slope, &orders.moving);
        self.depart(orders.departing);
    }

    /// Whether it matters how far from its clean image a misclassified iterate is.
    fn matters(&self, flight: &Flight) -> bool {
        flight.stage == Stage::Confirm || flight.stage == Stage::Climb && self.attacks[flight.member].strays()
    }

    /// Whether a misclassified iterate, if it is confirmed, changes what is known.
    fn news(&self, flight: &Flight, distances: &[f64], row: usize) -> bool {
        if !self.attacks[flight.member].strays() {
            return true;
        }
        let rung = self.rung(flight, distances.get(row).copied());
        rung.is_some_and(|rung| rung < self.brackets[flight.slot as usize].broken())
    }

    /// The first rung that an adversarial example at `distance` counts for.
    fn rung(&self, flight: &Flight, distance: Option<f64>) -> Option<usize> {
        let only = (!self.attacks[flight.member].any_radius()).then_some(flight.rung);
        self.ladder.rung(distance?, only)
    }

    /// An adversarial example for `rung` is verified.
    fn confirmed(&mut self, flight: Flight, rung: usize, tile: &Tile, row: usize, orders: &mut Orders) {
        let probe = Probe { member: flight.member, rung: flight.rung };
        self.brackets[flight.slot as usize].broke(probe, rung);
        if self.attacks[flight.member].any_radius() || rung > flight.rung {
            // There may be a nearer one; or it is not what was looked for.
            self.resume(flight, tile, row, orders);
        } else {
            orders.departing.extend(self.proceed(flight));
        }
    }

    /// A success that does not hold: the climb goes on where it was.
    fn refute(&mut self, flight: Flight, tile: &Tile, row: usize, orders: &mut Orders) {
        self.record.refuted();
        self.resume(flight, tile, row, orders);
    }

    /// Back from a confirmation to the climb.
    fn resume(&mut self, flight: Flight, tile: &Tile, row: usize, orders: &mut Orders) {
        let flight = flight.to(Stage::Climb);
        match self.attacks[flight.member].need(flight.step) {
            // The confirmation knows no gradient.
            Need::Gradient => self.queues.push(Flight { asked: true, ..flight }, Need::Gradient),
            Need::Logits | Need::Verdict => self.go_on(flight, tile, row, orders),
        }
    }

    /// On from an iterate that settles nothing: a step, the next climb, or the next probe.
    fn go_on(&mut self, flight: Flight, tile: &Tile, row: usize, orders: &mut Orders) {
        let attack = &self.attacks[flight.member];
        if attack.need(flight.step) != Need::Verdict && !self.hopeless(&flight) {
            orders.moving[flight.member].push(row);
            return;
        }
        if attack.starts_anywhere(flight.climb) {
            self.warm.iter_mut().for_each(|warm| warm.failed(tile, row));
        }
        if flight.climb + 1 < attack.climbs() {
            let (member, rung, epsilon, climb) = (flight.member, flight.rung, flight.epsilon, flight.climb + 1);
            orders.departing.push(flight.entering(member, rung, epsilon, climb));
        } else {
            let bracket = &mut self.brackets[flight.slot as usize];
            if attack.any_radius() {
                bracket.exhausted(flight.member);
            } else {
                bracket.withstood(Probe { member: flight.member, rung: flight.rung });
            }
            orders.departing.extend(self.proceed(flight));
        }
    }

    /// Takes note of how far a climb has come.
    fn note(&mut self, flight: &Flight, margin: f32, distance: Option<f64>) {
        let value = match self.attacks[flight.member].any_radius() {
            true => distance.map_or(f32::INFINITY, |distance| distance as f32),
            false => margin,
        };
        self.progress[flight.slot as usize].note(flight.step, value);
    }

    fn hopeless(&self, flight: &Flight) -> bool {
        if !self.thrifty {
            return false;
        }
        let attack = &self.attacks[flight.member];
        let edge = self.brackets[flight.slot as usize].broken().saturating_sub(1);
        let unit = attack.any_radius().then(|| self.ladder.epsilons[edge]);
        self.progress[flight.slot as usize].hopeless(attack.patience(), flight.step, attack.steps(), unit)
    }

    /// Sends a flight to its next probe, or lands it.
    fn proceed(&mut self, flight: Flight) -> Option<Flight> {
        let bracket = &mut self.brackets[flight.slot as usize];
        match bracket.next() {
            Some(probe) => Some(self.ladder.enter(flight, probe)),
            None => {
                let level = self.ladder.level(bracket);
                self.finish(flight.slot, flight.example, level);
                None
            }
        }
    }

    fn survey(&mut self, tile: &Tile, slope: &Slope, rows: &[usize]) {
        if rows.is_empty() || self.survey == Survey::Nothing {
            return;
        }
        let ranking = slope.logits.argsort(1, true);
        let _ = self.ranking.index_copy_(0, &tile.pick(&tile.slots, rows), &tile.pick(&ranking, rows));
        for attack in self.attacks.iter_mut().filter(|attack| attack.survey() == Survey::Gradient) {
            attack.surveyed(tile, rows, slope);
        }
    }

    fn advance(&mut self, tile: &Tile, slope: &Slope, moving: &[Vec<usize>]) {
        for (member, rows) in moving.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let next = self.attacks[member].advance(tile, rows, slope);
            let _ = self.points.index_copy_(0, &tile.pick(&tile.slots, rows), &next);
            for &row in rows {
                let flight = tile.rows[row].clone();
                self.queue(Flight { stage: Stage::Climb, step: flight.step + 1, asked: false, ..flight });
            }
        }
    }

    fn finish(&mut self, slot: i64, example: usize, level: Level) {
        self.free.push(slot);
        self.record.landed(example, level);
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
            ranking: self.ranking.index_select(0, &slots),
            ball: Ball::new(self.ladder.norm, &radii, self.points.device()),
            slots,
        }
    }

    fn index(&self, positions: &[i64]) -> Tensor {
        upload(&Tensor::from_slice(positions), self.points.device())
    }
}
