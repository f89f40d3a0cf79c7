//! `method: pretrained`: no training, but weights from a file, checked on real images.

use super::{Checkpoint, TrainAnswer, TrainRequest, blueprint};
use crate::lab::models::Network;
use crate::lab::models::inspect::inspect;
use crate::lab::{Images, LabData, LabError, Passes};
use epsweep::plan::facts::Facts;
use std::time::Instant;

/// As many training examples are looked at.
const LOOK: i64 = 256;

/// Loads the network and checks it; the answer is one checkpoint, of epoch 0, with the loss of the first
/// training examples.
///
/// # Errors
/// [`LabError::BadInput`] when the files do not fit each other or the data.
pub(super) fn import(request: &TrainRequest) -> Result<TrainAnswer, LabError> {
    let started = Instant::now();
    let TrainRequest { question, data, keep, given, device, .. } = *request;
    data.train.check("training", data.classes)?;
    if let Some(epoch) = keep.iter().find(|&&epoch| epoch != 0) {
        return Err(LabError::bad_input(format!("a pretrained network has no epoch {epoch}")));
    }
    let network = blueprint(question, data, device).initial(given, question.seed)?.frozen();
    let images = data.train.slice(0, LOOK.min(data.train.count()), device);
    let train_loss = check(&network, data, &images)?;
    for note in inspect(&network, &images.pixels)?.notes() {
        tracing::warn!(model = question.model.kind(), "{note}");
    }
    let mut passes = Passes::default();
    passes.forward(3 * images.count());
    let weights = network.to_weights()?;
    let (train_seconds, facts) = (started.elapsed().as_secs_f64(), Facts::default());
    let checkpoint = Checkpoint { epoch: 0, train_loss, train_seconds, facts, weights };
    Ok(TrainAnswer { checkpoints: vec![checkpoint], passes })
}

/// Whether `network` takes these images and gives one finite number per class; the mean cross-entropy.
///
/// # Errors
/// [`LabError::BadInput`] when it does not, which is what a module for another data set does.
pub(super) fn check(network: &Network, data: &LabData, images: &Images) -> Result<f64, LabError> {
    let size = images.pixels.size();
    let answer = network.try_forward(&images.pixels);
    let logits = answer.map_err(|error| match error {
        LabError::Torch(why) => LabError::bad_input(format!("the network does not take images {size:?}: {why}")),
        other => other,
    })?;
    if logits.size() != [size[0], data.classes] {
        let (found, classes) = (logits.size(), data.classes);
        let what = format!("the network makes {found:?} of images {size:?}; the data set has {classes} classes");
        return Err(LabError::bad_input(what));
    }
    let loss = logits.cross_entropy_for_logits(&images.labels).double_value(&[]);
    if !network.is_finite() || !loss.is_finite() {
        return Err(LabError::bad_input("the network holds or gives numbers that are not finite"));
    }
    Ok(loss)
}
