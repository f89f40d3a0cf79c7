//! The attacks in L1, DDN and Carlini-Wagner against the papers' definitions as scripts/golden_norms.py
//! computes them with PyTorch (and as pyautoattack and foolbox do, which that script compares).

use crate::golden::{Golden, TOLERANCE, assert_close, assert_nearly_all_close, largest_difference};
use crate::golden_autoattack::Sixteen;
use crate::lab::Device;
use crate::lab::attacks::apgd_l1::ApgdL1;
use crate::lab::attacks::ball::Ball;
use crate::lab::attacks::cw::Cw;
use crate::lab::attacks::ddn::Ddn;
use crate::lab::attacks::flight::Attack;
use crate::lab::attacks::gradient::ascend;
use crate::lab::attacks::hyperplane::Hyperplane;
use crate::lab::attacks::square::{Change, Shape, move_mass, pattern};
use crate::lab::streams::Key;
use epsweep::spec::{AttackLoss, Norm};
use tch::{Kind, Tensor};

#[test]
fn projections_onto_ball_and_box_are_pyautoattacks() {
    let golden = Golden::read("norms");
    let (origin, point) = (golden.get("ball.origin"), golden.get("ball.point"));
    let ball = Ball::new(Norm::L1, &[4.0; 20], Device::Cpu);
    assert_close(&ball.project(origin, point), golden.get("ball.nearest"), "projection");
    let nearest = ball.project(origin, point);
    assert!(ball.distances(origin, &nearest).iter().all(|&distance| distance <= 4.0));
}

#[test]
fn apgd_walks_the_papers_path_in_l1() {
    let golden = Golden::read("norms");
    let mut sixteen = Sixteen::new(&golden);
    let network = sixteen.network.frozen();
    let mut apgd = ApgdL1::new(AttackLoss::Ce, [30, 1, 9], 1, Key::new("unused", 0), 16);
    let all: Vec<usize> = (0..16).collect();
    let some = [0u32, 1, 2, 9, 15, 31];
    let mut points = golden.get("apgd.points").get(0);
    assert_eq!(apgd.steps(), 32);
    for step in 0..=32u32 {
        let tile = sixteen.tile(&points, Norm::L1, 2.0, step);
        let slope = ascend(&network, &points, |logits| apgd.objective(&tile, logits));
        let gap = slope.values.softplus() - golden.get("apgd.losses").get(i64::from(step));
        let gap = gap.abs().median().double_value(&[]);
        assert!(gap < 1e-4, "step {step}: the losses differ by {gap}");
        if let Some(position) = some.iter().position(|&some| some == step) {
            // Which pixels are the steepest may hang on the last bit.
            let wanted = if step < 3 { 0.99 } else { 0.9 };
            let theirs = golden.get("apgd.points").get(position as i64);
            assert_nearly_all_close(&points, &theirs, wanted, &format!("iterate {step}"));
        }
        if step < 32 {
            points = apgd.advance(&tile, &all, &slope);
        }
    }
}

#[test]
fn squares_patterns_and_proposals_in_l1_are_the_papers() {
    let golden = Golden::read("norms");
    for side in [2usize, 3, 5, 8, 13] {
        let ours = Tensor::from_slice(&pattern(side, false, Norm::L1)).view([side as i64, side as i64]);
        assert_close(&ours, golden.get(&format!("square.pattern.{side}")), &format!("pattern of side {side}"));
    }
    let numbers = |name: &str| Vec::<f32>::try_from(golden.get(name).flatten(0, -1)).unwrap();
    let shape = Shape { channels: 3, height: 12, width: 12 };
    for (case, second) in [(6, 6), (2, 1), (1, 0)].into_iter().enumerate() {
        let change = Change { side: 5, first: (1, 0), second, turned: false, signs: vec![1.0, -1.0, 1.0] };
        let (image, best) = (numbers("square.image"), numbers("square.best"));
        let ours = move_mass(&image, &best, shape, &change, numbers("square.eps")[0], Norm::L1);
        let gap = largest_difference(
            &Tensor::from_slice(&ours).view([3, 12, 12]),
            golden.get(&format!("square.proposal.{case}")),
        );
        assert!(gap < TOLERANCE, "proposal {case} differs by {gap}");
    }
}

#[test]
fn projections_onto_hyperplanes_in_l1_are_pyautoattacks() {
    let golden = Golden::read("norms");
    let row = |part: &str, row: i64| -> Vec<f64> {
        Vec::<f64>::try_from(golden.get(&format!("plane.l1.{part}")).get(row).to_kind(Kind::Double)).unwrap()
    };
    let offsets = Vec::<f32>::try_from(golden.get("plane.l1.offset")).unwrap();
    for (position, &offset) in (0..).zip(&offsets) {
        let plane = Hyperplane { normal: row("normal", position), offset: f64::from(offset) };
        for (ours, theirs) in plane.project(&row("point", position), Norm::L1).iter().zip(row("change", position)) {
            assert!((ours - theirs).abs() < 1e-6, "{position}: {ours} and {theirs}");
        }
    }
}

/// Plays an attack for 20 steps from the clean images and compares every iterate.
fn play(attack: &mut dyn Attack, name: &str, wanted: f64) {
    let golden = Golden::read("norms");
    let mut sixteen = Sixteen::new(&golden);
    let network = sixteen.network.frozen();
    let all: Vec<usize> = (0..16).collect();
    let theirs = golden.get(name);
    let mut points = attack.begin(&sixteen.tile(&sixteen.x.copy(), Norm::L2, 1.0, 0));
    for step in 0..20u32 {
        assert_nearly_all_close(&points, &theirs.get(i64::from(step)), wanted, &format!("{name} {step}"));
        let tile = sixteen.tile(&points, Norm::L2, 1.0, step);
        let slope = ascend(&network, &points, |logits| attack.objective(&tile, logits));
        points = attack.advance(&tile, &all, &slope);
    }
    assert_nearly_all_close(&points, &theirs.get(20), wanted, name);
}

#[test]
fn ddn_walks_the_papers_path() {
    play(&mut Ddn::new(20, 16), "ddn.points", 0.95);
}

#[test]
fn carlini_and_wagner_walk_the_papers_path() {
    play(&mut Cw::new([20, 1], 0.05, 2.0, 16), "cw.points", 0.95);
}
