//! APGD, FAB-T and Square against the papers' definitions as scripts/golden_autoattack.py computes them
//! with PyTorch (and as pyautoattack does, which that script compares).

use crate::golden::{Golden, TOLERANCE, assert_close, assert_nearly_all_close, largest_difference};
use crate::lab::Device;
use crate::lab::attacks::apgd::{Apgd, checkpoints};
use crate::lab::attacks::ball::Ball;
use crate::lab::attacks::fab::Fab;
use crate::lab::attacks::flight::{Attack, Flight, Need, Tile};
use crate::lab::attacks::gradient::{ascend, difference_ratio, look, targeted_difference_ratio};
use crate::lab::attacks::hyperplane::Hyperplane;
use crate::lab::attacks::square::{Change, Shape, move_mass, pattern};
use crate::lab::models::Network;
use crate::lab::streams::Key;
use epsweep::spec::{AttackLoss, Norm};
use tch::{Kind, Tensor};

/// The iterates that are written down.
const SOME: [u32; 6] = [0, 1, 2, 9, 20, 40];
const NORMS: [(Norm, &str, f64); 2] = [(Norm::Linf, "linf", 0.05), (Norm::L2, "l2", 0.4)];

/// Sixteen examples on the same step of the same attack.
pub struct Sixteen {
    pub network: Network,
    pub x: Tensor,
    y: Tensor,
    ranking: Tensor,
    flights: Vec<Flight>,
}

impl Sixteen {
    pub fn new(golden: &Golden) -> Sixteen {
        let model = Golden::read("attacks");
        let flight = |example| {
            let mut flight = Flight::at_origin(example, 0);
            flight.slot = example as i64;
            flight
        };
        Sixteen {
            network: model.small().frozen(),
            x: model.get("x").shallow_clone(),
            y: golden.get("y").to_kind(Kind::Int64),
            ranking: golden.get("ranking").to_kind(Kind::Int64),
            flights: (0..16).map(flight).collect(),
        }
    }

    pub fn tile(&mut self, points: &Tensor, norm: Norm, epsilon: f64, step: u32) -> Tile<'_> {
        for flight in &mut self.flights {
            (flight.epsilon, flight.step) = (epsilon, step);
        }
        Tile {
            rows: &self.flights,
            slots: Tensor::arange(16, (Kind::Int64, Device::Cpu)),
            origins: self.x.shallow_clone(),
            points: points.shallow_clone(),
            labels: self.y.shallow_clone(),
            ranking: self.ranking.shallow_clone(),
            ball: Ball::new(norm, &[epsilon; 16], Device::Cpu),
        }
    }
}

#[test]
fn difference_ratios_are_the_papers() {
    let golden = Golden::read("autoattack");
    let (z, y) = (golden.get("dlr.logits"), golden.get("y").to_kind(Kind::Int64));
    let target = golden.get("ranking").select(1, 3).to_kind(Kind::Int64);
    assert_close(&difference_ratio(z, &y), golden.get("dlr"), "DLR");
    assert_close(&targeted_difference_ratio(z, &y, &target), golden.get("dlr_targeted"), "targeted DLR");
    let points: Vec<f32> = checkpoints(100).iter().map(|&point| point as f32).collect();
    assert_eq!(points, Vec::<f32>::try_from(golden.get("checkpoints")).unwrap());
}

#[test]
fn apgd_walks_the_papers_path() {
    let golden = Golden::read("autoattack");
    let all: Vec<usize> = (0..16).collect();
    for (norm, name, epsilon) in NORMS {
        for (loss, kind) in [(AttackLoss::Ce, "ce"), (AttackLoss::Dlr, "dlr"), (AttackLoss::DlrTargeted, "targeted")] {
            let mut sixteen = Sixteen::new(&golden);
            let network = sixteen.network.frozen();
            let mut apgd = Apgd::new(loss, [40, 1, 9], 1, Key::new("unused", 0), &sixteen.x);
            let of = |part: &str| golden.get(&format!("apgd.{name}.{kind}.{part}"));
            let mut points = golden.get(&format!("apgd.{name}.start")).shallow_clone();
            for step in 0..=40u32 {
                let tile = sixteen.tile(&points, norm, epsilon, step);
                let slope = ascend(&network, &points, |logits| apgd.objective(&tile, logits));
                // The cross-entropy is softplus of the margin.
                let ours = if loss == AttackLoss::Ce { slope.values.softplus() } else { slope.values.copy() };
                let gap = (ours - of("losses").get(i64::from(step))).abs().median().double_value(&[]);
                assert!(gap < 1e-4, "{name} {kind}, step {step}: the losses differ by {gap}");
                if let Some(position) = SOME.iter().position(|&some| some == step) {
                    // A gradient next to zero may change its sign, and the paths part there.
                    let wanted = if step < 10 { 0.99 } else { 0.9 };
                    let what = format!("{name} {kind}, iterate {step}");
                    assert_nearly_all_close(&points, &of("points").get(position as i64), wanted, &what);
                }
                if step < 40 {
                    let sizes = Vec::<f32>::try_from(of("steps").get(i64::from(step)).view([-1])).unwrap();
                    points = apgd.advance(&tile, &all, &slope);
                    let same = all
                        .iter()
                        .filter(|&&row| (apgd.step_size(row) * epsilon / f64::from(sizes[row]) - 1.0).abs() < 1e-5);
                    assert!(same.count() >= 14, "{name} {kind}, step {step}: other step sizes");
                }
            }
        }
    }
}

#[test]
fn projections_onto_hyperplanes_are_pyautoattacks() {
    let golden = Golden::read("autoattack");
    for (norm, name, _) in NORMS {
        let of = |part: &str| golden.get(&format!("plane.{name}.{part}"));
        let offsets = Vec::<f32>::try_from(of("offset")).unwrap();
        for (row, &offset) in offsets.iter().enumerate() {
            let numbers = |part: &str| -> Vec<f64> {
                let row = of(part).get(row as i64).to_kind(Kind::Double);
                Vec::<f64>::try_from(row).unwrap()
            };
            let plane = Hyperplane { normal: numbers("normal"), offset: f64::from(offset) };
            for (ours, theirs) in plane.project(&numbers("point"), norm).iter().zip(numbers("change")) {
                assert!((ours - theirs).abs() < 1e-6, "{name} {row}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn fab_walks_the_papers_path() {
    let golden = Golden::read("autoattack");
    let all: Vec<usize> = (0..16).collect();
    for (norm, name, _) in NORMS {
        let mut sixteen = Sixteen::new(&golden);
        let network = sixteen.network.frozen();
        let mut fab = Fab::new([10, 1, 9, 10], Key::new("unused", 0), 16);
        let theirs = golden.get(&format!("fab.{name}.points"));
        let mut points = sixteen.x.copy();
        for step in 0..20u32 {
            let tile = sixteen.tile(&points, norm, 0.1, step);
            let slope = match fab.need(step) {
                Need::Gradient => ascend(&network, &points, |logits| fab.objective(&tile, logits)),
                _ => look(&network, &points),
            };
            points = fab.advance(&tile, &all, &slope);
            if step % 2 == 1 {
                let what = format!("{name}, step {}", step / 2);
                assert_nearly_all_close(&points, &theirs.get(i64::from(step / 2) + 1), 0.9, &what);
            }
        }
        assert_eq!(fab.need(20), Need::Verdict);
    }
}

#[test]
fn squares_patterns_and_proposals_are_the_papers() {
    check_square(&Golden::read("autoattack"), &[1, 2, 3, 5, 8, 13], Norm::L2);
}

/// Patterns of squares with the given sides, and proposals, of the norms that move mass about.
pub fn check_square(golden: &Golden, sides: &[usize], norm: Norm) {
    for &side in sides {
        let ours = Tensor::from_slice(&pattern(side, false, norm)).view([side as i64, side as i64]);
        assert_close(&ours, golden.get(&format!("square.pattern.{side}")), &format!("pattern of side {side}"));
    }
    let numbers = |name: &str| Vec::<f32>::try_from(golden.get(name).flatten(0, -1)).unwrap();
    let shape = Shape { channels: 3, height: 12, width: 12 };
    for (case, second) in [(6, 6), (2, 1), (1, 0)].into_iter().enumerate() {
        let change = Change { side: 5, first: (1, 0), second, turned: false, signs: vec![1.0, -1.0, 1.0] };
        let (image, best) = (numbers("square.image"), numbers("square.best"));
        let ours = move_mass(&image, &best, shape, &change, numbers("square.eps")[0], norm);
        let ours = Tensor::from_slice(&ours).view([3, 12, 12]);
        let gap = largest_difference(&ours, golden.get(&format!("square.proposal.{case}")));
        assert!(gap < TOLERANCE, "proposal {case} differs by {gap}");
    }
}
