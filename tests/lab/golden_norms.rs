//! The attacks in L1, DDN and Carlini-Wagner against the papers' definitions as scripts/golden_norms.py
//! computes them with PyTorch (and as pyautoattack and foolbox do, which that script compares).

use crate::golden::{Golden, assert_close, assert_nearly_all_close};
use crate::golden_autoattack::{Sixteen, check_square};
use crate::lab::Device;
use crate::lab::attacks::apgd_l1::ApgdL1;
use crate::lab::attacks::ball::Ball;
use crate::lab::attacks::cw::Cw;
use crate::lab::attacks::ddn::Ddn;
use crate::lab::attacks::flight::Attack;
use crate::lab::attacks::gradient::ascend;
use crate::lab::attacks::hyperplane::Hyperplane;

use crate::lab::streams::Key;
use epsweep::spec::{AttackLoss, Norm};
use tch::Kind;

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
    check_square(&Golden::read("norms"), &[2, 3, 5, 8, 13], Norm::L1);
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
