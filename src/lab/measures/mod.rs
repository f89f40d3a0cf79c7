//! Measures: what a checkpoint is like, beside how it withstands attacks.
//!
//! | module | holds |
//! |---|---|
//! | [`domain`] | boxes and planes: from random numbers to images, and from gradients back |
//! | [`regions`] | draws maps of what a network names on a plane |
//! | [`uncertainty`] | samples a loss and its gradient on them |
//!
//! Arithmetic without a network is in [`epsweep::measure`]. Units (test examples or classes) are
//! measured one after the other, each from random numbers of its own and in batches of its own, so
//! that an answer depends on neither shard nor company.

pub mod domain;
pub mod regions;
pub mod uncertainty;

use super::error::guarded;
use super::models::Blueprint;
use super::{LabData, LabError, Passes, Watch};
use epsweep::measure::MeasureAnswer;
use epsweep::plan::question::MeasureQuestion;
use epsweep::spec::Measure;
use tch::Device;

/// A measure to take.
pub struct MeasureRequest<'a> {
    pub question: &'a MeasureQuestion,
    pub data: &'a LabData,
    /// The checkpoint, as [`super::Checkpoint::weights`] holds it.
    pub weights: &'a [u8],
    pub device: Device,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureResult {
    pub answer: MeasureAnswer,
    pub passes: Passes,
}

/// Takes a measure of one checkpoint over some units.
///
/// # Errors
/// Every [`LabError`] but `Diverged`.
pub fn measure(request: MeasureRequest, watch: &mut dyn Watch) -> Result<MeasureResult, LabError> {
    guarded(|| measure_inner(request, watch))
}

fn measure_inner(request: MeasureRequest, watch: &mut dyn Watch) -> Result<MeasureResult, LabError> {
    let MeasureRequest { question, data, weights, device } = request;
    data.test.check("test", data.classes)?;
    data.train.check("training", data.classes)?;
    let shape = data.test.shape();
    let MeasureQuestion { model, normalize, .. } = question;
    let blueprint = Blueprint { model, normalize: normalize.as_ref(), shape, classes: data.classes, device };
    let network = blueprint.of_checkpoint(weights)?.frozen();
    let mut passes = Passes::default();
    let answer = match &question.measure {
        Measure::Uncertainty(asked) => {
            let sampler = uncertainty::Sampler::new(asked, question, data, &network, device)?;
            MeasureAnswer::Uncertainty(sampler.run(&mut passes, watch)?)
        }
        Measure::Regions(asked) => {
            let surveyor = regions::Surveyor { asked, data, network: &network, device };
            MeasureAnswer::Regions(surveyor.run(&mut passes, watch)?)
        }
    };
    passes.examples = u64::from(question.units[1] - question.units[0]);
    Ok(MeasureResult { answer, passes })
}
