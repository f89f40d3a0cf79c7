//! Training methods against PyTorch loops, from the file that scripts/golden_training.py writes.

use crate::golden::{Golden, assert_close, assert_nearly_all_close, largest_difference};
use crate::lab::bounds::interval::{Interval, propagate, worst_logits};
use crate::lab::models::Network;
use crate::lab::streams::Key;
use crate::lab::training::losses;
use crate::lab::training::methods::{Batch, Objective, Pair};
use crate::lab::training::optim::Updater;
use crate::lab::{Passes, weights};
use epsweep::spec::{Awp, Method, Norm, Optimizer, Options};
use tch::{Kind, Tensor};

const EPSILON: f64 = 0.1;

fn key() -> Key {
    Key::new("golden noise", 1)
}

/// One training run of the golden network: what the trainer does, batch by batch.
struct Loop {
    method: Method,
    options: Options,
    pair: Pair,
    updater: Updater,
    carried: Option<Tensor>,
}

impl Loop {
    fn new(method: Method, options: Options) -> Loop {
        let trained = Golden::read("attacks").small().trainable();
        let updater = Updater::new(&Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0, nesterov: false });
        Loop { method, options, pair: Pair { frozen: trained.frozen(), trained }, updater, carried: None }
    }

    /// One update; the loss before it.
    fn step(&mut self, images: &Tensor, labels: &Tensor, progress: f64) -> f64 {
        let batch = Batch { images, labels, key: key(), epoch: 0, progress };
        let objective = Objective { method: &self.method, options: &self.options };
        let descent = objective.descend(&self.pair, &batch, &mut self.carried, &mut Passes::default()).unwrap();
        self.updater.step(self.pair.trained.parameters(), &descent.gradients, 1.0);
        descent.loss
    }

    fn assert_weights(&self, golden: &Golden, name: &str, tolerance: f64) {
        for (parameter, tensor) in self.pair.frozen.state().unwrap() {
            let difference = largest_difference(&tensor, golden.get(&format!("{name}.{parameter}")));
            assert!(difference < tolerance, "{name}.{parameter} differs from PyTorch by {difference}");
        }
    }
}

fn examples() -> (Tensor, Tensor) {
    let golden = Golden::read("attacks");
    (golden.get("x").shallow_clone(), golden.get("y").to_kind(Kind::Int64))
}

fn mart() -> Method {
    Method::Mart { epsilon: EPSILON, beta: 6.0, steps: 4, step: Some(0.03), norm: Norm::Linf }
}

fn loss_of(golden: &Golden, name: &str) -> f64 {
    golden.get(name).double_value(&[0])
}

#[test]
#[ignore = "writes the noise that scripts/golden_training.py reads"]
fn write_noise() {
    let (x, _) = examples();
    let count = x.numel();
    let tensor = |values: Vec<f32>| Tensor::from_slice(&values).view_as(&x);
    let noise = [
        ("uniform".to_string(), tensor(key().stream().symmetric(count))),
        ("normal".to_string(), tensor(key().stream().normals(count))),
    ];
    let path = format!("{}/tests/golden/noise.safetensors", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, weights::encode(&noise, None)).unwrap();
}

#[test]
fn mart_is_its_papers_loss_and_update() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let network = Golden::read("attacks").small();
    let points = golden.get("mart.points");
    let loss = losses::mart(&network.forward(&x), &network.forward(points), &y, 6.0, 0.0);
    assert_close(&loss.view([1]), golden.get("mart.loss"), "MART loss");
    let mut run = Loop::new(mart(), Options::default());
    let loss = run.step(&x, &y, 0.0);
    assert!((loss - loss_of(&golden, "mart.loss")).abs() < 1e-3, "{loss}");
    run.assert_weights(&golden, "mart.after", 1e-4);
}

#[test]
fn weight_perturbation_is_its_authors() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let trades = Method::Trades { epsilon: EPSILON, beta: 6.0, steps: 4, step: Some(0.03), norm: Norm::Linf };
    for (name, method) in [("pgd", None), ("trades", Some(trades)), ("mart", Some(mart()))] {
        // The points are given, so that one gradient of a near-zero sign cannot part the ways.
        let run = Loop::new(method.clone().unwrap_or(Method::Natural {}), Options::default());
        let points = golden.get("awp.points");
        let loss = |network: &Network| {
            tch::with_grad(|| {
                let attacked = network.forward(points);
                match &method {
                    None => losses::cross_entropy(&attacked, &y, 0.0),
                    Some(Method::Mart { beta, .. }) => losses::mart(&network.forward(&x), &attacked, &y, *beta, 0.0),
                    Some(_) => losses::trades(&network.forward(&x), &attacked, &y, 6.0, 0.0),
                }
            })
        };
        let parameters = run.pair.trained.parameters();
        let before: Vec<Tensor> = run.pair.frozen.parameters().iter().map(Tensor::copy).collect();
        let ascent = Tensor::run_backward(&[loss(&run.pair.trained)], parameters, false, false);
        let saved = crate::lab::training::awp::add(parameters, &ascent, 0.01);
        run.assert_weights(&golden, &format!("awp.{name}.at"), 1e-5);
        let perturbed = loss(&run.pair.trained);
        assert_close(&perturbed.detach().view([1]), golden.get(&format!("awp.{name}.loss")), name);
        let gradients = Tensor::run_backward(&[perturbed], parameters, false, false);
        crate::lab::training::awp::remove(parameters, &saved);
        for (parameter, before) in run.pair.frozen.parameters().iter().zip(&before) {
            assert_eq!(largest_difference(parameter, before), 0.0, "the weights are back to the bit");
        }
        let mut run = run;
        run.updater.step(run.pair.trained.parameters(), &gradients, 1.0);
        run.assert_weights(&golden, &format!("awp.{name}.after"), 1e-5);
    }
}

#[test]
fn weight_perturbation_in_training_is_one_full_update() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let mut run = Loop::new(mart(), Options { awp: Some(Awp { gamma: 0.01, warmup: 0 }), ..Options::default() });
    let loss = run.step(&x, &y, 0.0);
    assert!((loss - loss_of(&golden, "awp.mart.loss")).abs() < 1e-3, "{loss}");
    run.assert_weights(&golden, "awp.mart.after", 1e-4);
    let mut waiting = Loop::new(mart(), Options { awp: Some(Awp { gamma: 0.01, warmup: 1 }), ..Options::default() });
    waiting.step(&x, &y, 0.0);
    waiting.assert_weights(&golden, "mart.after", 1e-4);
}

#[test]
fn fast_training_is_pytorchs_loop_from_the_same_noise() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let mut run = Loop::new(Method::FastAt { epsilon: EPSILON, step: None }, Options::default());
    let losses = Vec::<f32>::try_from(golden.get("fast.losses")).unwrap();
    for (step, theirs) in losses.into_iter().enumerate() {
        let ours = run.step(&x, &y, 0.0);
        assert!((ours - f64::from(theirs)).abs() < 1e-3, "step {step}: {ours}, PyTorch {theirs}");
    }
    run.assert_weights(&golden, "fast.after", 1e-4);
}

#[test]
fn free_training_is_pytorchs_loop() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let mut run = Loop::new(Method::FreeAt { epsilon: EPSILON, replays: 3, step: None }, Options::default());
    let (losses, deltas) = (golden.get("free.losses"), golden.get("free.deltas"));
    for (position, [first, count]) in [[0, 10], [0, 10], [0, 10], [10, 6], [10, 6], [10, 6]].into_iter().enumerate() {
        let at = position as i64;
        let ours = run.step(&x.narrow(0, first, count), &y.narrow(0, first, count), 0.0);
        let theirs = losses.double_value(&[at]);
        assert!((ours - theirs).abs() < 1e-3, "update {position}: {ours}, PyTorch {theirs}");
        let carried = run.carried.as_ref().unwrap();
        assert_nearly_all_close(carried, &deltas.get(at), 0.98, &format!("perturbation {position}"));
    }
    run.assert_weights(&golden, "free.after", 1e-3);
}

#[test]
fn intervals_are_pytorchs_and_so_is_training_on_them() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let network = Golden::read("attacks").small();
    for epsilon in [0.02, 0.1] {
        let input = Interval::ball(&x, epsilon);
        let logits = propagate(&network, network.layers(), &input).unwrap();
        assert_close(&logits.lower, golden.get(&format!("ibp.{epsilon}.lower")), "lower");
        assert_close(&logits.upper, golden.get(&format!("ibp.{epsilon}.upper")), "upper");
        let worst = worst_logits(&network, &input, &y).unwrap();
        assert_close(&worst, golden.get(&format!("ibp.{epsilon}.worst")), "worst case");
    }
    let method = Method::Ibp { epsilon: EPSILON, kappa: 0.7, warmup: 0.1, ramp: 0.4 };
    let mut run = Loop::new(method.clone(), Options::default());
    let loss = run.step(&x, &y, 0.5);
    assert!((loss - loss_of(&golden, "ibp.loss")).abs() < 1e-5, "{loss}");
    run.assert_weights(&golden, "ibp.after", 1e-5);
    // Before the ramp it is natural training.
    let clean = Loop::new(Method::Natural {}, Options::default()).step(&x, &y, 0.0);
    assert!((Loop::new(method, Options::default()).step(&x, &y, 0.1) - clean).abs() < 1e-6);
}

#[test]
fn intervals_hold_every_point_of_the_ball() {
    let (x, y) = examples();
    let network = Golden::read("attacks").small();
    for epsilon in [0.01, 0.1, 0.5] {
        let input = Interval::ball(&x, epsilon);
        let bounds = propagate(&network, network.layers(), &input).unwrap();
        let worst = worst_logits(&network, &input, &y).unwrap();
        for draw in 0..20 {
            let noise = key().number(draw).stream().symmetric(x.numel());
            let noise = Tensor::from_slice(&noise).view_as(&x);
            // Half of the points are corners.
            let offset = if draw % 2 == 0 { noise.sign() } else { noise };
            let logits = network.forward(&(&x + offset * epsilon).clamp(0.0, 1.0));
            assert!((&logits - &bounds.lower).min().double_value(&[]) > -1e-5);
            assert!((&bounds.upper - &logits).min().double_value(&[]) > -1e-5);
            let margins = &logits - logits.gather(1, &y.unsqueeze(1), false);
            assert!((&worst - margins).min().double_value(&[]) > -1e-5);
        }
    }
}

#[test]
fn label_smoothing_is_pytorchs() {
    let golden = Golden::read("methods");
    let (x, y) = examples();
    let logits = Golden::read("attacks").small().forward(&x);
    assert_close(&losses::cross_entropy(&logits, &y, 0.2).view([1]), golden.get("smooth.loss"), "smoothed loss");
}
