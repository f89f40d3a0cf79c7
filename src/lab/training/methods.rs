//! Training losses: natural, adversarial (Madry et al.) and TRADES (Zhang et al.).

use crate::lab::Passes;
use crate::lab::attacks::ball::{Ball, random_offset};
use crate::lab::attacks::gradient;
use crate::lab::attacks::pgd::step_sizes;
use crate::lab::models::{Mode, Network};
use crate::lab::streams::{Key, Stream};
use epsweep::spec::{Method, Norm};
use tch::{Kind, Reduction, Tensor};

/// Standard deviation of the noise that TRADES starts its inner attack from.
const TRADES_NOISE: f64 = 1e-3;

/// A batch to train on.
pub struct Batch<'a> {
    /// `[n, channels, height, width]`
    pub images: &'a Tensor,
    /// `[n]`
    pub labels: &'a Tensor,
    /// Names the batch: what the training attack's random start is drawn from.
    pub key: Key,
}

/// The networks of a training run: two handles on the same weights.
pub struct Pair {
    /// Its parameters are the leaves of the loss's graph.
    pub trained: Network,
    /// Outside any graph: what the training attack looks at, in evaluation mode. So do the reference
    /// implementations of TRADES and MART; some of PGD training attack in training mode, where an
    /// example's attack depends on its batch and moves the running statistics at every step.
    pub frozen: Network,
}

/// The loss of `batch`, with a graph to the trained parameters: a scalar, the mean over examples.
pub fn loss(method: &Method, pair: &Pair, batch: &Batch, passes: &mut Passes) -> Tensor {
    match *method {
        Method::Natural {} => natural(pair, batch.images, batch.labels, passes),
        Method::Pgd { epsilon, steps, step, norm } => {
            let attack = InnerAttack { epsilon, steps, step, norm };
            let start = attack.random_start(batch);
            let objective = |logits: &Tensor| gradient::margin(logits, batch.labels);
            let adversarial = attack.run(&pair.frozen, batch.images, start, objective, passes);
            natural(pair, &adversarial, batch.labels, passes)
        }
        Method::Trades { epsilon, beta, steps, step, norm } => {
            trades(pair, batch, &InnerAttack { epsilon, steps, step, norm }, beta, passes)
        }
    }
}

fn natural(pair: &Pair, images: &Tensor, labels: &Tensor, passes: &mut Passes) -> Tensor {
    passes.gradient(images.size()[0]);
    tch::with_grad(|| pair.trained.forward_in(Mode::Training, images).cross_entropy_for_logits(labels))
}

/// The inner attack departs from what the clean images are in evaluation mode, the loss sees both
/// batches in training mode. Without batch normalisation the two modes are the same numbers, and the
/// clean logits are computed once.
fn trades(pair: &Pair, batch: &Batch, attack: &InnerAttack, beta: f64, passes: &mut Passes) -> Tensor {
    let count = batch.images.size()[0];
    let in_training = |images: &Tensor| tch::with_grad(|| pair.trained.forward_in(Mode::Training, images));
    let shared = (!pair.trained.depends_on_mode()).then(|| in_training(batch.images));
    let target = match &shared {
        Some(clean) => clean.detach(),
        None => {
            passes.forward(count);
            pair.frozen.forward(batch.images)
        }
    };
    let target = target.softmax(-1, Kind::Float);
    let noise = noise_like(batch.images, |stream, count| stream.normals(count), &batch.key) * TRADES_NOISE;
    let start = batch.images + noise;
    let objective = |logits: &Tensor| divergence(logits, &target);
    let adversarial = attack.run(&pair.frozen, batch.images, start, objective, passes);
    passes.gradient(2 * count);
    let clean = shared.unwrap_or_else(|| in_training(batch.images));
    let adversarial = in_training(&adversarial);
    tch::with_grad(|| trades_loss(&clean, &adversarial, batch.labels, beta))
}

/// CE(clean) + beta KL(clean || adversarial), both averaged over the batch, gradients through both.
pub fn trades_loss(clean: &Tensor, adversarial: &Tensor, labels: &Tensor, beta: f64) -> Tensor {
    let robust = divergence(adversarial, &clean.softmax(-1, Kind::Float));
    clean.cross_entropy_for_logits(labels) + robust.mean(Kind::Float) * beta
}

/// KL(target || softmax(logits)) per example: `[n]`, in nats.
pub fn divergence(logits: &Tensor, target: &Tensor) -> Tensor {
    let terms = logits.log_softmax(-1, Kind::Float).kl_div(target, Reduction::None, false);
    terms.sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
}

/// The attack inside a training step: every row takes all steps.
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
    fn random_start(&self, batch: &Batch) -> Tensor {
        let count = batch.images.size()[0] as usize;
        let draw = |stream: &mut Stream, total: usize| match self.norm {
            // One draw for the whole batch.
            Norm::Linf => random_offset(Norm::Linf, stream, total),
            Norm::L2 => (0..count).flat_map(|_| random_offset(Norm::L2, stream, total / count)).collect(),
        };
        (batch.images + noise_like(batch.images, draw, &batch.key) * self.epsilon).clamp(0.0, 1.0)
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
}

fn noise_like(images: &Tensor, draw: impl FnOnce(&mut Stream, usize) -> Vec<f32>, key: &Key) -> Tensor {
    let values = draw(&mut key.stream(), images.numel());
    Tensor::from_slice(&values).view_as(images).to_device(images.device())
}
