//! A second opinion: what a checkpoint says about given images, in one plain forward pass in 32 bits.
//!
//! It shares the network with the attacks, and nothing else.

use super::attacks::CPU_ROWS;
use super::error::guarded;
use super::models::{Blueprint, Network};
use super::{Device, LabError};
use epsweep::plan::EvaluateQuestion;
use tch::{Kind, Tensor};

/// A checkpoint that is asked about images.
pub struct Examiner {
    network: Network,
    /// Channels, height, width.
    shape: [i64; 3],
    /// Rows of every batch: those of the evaluation, so that kernels sum in the same order.
    rows: usize,
    device: Device,
}

/// What the network says about one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    pub predicted: i64,
    /// Logit of the true class minus the largest other: positive where it is classified correctly.
    pub margin: f64,
    /// How far the largest logit lies above the second.
    pub lead: f64,
    /// Largest logit, by its absolute value: what a margin is small against.
    pub size: f64,
}

/// Relative to the largest logit, what another order of summation may change.
const ROUNDING: f64 = 1e-5;

impl Judgement {
    /// Whether rounding alone may turn the verdict.
    pub fn is_close(&self) -> bool {
        self.margin.abs() <= ROUNDING * self.size
    }

    /// Whether rounding alone may turn the predicted class.
    pub fn is_tied(&self) -> bool {
        self.lead <= ROUNDING * self.size
    }
}

impl Examiner {
    /// # Errors
    /// [`LabError::BadInput`] when the weights are not the model's.
    pub fn new(
        question: &EvaluateQuestion,
        weights: &[u8],
        shape: [i64; 3],
        classes: i64,
        device: Device,
    ) -> Result<Examiner, LabError> {
        guarded(|| {
            let EvaluateQuestion { model, normalize, .. } = question;
            let blueprint = Blueprint { model, normalize: normalize.as_ref(), shape, classes, device };
            let network = blueprint.of_checkpoint(weights)?.frozen();
            let rows = match device {
                Device::Cpu => question.batch_size.min(CPU_ROWS),
                _ => question.batch_size,
            };
            Ok(Examiner { network, shape, rows: rows as usize, device })
        })
    }

    /// One judgement per image; images are CHW, labels the true classes.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn judge(&self, images: &[&[f32]], labels: &[i64]) -> Result<Vec<Judgement>, LabError> {
        guarded(|| {
            let batches = images.chunks(self.rows).zip(labels.chunks(self.rows));
            Ok(batches.flat_map(|(images, labels)| self.batch(images, labels)).collect())
        })
    }

    fn batch(&self, images: &[&[f32]], labels: &[i64]) -> Vec<Judgement> {
        let padding = self.rows - images.len();
        let padded = images.iter().chain(std::iter::repeat_n(&images[0], padding));
        let pixels: Vec<f32> = padded.flat_map(|image| image.iter().copied()).collect();
        let [channels, height, width] = self.shape;
        let batch = Tensor::from_slice(&pixels).view([-1, channels, height, width]).to_device(self.device);
        let logits = self.network.forward(&batch).to_kind(Kind::Double).to_device(Device::Cpu);
        let logits = logits.narrow(0, 0, images.len() as i64);
        let column = Tensor::from_slice(labels).unsqueeze(1);
        let others = logits.scatter_value(1, &column, f64::NEG_INFINITY).amax([1], false);
        let margins = logits.gather(1, &column, false).squeeze_dim(1) - others;
        let read = |tensor: Tensor| Vec::<f64>::try_from(tensor).expect("one number per row");
        let (best, _) = logits.topk(2, 1, true, true);
        let leads = read(best.select(1, 0) - best.select(1, 1));
        let (margins, sizes) = (read(margins), read(logits.abs().amax([1], false)));
        let predicted = Vec::<i64>::try_from(logits.argmax(1, false)).expect("one class per row");
        let rows = predicted.into_iter().zip(margins).zip(leads).zip(sizes);
        rows.map(|(((predicted, margin), lead), size)| Judgement { predicted, margin, lead, size }).collect()
    }
}
