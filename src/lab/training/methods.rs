//! From a batch to the gradient that the weights follow, by each method.
//!
//! An adversarial method has two halves: an attack on the weights as they are (`craft`), and a
//! loss at the points it found (`outer`). Adversarial weight perturbation steps in between.

use super::awp;
use super::inner::{InnerAttack, normal_noise};
use super::losses::{self, cross_entropy};
use crate::lab::bounds::interval;
use crate::lab::models::{Mode, Network};
use crate::lab::streams::Key;
use crate::lab::{LabError, Passes};
use epsweep::spec::{Method, Norm, Options};
use tch::{Kind, Tensor};

/// Standard deviation of the noise that TRADES and MART start their inner attack from.
const SMALL_NOISE: f64 = 1e-3;
/// Fast-AT's step, as a multiple of epsilon.
const FAST_STEP: f64 = 1.25;

/// A batch to train on.
pub struct Batch<'a> {
    /// `[n, channels, height, width]`
    pub images: &'a Tensor,
    /// `[n]`
    pub labels: &'a Tensor,
    /// Names the batch: what the training attack's random start is drawn from.
    pub key: Key,
    /// From 0.
    pub epoch: u32,
    /// Share of the run's updates that lie behind, from 0 to below 1.
    pub progress: f64,
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

/// What is descended.
pub struct Objective<'a> {
    pub method: &'a Method,
    pub options: &'a Options,
}

/// Where a batch pulls the weights.
pub struct Descent {
    /// The loss, mean over examples.
    pub loss: f64,
    /// One per parameter.
    pub gradients: Vec<Tensor>,
}

impl Descent {
    fn of(loss: &Tensor, parameters: &[Tensor]) -> Descent {
        let value = loss.double_value(&[]);
        Descent { loss: value, gradients: Tensor::run_backward(&[loss], parameters, false, false) }
    }
}

/// What the training attack gave: which logits and points the loss is about.
struct Crafted {
    /// Clean logits with a graph, where the attack needed them too.
    clean: Option<Tensor>,
    /// The points to train on.
    points: Tensor,
}

/// Logits with a graph to the weights, as training sees the batch.
fn learnt(network: &Network, images: &Tensor, passes: &mut Passes) -> Tensor {
    passes.gradient(images.size()[0]);
    tch::with_grad(|| network.forward_in(Mode::Training, images))
}

impl Objective<'_> {
    /// The gradient of the loss at `batch`. `carried` is the perturbation that Free-AT takes from
    /// batch to batch, `[batch_size, channels, height, width]`.
    ///
    /// # Errors
    /// [`LabError::BadInput`] where the method does not apply to the network.
    pub fn descend(
        &self,
        pair: &Pair,
        batch: &Batch,
        carried: &mut Option<Tensor>,
        passes: &mut Passes,
    ) -> Result<Descent, LabError> {
        let parameters = pair.trained.parameters();
        if let Method::FreeAt { epsilon, step, .. } = *self.method {
            let carried = carried.get_or_insert_with(|| batch.images.zeros_like());
            return Ok(self.free(pair, batch, carried, [epsilon, step.unwrap_or(epsilon)], passes));
        }
        if let Method::Ibp { .. } = self.method {
            return Ok(Descent::of(&self.ibp(pair, batch, passes)?, parameters));
        }
        let crafted = self.craft(pair, batch, passes);
        let awp = self.options.awp.as_ref().filter(|awp| batch.epoch >= awp.warmup);
        let statistics = awp.map(|_| awp::Statistics::of(&pair.trained));
        let loss = self.outer(&pair.trained, batch, &crafted, passes);
        match awp {
            Some(awp) => {
                // Only what is descended enters the running statistics.
                statistics.iter().for_each(awp::Statistics::restore);
                let ascent = Tensor::run_backward(&[&loss], parameters, false, false);
                let saved = awp::add(parameters, &ascent, awp.gamma);
                let moved = Crafted { clean: None, points: crafted.points };
                let descent = Descent::of(&self.outer(&pair.trained, batch, &moved, passes), parameters);
                awp::remove(parameters, &saved);
                Ok(descent)
            }
            None => Ok(Descent::of(&loss, parameters)),
        }
    }

    /// The training attack on the weights as they are.
    fn craft(&self, pair: &Pair, batch: &Batch, passes: &mut Passes) -> Crafted {
        let images = batch.images;
        match *self.method {
            Method::Pgd { epsilon, steps, step, norm } => {
                self.random_climb(pair, batch, &InnerAttack { epsilon, steps, step, norm }, passes)
            }
            Method::FastAt { epsilon, step } => {
                let step = Some(step.unwrap_or(FAST_STEP * epsilon));
                let attack = InnerAttack { epsilon, steps: 1, step, norm: Norm::Linf };
                self.random_climb(pair, batch, &attack, passes)
            }
            Method::Trades { epsilon, steps, step, norm, .. } => {
                // The inner attack departs from what the clean images are in evaluation mode, the loss
                // sees both batches in training mode. Without batch normalisation the two modes are the
                // same numbers, and the clean logits are computed once.
                let shared = !pair.trained.depends_on_mode();
                let clean = shared.then(|| learnt(&pair.trained, images, passes));
                let target = clean.as_ref().map_or_else(
                    || {
                        passes.forward(images.size()[0]);
                        pair.frozen.forward(images)
                    },
                    Tensor::detach,
                );
                let target = target.softmax(-1, Kind::Float);
                let start = images + normal_noise(images, &batch.key) * SMALL_NOISE;
                let objective = |logits: &Tensor| losses::divergence(logits, &target);
                let attack = InnerAttack { epsilon, steps, step, norm };
                let points = attack.run(&pair.frozen, images, start, objective, passes);
                Crafted { clean, points }
            }
            Method::Mart { epsilon, steps, step, norm, .. } => {
                let start = images + normal_noise(images, &batch.key) * SMALL_NOISE;
                let attack = InnerAttack { epsilon, steps, step, norm };
                Crafted { clean: None, points: attack.break_labels(&pair.frozen, batch, start, passes) }
            }
            Method::Natural {} | Method::Pretrained {} | Method::FreeAt { .. } | Method::Ibp { .. } => {
                Crafted { clean: None, points: images.shallow_clone() }
            }
        }
    }

    fn random_climb(&self, pair: &Pair, batch: &Batch, attack: &InnerAttack, passes: &mut Passes) -> Crafted {
        let start = attack.random_start(batch.images, &batch.key);
        Crafted { clean: None, points: attack.break_labels(&pair.frozen, batch, start, passes) }
    }

    /// The loss at the crafted points: a scalar with a graph to the parameters of `network`.
    fn outer(&self, network: &Network, batch: &Batch, crafted: &Crafted, passes: &mut Passes) -> Tensor {
        let smoothing = self.options.label_smoothing;
        let mut forward = |images: &Tensor| learnt(network, images, passes);
        tch::with_grad(|| match *self.method {
            Method::Trades { beta, .. } | Method::Mart { beta, .. } => {
                let clean = match &crafted.clean {
                    Some(clean) => clean.shallow_clone(),
                    None => forward(batch.images),
                };
                let adversarial = forward(&crafted.points);
                let loss = if let Method::Mart { .. } = self.method { losses::mart } else { losses::trades };
                loss(&clean, &adversarial, batch.labels, beta, smoothing)
            }
            _ => cross_entropy(&forward(&crafted.points), batch.labels, smoothing),
        })
    }

    /// One replay of Free-AT (arXiv 1904.12843, alg. 1): the gradient to the weights and to the
    /// perturbation at the same point; the perturbation then moves by a step of the sign.
    fn free(
        &self,
        pair: &Pair,
        batch: &Batch,
        carried: &Tensor,
        [epsilon, step]: [f64; 2],
        passes: &mut Passes,
    ) -> Descent {
        let rows = batch.images.size()[0];
        passes.gradient(rows);
        let mut held = carried.narrow(0, 0, rows);
        let leaf = held.copy().set_requires_grad(true);
        let loss = tch::with_grad(|| {
            let points = (batch.images + &leaf).clamp(0.0, 1.0);
            let logits = pair.trained.forward_in(Mode::Training, &points);
            cross_entropy(&logits, batch.labels, self.options.label_smoothing)
        });
        let value = loss.double_value(&[]);
        let leaves: Vec<&Tensor> = pair.trained.parameters().iter().chain([&leaf]).collect();
        let mut gradients = Tensor::run_backward(&[&loss], &leaves, false, false);
        let slope = gradients.remove(gradients.len() - 1);
        let moved = (&held + slope.sign() * step).clamp(-epsilon, epsilon);
        held.copy_(&moved);
        Descent { loss: value, gradients }
    }

    /// kappa CE(clean) + (1 - kappa) CE(worst case of the intervals) (arXiv 1810.12715, eq. 10).
    fn ibp(&self, pair: &Pair, batch: &Batch, passes: &mut Passes) -> Result<Tensor, LabError> {
        let Method::Ibp { epsilon, kappa, warmup, ramp } = *self.method else {
            return Err(LabError::bad_input("not interval bound propagation"));
        };
        let way = ((batch.progress - warmup) / ramp.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let kappa = 1.0 - way * (1.0 - kappa);
        if pair.trained.depends_on_mode() {
            return Err(LabError::bad_input("interval bounds cannot be trained through batch normalisation"));
        }
        let smoothing = self.options.label_smoothing;
        let rows = batch.images.size()[0];
        (0..3).for_each(|_| passes.gradient(rows));
        tch::with_grad(|| {
            let clean = cross_entropy(&pair.trained.forward(batch.images), batch.labels, smoothing);
            let input = interval::Interval::ball(batch.images, way * epsilon);
            let worst = interval::worst_logits(&pair.trained, &input, batch.labels)?;
            Ok(clean * kappa + cross_entropy(&worst, batch.labels, smoothing) * (1.0 - kappa))
        })
    }
}
