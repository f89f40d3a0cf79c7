//! The attack inside a training step, and the noise that it starts from.

use super::methods::Batch;
use crate::lab::attacks::ball::{Ball, random_offset};
use crate::lab::attacks::gradient;
use crate::lab::attacks::pgd::step_sizes;
use crate::lab::data::upload;
use crate::lab::models::Network;
use crate::lab::streams::{Key, Stream};
use crate::lab::{Images, Passes};
use epsweep::spec::Norm;
use tch::{Kind, Tensor};

/// Projected ascent in which every row takes all steps.
#[derive(Debug, Clone, Copy)]
pub struct InnerAttack {
    /// Pixel units of `[0,1]`.
    pub epsilon: f64,
    pub steps: u32,
    /// Pixel units; 2.5 epsilon / steps when absent.
    pub step: Option<f64>,
    pub norm: Norm,
}

impl InnerAttack {
    /// Uniform in the ball, cut to `[0,1]`.
    pub fn random_start(&self, images: &Tensor, key: &Key) -> Tensor {
        let count = images.size()[0] as usize;
        let draw = |stream: &mut Stream, total: usize| match self.norm {
            // One draw for the whole batch.
            Norm::Linf => random_offset(Norm::Linf, stream, total),
            norm => (0..count).flat_map(|_| random_offset(norm, stream, total / count)).collect(),
        };
        (images + noise_like(images, draw, key) * self.epsilon).clamp(0.0, 1.0)
    }

    /// Projected ascent of `objective`, a function of the logits summed over the batch.
    pub fn run(
        &self,
        network: &Network,
        images: &Tensor,
        start: Tensor,
        objective: impl Fn(&Tensor) -> Tensor,
        passes: &mut Passes,
    ) -> Tensor {
        let ball = Ball::new(self.norm, &[self.epsilon], images.device());
        let step = step_sizes(self.step, self.steps, &ball.radius);
        let mut point = start;
        for _ in 0..self.steps {
            let slope = gradient::ascend(network, &point, &objective);
            passes.gradient(point.size()[0]);
            point = ball.ascend(images, &point, &slope.gradient, &step);
        }
        point
    }

    /// Share of `examples` that the network still gets right after the attack, at its last point.
    pub fn accuracy(&self, network: &Network, examples: &Images, start: Tensor, passes: &mut Passes) -> f64 {
        let (images, labels) = (&examples.pixels, &examples.labels);
        let points = self.run(network, images, start, |logits: &Tensor| gradient::margin(logits, labels), passes);
        passes.forward(examples.count());
        let right = network.forward(&points).argmax(1, false).eq_tensor(labels);
        right.sum(Kind::Int64).int64_value(&[]) as f64 / examples.count() as f64
    }

    /// PGD on the margin of `batch`'s labels, from a random start.
    pub fn break_labels(&self, network: &Network, batch: &Batch, start: Tensor, passes: &mut Passes) -> Tensor {
        self.run(network, batch.images, start, |logits: &Tensor| gradient::margin(logits, batch.labels), passes)
    }
}

/// Standard normal numbers in the shape of `images`.
pub fn normal_noise(images: &Tensor, key: &Key) -> Tensor {
    noise_like(images, |stream, count| stream.normals(count), key)
}

fn noise_like(images: &Tensor, draw: impl FnOnce(&mut Stream, usize) -> Vec<f32>, key: &Key) -> Tensor {
    let values = draw(&mut key.stream(), images.numel());
    upload(&Tensor::from_slice(&values).view_as(images), images.device())
}
