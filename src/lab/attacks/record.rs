//! What an evaluation keeps besides levels: the witnesses that were asked for, and what it noticed
//! about network and attack on the way ([`Trust`]). It only looks on, and changes no level.

use super::flight::Flight;
use crate::lab::Images;
use crate::lab::models::Network;
use crate::lab::models::inspect::inspect;
use epsweep::outcome::Level;
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, AttackLoss, Witnesses};
use epsweep::trust::{MemberTrust, Trust};
use epsweep::witness::Witness;
use tch::{Kind, Tensor};

/// Images that the network is tried on before the attack. They are too few to be counted as passes.
const PROBED: i64 = 8;
/// Outputs that differ by more than this, relative to the largest, differ by more than rounding.
const ROUNDING: f64 = 1e-4;

/// Looks over an engine's shoulder.
pub struct Record {
    keep: Witnesses,
    epsilons: Vec<f64>,
    labels: Vec<i64>,
    first: u32,
    trust: Trust,
    /// By example: whether its first gradient has been seen.
    seen: Vec<bool>,
    /// By example: what last made its level smaller.
    latest: Vec<Option<Break>>,
    /// By example.
    witnesses: Vec<Vec<Witness>>,
}

/// A verified adversarial example.
pub struct Found {
    pub rung: usize,
    pub predicted: i64,
    pub distance: f64,
}

#[derive(Clone, Copy)]
struct Break {
    rung: usize,
    member: usize,
    step: u32,
    climb: u32,
}

impl Record {
    /// Also tries the network on a few of the shard's `images`.
    pub fn new(
        question: &EvaluateQuestion,
        members: &[Attack],
        network: &Network,
        images: &Images,
        classes: i64,
    ) -> Record {
        let labels = Vec::<i64>::try_from(&images.labels).expect("labels are one row of integers");
        let count = labels.len();
        let mut trust = probe(|batch| network.forward(batch), images);
        trust.train_mode = network.is_module() && inspect(network, &some(images)).is_ok_and(|facts| facts.train_mode);
        trust.members = members.iter().map(member).collect();
        trust.labels = vec![0; classes as usize];
        labels.iter().for_each(|&label| trust.labels[label as usize] += 1);
        trust.replaced_loss = members.iter().any(|attack| match *attack {
            Attack::Apgd { loss, .. } => super::apgd::defined(loss, classes) != loss,
            _ => false,
        });
        Record {
            keep: question.witnesses,
            epsilons: question.epsilons.clone(),
            labels,
            first: question.examples[0],
            trust,
            seen: vec![false; count],
            latest: vec![None; count],
            witnesses: vec![Vec::new(); count],
        }
    }

    /// The gradients of a batch whose first rows belong to `flights`.
    pub fn gradients(&mut self, flights: &[Flight], gradient: &Tensor) {
        if flights.iter().all(|flight| self.seen[flight.example]) {
            return;
        }
        let sizes = gradient.abs().flatten(1, -1).amax([1], false).to_kind(Kind::Double);
        let sizes = Vec::<f64>::try_from(sizes).expect("one number per row");
        for (flight, size) in flights.iter().zip(sizes) {
            if !std::mem::replace(&mut self.seen[flight.example], true) {
                self.trust.gradients += 1;
                self.trust.zero_gradients += u64::from(size == 0.0);
            }
        }
    }

    /// `point` is an adversarial example for the rung of `found`.
    pub fn found(&mut self, flight: &Flight, point: &Tensor, found: Found) {
        let example = flight.example;
        let Found { rung, predicted, distance } = found;
        if self.latest[example].is_some_and(|before| before.rung <= rung) {
            return;
        }
        self.latest[example] = Some(Break { rung, member: flight.member, step: flight.step, climb: flight.climb });
        match self.keep {
            Witnesses::None => return,
            Witnesses::Break => self.witnesses[example].clear(),
            Witnesses::All => {}
        }
        let flat = point.flatten(0, -1).to_kind(Kind::Float).to_device(tch::Device::Cpu);
        self.witnesses[example].push(Witness {
            index: self.first + example as u32,
            label: self.labels[example],
            predicted,
            level: rung as u16 + 1,
            epsilon: self.epsilons[rung],
            distance,
            member: flight.member as u32,
            pixels: Vec::<f32>::try_from(flat).expect("an image is a row of numbers"),
        });
    }

    pub fn refuted(&mut self) {
        self.trust.refuted += 1;
    }

    /// An example that was in flight has its final level.
    pub fn landed(&mut self, example: usize, level: Level) {
        if level == Level::CLEAN {
            return;
        }
        self.trust.attacked += 1;
        let Some(last) = self.latest[example] else { return };
        let member = &mut self.trust.members[last.member];
        member.breaks += 1;
        member.late += u64::from(member.is_late(last.step.into()));
        // Restarts are the outer or the inner loop of an attack's climbs; only plain ones are told apart.
        let last_restart = member.restarts > 1 && u64::from(last.climb) + 1 == member.restarts;
        member.last_restart += u64::from(last_restart);
    }

    /// What was noticed, and the witnesses by example.
    pub fn finish(self) -> (Trust, Vec<Witness>) {
        (self.trust, self.witnesses.into_iter().flatten().collect())
    }
}

/// An attack of the cascade before it has found anything.
fn member(attack: &Attack) -> MemberTrust {
    let loss = |loss: &AttackLoss| match loss {
        AttackLoss::Ce => "apgd-ce",
        AttackLoss::Dlr => "apgd-dlr",
        AttackLoss::DlrTargeted => "apgd-dlr_targeted",
    };
    let (name, steps, restarts) = match attack {
        Attack::Pgd { steps, restarts, .. } => ("pgd", *steps, *restarts),
        // Climbs towards several targets are no restarts.
        Attack::Apgd { loss: of @ AttackLoss::DlrTargeted, steps, .. } => (loss(of), *steps, 1),
        Attack::Apgd { loss: of, steps, restarts, .. } => (loss(of), *steps, *restarts),
        Attack::Fab { steps, .. } => ("fab", *steps, 1),
        Attack::Ddn { steps } => ("ddn", *steps, 1),
        // Each search begins where the one before has weighed the loss wrongly: no restarts either.
        Attack::Cw { steps, .. } => ("cw", *steps, 1),
        Attack::Square { queries } => ("square", *queries, 1),
        Attack::Fgsm {} | Attack::Autoattack { .. } => (attack.kind(), 1, 1),
    };
    MemberTrust { name: name.into(), steps: steps.into(), restarts: restarts.into(), ..MemberTrust::default() }
}

fn some(images: &Images) -> Tensor {
    images.pixels.narrow(0, 0, images.count().min(PROBED))
}

/// Tries a network on a few images: whether it answers at random, with probabilities, or depending on
/// the rest of a batch; and whether the images lie in the box.
pub fn probe(network: impl Fn(&Tensor) -> Tensor, images: &Images) -> Trust {
    let pixels = &images.pixels;
    let outside = pixels.ge(0.0).logical_and(&pixels.le(1.0)).logical_not().sum(Kind::Int64);
    let batch = some(images);
    let outputs = network(&batch);
    let apart = |a: &Tensor, b: &Tensor| {
        let size = 1.0 + a.abs().amax([0, 1], false).double_value(&[]);
        (a - b).abs().amax([0, 1], false).double_value(&[]) > ROUNDING * size
    };
    let random = apart(&outputs, &network(&batch));
    let alone = network(&batch.narrow(0, 0, 1).expand_as(&batch).contiguous());
    let sums = (outputs.sum_dim_intlist([1i64].as_slice(), false, Kind::Float) - 1.0).abs();
    let (least, off) = (outputs.min().double_value(&[]), sums.max().double_value(&[]));
    Trust {
        pixels: images.shape().iter().product::<i64>() as u64,
        outside_box: outside.int64_value(&[]) as u64,
        random_outputs: random,
        // What is random differs anyhow.
        batch_dependent: !random && apart(&outputs.narrow(0, 0, 1), &alone.narrow(0, 0, 1)),
        softmax_outputs: least >= 0.0 && off < ROUNDING,
        ..Trust::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tch::Device;

    fn images() -> Images {
        let pixels: Vec<f32> = (0..12 * 4).map(|value| (value % 7) as f32 / 7.0).collect();
        Images {
            pixels: Tensor::from_slice(&pixels).view([12, 1, 2, 2]),
            labels: Tensor::zeros([12], (Kind::Int64, Device::Cpu)),
        }
    }

    fn linear(batch: &Tensor) -> Tensor {
        let weights = Tensor::from_slice(&[1f32, -2.0, 0.5, 3.0, 2.0, 0.1, -1.0, 1.0]).view([4, 2]);
        batch.flatten(1, -1).matmul(&weights)
    }

    #[test]
    fn a_sound_network_on_sound_images_gives_no_warning() {
        assert_eq!(probe(linear, &images()), Trust { pixels: 4, ..Trust::default() });
    }

    #[test]
    fn what_is_wrong_with_a_network_is_noticed() {
        let calls = Cell::new(0.0);
        let random = |batch: &Tensor| {
            calls.set(calls.get() + 0.01);
            linear(batch) + calls.get()
        };
        assert_eq!(probe(random, &images()), Trust { random_outputs: true, pixels: 4, ..Trust::default() });
        let normalised = |batch: &Tensor| {
            let outputs = linear(batch);
            &outputs - outputs.mean_dim([0i64].as_slice(), true, Kind::Float)
        };
        assert_eq!(probe(normalised, &images()), Trust { batch_dependent: true, pixels: 4, ..Trust::default() });
        let softmax = |batch: &Tensor| linear(batch).softmax(1, Kind::Float);
        assert_eq!(probe(softmax, &images()), Trust { softmax_outputs: true, pixels: 4, ..Trust::default() });
    }

    #[test]
    fn pixels_outside_the_box_are_counted() {
        let mut images = images();
        images.pixels *= 255.0;
        let outside = probe(linear, &images).outside_box;
        assert!(outside > 30, "{outside}");
        images.pixels = images.pixels.fill(f64::NAN);
        assert_eq!(probe(linear, &images).outside_box, 48);
    }
}
