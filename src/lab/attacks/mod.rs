//! Evaluation: which test examples break, and at which epsilon first.
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | moves examples through clean check, climbs and confirmation; keeps batches full |
//! | [`ladder`] | the grid, and what earlier answers say about it |
//! | [`shapes`] | how many rows batches have |
//! | [`queues`] | who waits for a gradient, who for a verdict |
//! | [`search`] | which attack at which epsilon comes next for an example |
//! | [`thrift`] | when a climb is given up |
//! | [`warm`] | climbs that begin where others ended |
//! | [`flight`] | what passes between the engine and an attack |
//! | [`fgsm`], [`pgd`], [`apgd`], [`apgd_l1`], [`fab`], [`square`], [`ddn`], [`cw`] | where to step |
//! | [`ball`], [`l1`], [`hyperplane`] | the threat model's geometry |
//! | [`gradient`] | the objectives, and the slope that attacks follow |
//! | [`record`] | what is kept besides levels: witnesses, and facts that say how far to trust them |
//!
//! A new attack implements [`flight::Attack`].

pub mod apgd;
pub mod apgd_l1;
pub mod ball;
pub mod cw;
pub mod ddn;
pub mod engine;
pub mod fab;
pub mod fgsm;
pub mod flight;
pub mod gradient;
pub mod hyperplane;
pub mod l1;
pub mod ladder;
pub mod pgd;
mod queues;
pub mod record;
pub mod search;
pub mod shapes;
pub mod square;
pub mod thrift;
mod warm;

use super::error::guarded;
use super::models::Blueprint;
use super::streams::Key;
use super::{LabData, LabError, Passes, Watch};
use engine::Engine;
use epsweep::outcome::{Known, Level};
use epsweep::plan::question::EvaluateQuestion;
use epsweep::spec::{Attack, Norm};
use epsweep::trust::Trust;
use epsweep::witness::Witness;
use flight::Attack as Move;
use ladder::Ladder;
use record::Record;
pub use shapes::CPU_ROWS;
use shapes::{Batches, slots};
use tch::{Device, Kind, Tensor};

/// An evaluation to run.
pub struct EvaluateRequest<'a> {
    pub question: &'a EvaluateQuestion,
    pub data: &'a LabData,
    /// The checkpoint, as [`super::Checkpoint::weights`] holds it.
    pub weights: &'a [u8],
    /// Earlier answers of the same [`EvaluateQuestion::family`]: what they settle is not attacked again.
    pub known: &'a [Known],
    pub device: Device,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateAnswer {
    /// One per example of the shard, over the question's epsilons.
    pub levels: Vec<Level>,
    pub passes: Passes,
    /// Successes of the search that the separate check did not confirm, and that do not count.
    pub refuted: u64,
    /// What was noticed about the network and the attack.
    pub trust: Trust,
    /// Those that the question asks for, by example, then in the order they were found.
    pub witnesses: Vec<Witness>,
}

/// Attacks one checkpoint over one shard of the test set.
///
/// On one kind of CPU, an example's level is a function of the weights, the example and the question
/// alone: neither the shard, nor `known`, nor the other examples change its arithmetic, since batches have the same
/// shape, or shapes that give the same bits; see [`shapes`].
///
/// # Errors
/// Every [`LabError`] but `Diverged`.
pub fn evaluate(request: EvaluateRequest, watch: &mut dyn Watch) -> Result<EvaluateAnswer, LabError> {
    let members = request.question.attack.cascade(request.question.norm);
    evaluate_with(&members, request, watch)
}

/// As [`evaluate`], with `members` in place of what the question's attack consists of.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_with(
    members: &[Attack],
    request: EvaluateRequest,
    watch: &mut dyn Watch,
) -> Result<EvaluateAnswer, LabError> {
    guarded(|| evaluate_inner(members, request, watch))
}

fn evaluate_inner(
    members: &[Attack],
    request: EvaluateRequest,
    watch: &mut dyn Watch,
) -> Result<EvaluateAnswer, LabError> {
    let EvaluateRequest { question, data, weights, known, device } = request;
    check(question, members, data, known)?;
    let [from, to] = question.examples.map(i64::from);
    let shape = data.test.shape();
    let EvaluateQuestion { model, normalize, .. } = question;
    let blueprint = Blueprint { model, normalize: normalize.as_ref(), shape, classes: data.classes, device };
    let network = blueprint.of_checkpoint(weights)?.frozen();
    let (name, precision) = (format!("{model:?} {normalize:?}"), question.search_precision);
    let batches = Batches { network: &network, name, norm: question.norm, precision, shape, device };
    let shapes = batches.shapes(question.batch_size, (to - from) as usize);
    let images = data.test.slice(from, to, device);
    let ladder = Ladder { norm: question.norm, epsilons: &question.epsilons, search: question.search, known };
    let place = Place { slots: slots(*shapes.last().expect("at least one")), shape, classes: data.classes, device };
    let mut cascade = members.iter().map(|attack| place.attack(attack, question)).collect::<Result<Vec<_>, _>>()?;
    let classes = u32::try_from(data.classes).expect("classes are labels of one byte");
    let sizes = [classes, question.examples[0]];
    let record = Record::new(question, members, &network, &images, data.classes);
    let engine = Engine::new(&network, &mut cascade, ladder, images, sizes, shapes, record);
    let engine = engine.thrifty(question.attack.is_thrifty()).warm(question.warm_starts);
    engine.searching_in(question.search_precision).run(watch)
}

/// What an attack needs room for.
struct Place {
    slots: i64,
    shape: [i64; 3],
    classes: i64,
    device: Device,
}

impl Place {
    fn attack(&self, attack: &Attack, question: &EvaluateQuestion) -> Result<Box<dyn Move>, LabError> {
        Ok(match *attack {
            Attack::Fgsm {} => Box::new(fgsm::Fgsm::new(self.slots, self.shape, self.device)),
            Attack::Pgd { steps, step, restarts } => {
                Box::new(pgd::Pgd { steps, step, restarts, starts: starts(question, "pgd") })
            }
            Attack::Apgd { loss, steps, restarts, targets, samples } => {
                let used = apgd::defined(loss, self.classes);
                if used != loss {
                    tracing::warn!(
                        ?loss,
                        classes = self.classes,
                        "too few classes for this loss: cross-entropy instead"
                    );
                }
                let starts = starts(question, "apgd").text(&format!("{loss:?}"));
                let targets = targets.min(self.classes as u32 - 1);
                let sizes = [steps, restarts, targets];
                if question.norm == Norm::L1 {
                    return Ok(Box::new(apgd_l1::ApgdL1::new(used, sizes, samples, starts, self.slots)));
                }
                let [channels, height, width] = self.shape;
                let state = Tensor::zeros([self.slots, channels, height, width], (Kind::Float, self.device));
                Box::new(apgd::Apgd::new(used, sizes, samples, starts, &state))
            }
            Attack::Fab { steps, targets, restarts } => {
                let classes = self.classes as u32;
                let sizes = [steps, restarts, targets.min(classes - 1), classes];
                Box::new(fab::Fab::new(sizes, starts(question, "fab"), self.slots))
            }
            Attack::Ddn { steps } => Box::new(ddn::Ddn::new(steps, self.slots)),
            Attack::Cw { steps, searches, lr } => {
                Box::new(cw::Cw::new([steps, searches], lr, cw::FIRST_WEIGHT, self.slots))
            }
            Attack::Square { queries } => {
                Box::new(square::Square::new(queries, starts(question, "square"), self.slots))
            }
            Attack::Autoattack { .. } => {
                return Err(LabError::bad_input("AutoAttack is a cascade and cannot be part of one"));
            }
        })
    }
}

/// The key that all random starts of a question share. Steps, step size and the number of restarts
/// stay out of it: PGD with more of them begins where PGD with fewer does, so that what it finds
/// beyond is owed to the steps and not to luck, and more restarts never find less.
fn starts(question: &EvaluateQuestion, attack: &str) -> Key {
    let norm = match question.norm {
        Norm::Linf => "linf",
        Norm::L2 => "l2",
        Norm::L1 => "l1",
    };
    Key::new("attack start", question.seed).text(attack).text(norm)
}

fn check(question: &EvaluateQuestion, members: &[Attack], data: &LabData, known: &[Known]) -> Result<(), LabError> {
    data.test.check("test", data.classes)?;
    let [from, to] = question.examples;
    if from >= to || i64::from(to) > data.test.count() {
        return Err(LabError::bad_input(format!("examples {from} to {to} of {}", data.test.count())));
    }
    let ascending = question.epsilons.is_sorted_by(|a, b| a < b);
    if !ascending || question.epsilons.iter().any(|e| !e.is_finite() || *e <= 0.0) {
        return Err(LabError::bad_input("epsilons must be positive, ascending and distinct"));
    }
    if question.batch_size == 0 || data.classes < 2 {
        return Err(LabError::bad_input("an evaluation needs a batch size and at least two classes"));
    }
    if members.iter().any(|attack| attack.passes().0 == 0) {
        return Err(LabError::bad_input("an attack needs at least one step, restart and target"));
    }
    let count = (to - from) as usize;
    let possible = |answer: &Known| {
        let unbroken = Level::unbroken(answer.epsilons.len());
        answer.levels.iter().all(|level| *level <= unbroken || !level.is_known())
    };
    if !known.iter().all(possible) {
        return Err(LabError::bad_input("an earlier answer has levels beyond its grid"));
    }
    if known.iter().any(|answer| answer.levels.len() != count) {
        return Err(LabError::bad_input(format!("an earlier answer does not speak of these {count} examples")));
    }
    Ok(())
}
