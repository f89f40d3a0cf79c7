//! The lab's arithmetic against PyTorch's, from the files that scripts/golden_attacks.py writes.
//!
//! Tolerance is 1e-5 absolute unless a test says otherwise: 32-bit rounding, summed in another order.

use crate::lab::attacks::ball::{Ball, reaches};
use crate::lab::models::{Network, architecture};
use crate::lab::training::inner::InnerAttack;
use crate::lab::training::losses::{self, divergence};
use crate::lab::training::optim::Updater;
use crate::lab::training::schedule::factor;
use crate::lab::{Device, Passes, weights};
use crate::setting::slope;
use epsweep::spec::{Model, Norm, Optimizer, Schedule};
use std::collections::HashMap;
use tch::{Kind, Tensor};

pub const TOLERANCE: f64 = 1e-5;

pub struct Golden(HashMap<String, Tensor>);

impl Golden {
    pub fn read(name: &str) -> Golden {
        crate::lab::use_one_thread();
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Golden(weights::decode(&std::fs::read(path).unwrap()).unwrap().tensors)
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the golden file has no {name}"))
    }

    /// All whose names begin with `prefix`, by the rest of their names.
    pub fn below(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let own =
            self.0.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_string(), t.shallow_clone())));
        own.collect()
    }

    /// The network under `prefix`.
    fn network(&self, prefix: &str, channels: [u32; 2], hidden: u32, shape: [i64; 3], classes: i64) -> Network {
        let bytes = weights::encode(&self.below(prefix), None);
        let architecture = architecture(&Model::Smallcnn { channels, hidden }, shape, classes).unwrap();
        Network::from_weights(&architecture, &bytes, Device::Cpu).unwrap()
    }

    pub fn small(&self) -> Network {
        self.network("model.", [6, 8], 20, [1, 8, 8], 10)
    }
}

pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

pub fn assert_close(a: &Tensor, b: &Tensor, what: &str) {
    let difference = largest_difference(a, b);
    assert!(difference < TOLERANCE, "{what} differs from PyTorch by {difference}");
}

/// PGD multiplies rounding: a gradient next to zero may change its sign, and the paths part there.
pub fn assert_nearly_all_close(a: &Tensor, b: &Tensor, wanted: f64, what: &str) {
    let share = (a - b).abs().lt(TOLERANCE).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    assert!(share > wanted, "{what}: only {share} of the pixels agree with PyTorch");
}

/// Gradients of the margin and of the cross-entropy differ by a positive factor per example.
fn unit(gradient: &Tensor) -> Tensor {
    gradient / gradient.flatten(1, -1).norm_scalaropt_dim(2, [1], true).view([-1, 1, 1, 1])
}

#[test]
fn logits_and_gradients_are_pytorchs() {
    let golden = Golden::read("attacks");
    for (network, prefix) in
        [(golden.small(), ""), (golden.network("wide.model.", [4, 5], 12, [3, 16, 16], 4), "wide.")]
    {
        let (x, y) = (golden.get(&format!("{prefix}x")), golden.get(&format!("{prefix}y")).to_kind(Kind::Int64));
        let slope = slope(&network.frozen(), x, &y);
        let logits = golden.get(&format!("{prefix}logits"));
        assert_close(&slope.logits, logits, "logits");
        let theirs = golden.get(&format!("{prefix}gradient"));
        assert_close(&unit(&slope.gradient), &unit(theirs), "direction of the gradient");
        let signs = slope.gradient.sign().eq_tensor(&theirs.sign()).to_kind(Kind::Float).mean(Kind::Float);
        assert!(signs.double_value(&[]) > 0.999, "gradient signs: {signs:?}");
    }
}

#[test]
fn pgd_and_fgsm_walk_pytorchs_path() {
    let golden = Golden::read("attacks");
    let (network, x, y) = (golden.small().frozen(), golden.get("x"), golden.get("y").to_kind(Kind::Int64));
    for (norm, name, epsilon, step) in [(Norm::Linf, "linf", 0.1, 0.03), (Norm::L2, "l2", 0.8, 0.25)] {
        let ball = Ball::new(norm, &[epsilon; 16], Device::Cpu);
        let (points, losses) = (golden.get(&format!("pgd.{name}.points")), golden.get(&format!("pgd.{name}.loss")));
        let mut point = x.copy();
        for iterate in 0..9 {
            assert_nearly_all_close(&point, &points.get(iterate), 0.995, &format!("{name} iterate {iterate}"));
            let slope = slope(&network, &point, &y);
            let loss = slope.logits.cross_entropy_loss::<Tensor>(&y, None, tch::Reduction::None, -100, 0.0);
            let difference = largest_difference(&loss, &losses.get(iterate));
            assert!(difference < 1e-3, "{name} iterate {iterate}: the losses differ by {difference}");
            point = ball.ascend(x, &point, &slope.gradient, &ball.radius.full_like(step));
        }
        let slope = slope(&network, x, &y);
        let fgsm = ball.ascend(x, x, &slope.gradient, &ball.radius);
        assert_nearly_all_close(&fgsm, golden.get(&format!("fgsm.{name}")), 0.995, &format!("FGSM {name}"));
    }
}

#[test]
fn projections_are_pytorchs_and_take_a_radius_per_example() {
    let golden = Golden::read("attacks");
    let (x, point) = (golden.get("x"), golden.get("ball.point"));
    for (norm, name) in [(Norm::Linf, "ball.linf"), (Norm::L2, "ball.l2")] {
        let ball = Ball { norm, radius: golden.get("ball.radius").shallow_clone() };
        let projected = ball.project(x, point);
        assert_close(&projected, golden.get(name), name);
        let radii = Vec::<f32>::try_from(ball.radius.view([-1])).unwrap();
        let inside = |p: &Tensor| -> Vec<bool> {
            let sizes = ball.distances(x, p).into_iter().zip(&radii);
            sizes.map(|(distance, &radius)| reaches(norm, f64::from(radius), distance)).collect()
        };
        assert!(inside(&projected).iter().all(|&b| b));
        assert!(!inside(point).iter().all(|&b| b), "some points start outside");
        assert_close(&ball.project(x, &projected), &projected, "projecting twice");
    }
}

#[test]
fn trades_is_its_papers_loss_and_inner_attack() {
    let (model, golden) = (Golden::read("attacks"), Golden::read("training"));
    let network = model.small();
    let (x, y) = (model.get("x"), model.get("y").to_kind(Kind::Int64));
    let target = network.forward(x).softmax(-1, Kind::Float);
    let attack = InnerAttack { epsilon: 0.1, steps: 4, step: Some(0.03), norm: Norm::Linf };
    let start = golden.get("trades.start").shallow_clone();
    let objective = |logits: &Tensor| divergence(logits, &target);
    let found = attack.run(&network.frozen(), x, start, objective, &mut Passes::default());
    let last = golden.get("trades.points").get(4);
    // It starts next to the divergence's minimum, where the gradient is a difference of near equals.
    assert_nearly_all_close(&found, &last, 0.98, "inner attack");

    let trained = network.trainable();
    let loss = losses::trades(&trained.forward(x), &trained.forward(&last), &y, 6.0, 0.0);
    assert_close(&loss.detach().view([1]), golden.get("trades.loss"), "TRADES loss");
    let gradients = Tensor::run_backward(&[&loss], trained.parameters(), false, false);
    for ((name, _), gradient) in trained.state().unwrap().iter().zip(&gradients) {
        assert_close(gradient, golden.get(&format!("trades.gradient.{name}")), name);
    }
}

#[test]
fn update_rules_are_pytorchs() {
    let golden = Golden::read("training");
    let sgd = |momentum, weight_decay, nesterov| Optimizer::Sgd { lr: 0.1, momentum, weight_decay, nesterov };
    let rules = [
        ("sgd", sgd(0.0, 0.0, false)),
        ("sgd_decay", sgd(0.0, 0.05, false)),
        ("sgd_momentum", sgd(0.9, 5e-4, false)),
        ("sgd_nesterov", sgd(0.9, 5e-4, true)),
        ("adamw", Optimizer::Adamw { lr: 0.01, betas: [0.9, 0.99], eps: 1e-8, weight_decay: 0.1 }),
    ];
    let factors = Vec::<f32>::try_from(golden.get("factors")).unwrap();
    for (name, rule) in rules {
        let parameters: Vec<Tensor> = (0..2).map(|i| golden.get(&format!("start.{i}")).copy()).collect();
        let mut updater = Updater::new(&rule);
        for (step, factor) in factors.iter().enumerate() {
            let gradients: Vec<Tensor> =
                (0..2).map(|i| golden.get(&format!("grad.{step}.{i}")).shallow_clone()).collect();
            updater.step(&parameters, &gradients, f64::from(*factor));
            for (i, parameter) in parameters.iter().enumerate() {
                let difference = largest_difference(parameter, golden.get(&format!("{name}.{step}.{i}")));
                assert!(difference < 1e-6, "{name}, step {step}: {difference}");
            }
        }
    }
}

#[test]
fn schedules_are_pytorchs() {
    let golden = Golden::read("training");
    let schedules = [
        ("constant", Schedule::Constant {}),
        ("step", Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.1 }),
        ("cosine", Schedule::Cosine {}),
        ("one_cycle", Schedule::OneCycle { warmup: 0.3 }),
    ];
    for (name, schedule) in schedules {
        let rates = Vec::<f32>::try_from(golden.get(&format!("schedule.{name}"))).unwrap();
        for (step, &rate) in rates.iter().enumerate() {
            let ours = factor(&schedule, step as u64, rates.len() as u64);
            assert!((ours - f64::from(rate)).abs() < 1e-6, "{name}, step {step}: {ours}, PyTorch {rate}");
        }
    }
}
