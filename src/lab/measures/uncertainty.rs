//! Samples of a loss and of the gradient of its logarithm, on which the uncertainties are computed.
//!
//! The cross-entropy is softplus(m) of the margin m = log sum_{i != y} exp z_i - z_y, and one backward
//! pass through m gives the gradient of its logarithm, (sigmoid(m) / softplus(m)) grad m. Computed like
//! this, nothing is lost where a network is so sure that its cross-entropy rounds to 0 in 32 bits.

use super::domain::Region;
use crate::lab::attacks::CPU_ROWS;
use crate::lab::attacks::gradient::{ascend, best_other, margin};
use crate::lab::models::Network;
use crate::lab::streams::Key;
use crate::lab::{LabData, LabError, Passes, Watch};
use epsweep::measure::moments::Groups;
use epsweep::measure::uncertainty::{Answer, Unit};
use epsweep::plan::question::MeasureQuestion;
use epsweep::spec::{Domain, MeasuredLoss, Uncertainty};
use tch::{Device, Tensor};

/// Rows per batch where there is more than a CPU.
const DEVICE_ROWS: u32 = 256;

/// Measures the units of one question.
pub struct Sampler<'a> {
    asked: &'a Uncertainty,
    question: &'a MeasureQuestion,
    data: &'a LabData,
    network: &'a Network,
    device: Device,
    /// The domain of all units, where they share one.
    shared: Option<Region>,
}

impl<'a> Sampler<'a> {
    /// # Errors
    /// [`LabError::BadInput`] when the question does not fit the data.
    pub fn new(
        asked: &'a Uncertainty,
        question: &'a MeasureQuestion,
        data: &'a LabData,
        network: &'a Network,
        device: Device,
    ) -> Result<Sampler<'a>, LabError> {
        let [from, to] = question.units;
        let units = if asked.domain == Domain::Box { data.test.count() } else { data.classes };
        if from >= to || i64::from(to) > units {
            return Err(LabError::bad_input(format!("units {from} to {to} of {units}")));
        }
        let shared = match asked.domain {
            Domain::Box => match asked.radius {
                Some(radius) if radius > 0.0 && radius <= 1.0 => None,
                other => return Err(LabError::bad_input(format!("a box of radius {other:?}"))),
            },
            Domain::Data => Some(Region::of_data(data)),
            Domain::Plane => Some(Region::plane(data)),
        };
        Ok(Sampler { asked, question, data, network, device, shared })
    }

    /// Measures all units in order.
    ///
    /// # Errors
    /// [`LabError::Stopped`], or what libtorch complains about.
    pub fn run(&self, passes: &mut Passes, watch: &mut dyn Watch) -> Result<Answer, LabError> {
        let [from, to] = self.question.units;
        let mut answer = Answer::default();
        for index in from..to {
            let (region, label) = self.unit(index);
            let groups = self.sample(&region, index, label, passes, watch)?;
            let figures = groups.figures();
            let unit = Unit { class: u32::try_from(label).unwrap_or(u32::MAX), figures };
            answer.push(unit, &region.spread_out(groups.total().features()));
            watch.examples((index - from + 1) as usize, (to - from) as usize);
        }
        Ok(answer)
    }

    /// A unit's domain and label.
    fn unit(&self, index: u32) -> (Region, i64) {
        let Some(shared) = &self.shared else {
            let example = self.data.test.slice(index.into(), i64::from(index) + 1, Device::Cpu);
            let image = Vec::<f32>::try_from(example.pixels.view([-1])).expect("pixels are 32-bit floats");
            let region = Region::around(&image, self.asked.radius.unwrap_or_default(), self.asked.clip);
            return (region, example.labels.int64_value(&[0]));
        };
        (shared.clone(), index.into())
    }

    /// Draws the samples of a unit. Its random numbers depend on the seed, the kind of domain and the
    /// unit alone: other checkpoints, radii and losses are measured at the same points, and more
    /// samples go on where fewer stop.
    fn sample(
        &self,
        region: &Region,
        index: u32,
        label: i64,
        passes: &mut Passes,
        watch: &mut dyn Watch,
    ) -> Result<Groups, LabError> {
        let [channels, height, width] = self.data.test.shape();
        let rows = if self.device == Device::Cpu { CPU_ROWS } else { DEVICE_ROWS } as usize;
        let key = Key::new("uncertainty", self.question.seed).text(self.asked.domain.word());
        let mut stream = key.number(index.into()).stream();
        let pixels = (channels * height * width) as usize;
        let labels = Tensor::full([rows as i64], label, (tch::Kind::Int64, self.device));
        let samples = u64::from(self.asked.samples);
        let mut groups = Groups::new(region.dimensions());
        for first in (0..samples).step_by(rows) {
            if watch.stop() {
                return Err(LabError::Stopped);
            }
            let count = (samples - first).min(rows as u64) as usize;
            let mut images = Vec::with_capacity(rows * pixels);
            let positions: Vec<Vec<f64>> =
                (0..count).map(|_| region.point(&stream.units(region.units()), &mut images)).collect();
            // Batches have one shape: kernels may sum in an order that depends on it.
            for _ in count..rows {
                images.extend_from_within(..pixels);
            }
            let images = Tensor::from_slice(&images).view([rows as i64, channels, height, width]);
            let (values, gradient) = slopes(self.network, self.asked.loss, &images.to_device(self.device), &labels);
            passes.gradient(count as i64);
            for (row, position) in positions.iter().enumerate() {
                let (log_loss, factor) = logarithm(self.asked.loss, values[row].into());
                let slope = &gradient[row * pixels..(row + 1) * pixels];
                groups.add(first + row as u64, samples, log_loss, position, &region.momentum(slope, factor));
            }
        }
        Ok(groups)
    }
}

/// The margin that a loss is a function of, `[n]`, and its gradient at the images, row after row.
pub fn slopes(network: &Network, loss: MeasuredLoss, images: &Tensor, labels: &Tensor) -> (Vec<f32>, Vec<f32>) {
    let slope = ascend(network, images, |logits| match loss {
        MeasuredLoss::Ce | MeasuredLoss::Error => margin(logits, labels),
        MeasuredLoss::Hinge => best_other(logits, labels),
    });
    let numbers = |tensor: &Tensor| {
        let tensor = tensor.to_device(Device::Cpu).contiguous().view([-1]);
        Vec::<f32>::try_from(tensor).expect("networks answer in 32-bit floats")
    };
    (numbers(&slope.values), numbers(&slope.gradient))
}

/// The logarithm of a loss at margin `m`, and its derivative by m. Minus infinity where the loss is 0; a
/// margin that is not a number stays none.
pub fn logarithm(loss: MeasuredLoss, m: f64) -> (f64, f64) {
    // Where it is not, 1 + e^m rounds: log softplus(m) = m - e^m / 2 + ...
    let sure = m < -40.0;
    let softplus = if m > 0.0 { m + (-m).exp().ln_1p() } else { m.exp().ln_1p() };
    let sigmoid = 1.0 / (1.0 + (-m).exp());
    match loss {
        MeasuredLoss::Ce if sure => (m, 1.0),
        MeasuredLoss::Ce => (softplus.ln(), sigmoid / softplus),
        MeasuredLoss::Error => (m - softplus, 1.0 - sigmoid),
        MeasuredLoss::Hinge if m <= -1.0 => (f64::NEG_INFINITY, 0.0),
        MeasuredLoss::Hinge => (m.ln_1p(), 1.0 / (1.0 + m)),
    }
}
