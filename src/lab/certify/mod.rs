//! Certificates: up to which epsilon no adversarial example can exist.
//!
//! | module | holds |
//! |---|---|
//! | [`program`] | a feed-forward network in 64 bits, intervals through it, and the 32-bit rounding it must bear |
//! | [`linear`] | linear functions carried back from logits to the image (CROWN) |
//! | [`ball`] | margins over a whole ball |
//! | [`smoothing`] | certificates of the smoothed network (L2) |
//!
//! An attack bounds robustness from above, a certificate from below. Balls are nested, so a margin
//! that is positive over a ball is positive over every smaller one: each example's largest certified
//! epsilon is found by bisection, and its level is the position of the first that is not certified.

pub mod ball;
pub mod linear;
pub mod program;
pub mod smoothing;

use super::error::guarded;
use super::models::{Blueprint, Network};
use super::streams::Key;
use super::{LabData, LabError, Passes, Watch};
use ball::Method;
use epsweep::outcome::Level;
use epsweep::plan::question::CertifyQuestion;
use epsweep::spec::Certificate;
use program::Program;
use smoothing::Smoothing;
use tch::{Device, Tensor};

/// Images per batch. Fixed, so that an example's bounds do not depend on its company.
const IBP_ROWS: i64 = 32;
const CROWN_ROWS: i64 = 8;

/// A certification to run.
pub struct CertifyRequest<'a> {
    pub question: &'a CertifyQuestion,
    pub data: &'a LabData,
    /// The checkpoint, as [`super::Checkpoint::weights`] holds it.
    pub weights: &'a [u8],
    pub device: Device,
}

/// What was certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifyAnswer {
    /// One per example of the shard: the position of the first epsilon that is *not* certified; 0
    /// when not even the clean image is.
    pub levels: Vec<Level>,
    pub passes: Passes,
}

/// Certifies one checkpoint over one shard of the test set.
///
/// # Errors
/// Every [`LabError`] but `Diverged`; [`LabError::BadInput`] when the certificate does not exist for
/// the norm or the network.
pub fn certify(request: CertifyRequest, watch: &mut dyn Watch) -> Result<CertifyAnswer, LabError> {
    guarded(|| certify_inner(request, watch))
}

fn certify_inner(request: CertifyRequest, watch: &mut dyn Watch) -> Result<CertifyAnswer, LabError> {
    let CertifyRequest { question, data, weights, device } = request;
    check(question, data)?;
    let shape = data.test.shape();
    let CertifyQuestion { model, normalize, .. } = question;
    let blueprint = Blueprint { model, normalize: normalize.as_ref(), shape, classes: data.classes, device };
    let network = blueprint.of_checkpoint(weights)?.frozen();
    if question.certificate.is_deterministic() && network.is_module() {
        return Err(LabError::bad_input("there are no bounds for a TorchScript module"));
    }
    let mut work = Work { question, data, device, passes: Passes::default() };
    let levels = match question.certificate {
        Certificate::Ibp {} => work.balls(&Program::new(&network)?, Method::Ibp, IBP_ROWS, watch)?,
        Certificate::Crown {} => work.balls(&Program::new(&network)?, Method::Crown, CROWN_ROWS, watch)?,
        Certificate::Smoothing { sigma, n0, n, alpha } => {
            work.smoothed(&network, Smoothing { sigma, n0: n0.into(), n: n.into(), alpha }, watch)?
        }
    };
    work.passes.examples = levels.len() as u64;
    Ok(CertifyAnswer { levels, passes: work.passes })
}

fn check(question: &CertifyQuestion, data: &LabData) -> Result<(), LabError> {
    data.test.check("test", data.classes)?;
    let [from, to] = question.examples;
    if from >= to || i64::from(to) > data.test.count() {
        return Err(LabError::bad_input(format!("examples {from} to {to} of {}", data.test.count())));
    }
    let ascending = question.epsilons.is_sorted_by(|a, b| a < b);
    if !ascending || question.epsilons.iter().any(|e| !e.is_finite() || *e <= 0.0) {
        return Err(LabError::bad_input("epsilons must be positive, ascending and distinct"));
    }
    if question.norm != question.certificate.norm() {
        return Err(LabError::bad_input(format!("{} does not certify this norm", question.certificate.kind())));
    }
    Ok(())
}

/// A shard under way.
struct Work<'a> {
    question: &'a CertifyQuestion,
    data: &'a LabData,
    device: Device,
    passes: Passes,
}

/// Positions in the grid (0 is the clean image): certified up to `low - 1`, not at `high`.
#[derive(Clone, Copy)]
struct Bracket {
    low: usize,
    high: usize,
}

impl Bracket {
    /// What to look at next; none when the two have met.
    fn middle(self) -> Option<usize> {
        (self.low < self.high).then(|| self.low + (self.high - self.low) / 2)
    }
}

impl Work<'_> {
    /// Batches of `rows` images; short ones are filled up with their last image.
    fn balls(
        &mut self,
        program: &Program,
        method: Method,
        rows: i64,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Level>, LabError> {
        let [from, to] = self.question.examples.map(i64::from);
        let mut levels = Vec::new();
        for first in (from..to).step_by(rows as usize) {
            let count = rows.min(to - first);
            let batch = self.data.test.slice(first, first + count, self.device);
            let taken: Vec<i64> = (0..rows).map(|row| row.min(count - 1)).collect();
            let taken = Tensor::from_slice(&taken).to_device(self.device);
            let [pixels, labels] = [&batch.pixels, &batch.labels].map(|values| values.index_select(0, &taken));
            let open = Bracket { low: 0, high: self.question.epsilons.len() + 1 };
            let mut brackets = vec![open; count as usize];
            while brackets.iter().any(|bracket| bracket.middle().is_some()) {
                if watch.stop() {
                    return Err(LabError::Stopped);
                }
                let asked: Vec<Option<usize>> = brackets.iter().map(|bracket| bracket.middle()).collect();
                let epsilon = |row: usize| match asked.get(row).copied().flatten() {
                    Some(position) if position > 0 => self.question.epsilons[position - 1],
                    _ => 0.0,
                };
                let epsilons: Vec<f64> = (0..rows as usize).map(epsilon).collect();
                let margins = ball::margins(program, method, &pixels, &labels, &epsilons);
                let least = Vec::<f64>::try_from(margins.certain()).expect("one margin per row");
                for ((bracket, asked), least) in brackets.iter_mut().zip(&asked).zip(&least) {
                    let Some(position) = *asked else { continue };
                    // No number certifies nothing.
                    if *least > 0.0 { bracket.low = position + 1 } else { bracket.high = position }
                }
                let asked = asked.iter().flatten().count() as i64;
                self.count(method, asked);
            }
            levels.extend(brackets.iter().map(|bracket| Level(bracket.low as u16)));
            watch.examples(levels.len(), (to - from) as usize);
        }
        Ok(levels)
    }

    /// Centre, radius and rounding are a forward pass each; a function that is carried back, one backward.
    fn count(&mut self, method: Method, examples: i64) {
        self.passes.forward(3 * examples);
        if method == Method::Crown {
            self.passes.backwards += (examples * self.data.classes) as u64;
        }
    }

    fn smoothed(
        &mut self,
        network: &Network,
        smoothing: Smoothing,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Level>, LabError> {
        let [from, to] = self.question.examples;
        let mut levels = Vec::new();
        for index in from..to {
            let image = self.data.test.slice(index.into(), i64::from(index) + 1, self.device);
            let label = image.labels.int64_value(&[0]);
            // The same noise, scaled, for every sigma: more of it is then not luck.
            let key = Key::new("smoothing", self.question.seed.unwrap_or(0)).number(index.into());
            let radius = smoothing::certify(network, smoothing, &image.pixels, label, &key, &mut self.passes, watch)?;
            // The radius itself is not certified: the paper's inequality is strict.
            let reached = |radius: f64| self.question.epsilons.partition_point(|&epsilon| epsilon < radius) + 1;
            levels.push(Level(radius.map_or(0, reached) as u16));
            watch.examples(levels.len(), (to - from) as usize);
        }
        Ok(levels)
    }
}
