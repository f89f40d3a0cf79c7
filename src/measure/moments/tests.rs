//! The analytic table of the uncertainty relation, in 1, 2 and 16 dimensions, and what would go wrong.

use super::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::f64::consts::PI;

/// A psi on an interval whose uncertainties are known.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// exp(-x^2/4s^2) on a box of 10 s.
    Packet { s: f64 },
    /// The same, cut off at one s from its middle, where it is far from 0.
    CutPacket { s: f64 },
    /// Constant on [-r, r].
    Constant { r: f64 },
    /// cos(pi x/2r) on [-r, r].
    Cosine { r: f64 },
    /// exp(-k x) on [0, 30/k].
    Decay { k: f64 },
}

impl Line {
    fn interval(self) -> (f64, f64) {
        match self {
            Line::Packet { s } => (-5.0 * s, 5.0 * s),
            Line::CutPacket { s } => (-s, s),
            Line::Constant { r } | Line::Cosine { r } => (-r, r),
            Line::Decay { k } => (0.0, 30.0 / k),
        }
    }

    /// log psi and its derivative.
    fn at(self, x: f64) -> (f64, f64) {
        match self {
            Line::Packet { s } | Line::CutPacket { s } => (-x * x / (4.0 * s * s), -x / (2.0 * s * s)),
            Line::Constant { .. } => (0.7, 0.0),
            Line::Cosine { r } => ((PI * x / (2.0 * r)).cos().ln(), -PI / (2.0 * r) * (PI * x / (2.0 * r)).tan()),
            Line::Decay { k } => (-k * x, -k),
        }
    }

    /// dx, dp, |C|.
    fn truth(self) -> [f64; 3] {
        match self {
            Line::Packet { s } => [s, 1.0 / (2.0 * s), 0.5],
            Line::CutPacket { s } => {
                // A normal distribution cut off at one deviation: 1 - 2 phi(1) / (2 Phi(1) - 1).
                let dx = s * (1.0 - 2.0 * 0.241_970_724_519_143_37 / 0.682_689_492_137_085_9f64).sqrt();
                [dx, dx / (2.0 * s * s), dx * dx / (2.0 * s * s)]
            }
            Line::Constant { r } => [r / 3f64.sqrt(), 0.0, 0.0],
            Line::Cosine { r } => [r * (1.0 / 3.0 - 2.0 / (PI * PI)).sqrt(), PI / (2.0 * r), 0.5],
            Line::Decay { k } => [1.0 / (2.0 * k), 0.0, 0.0],
        }
    }
}

/// What a mutant does to each sample before it is counted.
type Mutation = fn(f64, &mut [f64], &mut [f64]) -> f64;

const NONE: Mutation = |log_loss, _, _| log_loss;

fn sample(lines: &[Line], samples: u64, seed: u64, mutation: Mutation) -> Groups {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = || (rng.next_u64() >> 11) as f64 * (-53f64).exp2();
    let mut groups = Groups::new(lines.len());
    for number in 0..samples {
        let mut x = Vec::with_capacity(lines.len());
        let (mut log, mut p) = (0.0, Vec::with_capacity(lines.len()));
        for line in lines {
            let (low, high) = line.interval();
            x.push(low + (high - low) * unit());
            let (own, slope) = line.at(x[x.len() - 1]);
            log += own;
            p.push(slope);
        }
        let log = mutation(log, &mut x, &mut p);
        groups.add(number, samples, log, &x, &p);
    }
    groups
}

/// Root mean squares over the dimensions of dx, dp, dx dp and C.
fn truth(lines: &[Line]) -> [f64; 4] {
    let root = |of: &dyn Fn([f64; 3]) -> f64| {
        (lines.iter().map(|line| of(line.truth()).powi(2)).sum::<f64>() / lines.len() as f64).sqrt()
    };
    [root(&|t| t[0]), root(&|t| t[1]), root(&|t| t[0] * t[1]), root(&|t| t[2])]
}

fn found(groups: &Groups) -> [Figure; 4] {
    let figures = groups.figures().expect("psi is defined");
    [figures.dx, figures.dp, figures.product, figures.bound]
}

/// The worst deviation, in standard errors; rounding counts for nothing.
fn worst(lines: &[Line], groups: &Groups) -> f64 {
    let off = |(found, truth): (Figure, f64)| (found.value - truth).abs() / found.se.max(1e-9);
    found(groups).into_iter().zip(truth(lines)).map(off).fold(0.0, f64::max)
}

const ONE: [Line; 5] = [
    Line::Packet { s: 0.3 },
    Line::CutPacket { s: 2.0 },
    Line::Constant { r: 0.1 },
    Line::Cosine { r: 0.7 },
    Line::Decay { k: 3.0 },
];

fn sixteen() -> Vec<Line> {
    // Weights are products, so few of the dimensions may vary much: see docs/uncertainty.md.
    let mut lines =
        vec![Line::Packet { s: 0.3 }, Line::Decay { k: 2.0 }, Line::Cosine { r: 0.7 }, Line::Cosine { r: 1.5 }];
    lines.extend([Line::CutPacket { s: 1.0 }, Line::CutPacket { s: 0.2 }]);
    lines.extend([Line::Constant { r: 0.4 }; 10]);
    lines
}

#[test]
fn the_analytic_table_comes_out_in_1_2_and_16_dimensions() {
    for (seed, line) in ONE.into_iter().enumerate() {
        let groups = sample(&[line], 40_000, seed as u64, NONE);
        assert!(worst(&[line], &groups) < 3.0, "{line:?}: {:?} is not {:?}", found(&groups), truth(&[line]));
    }
    for (i, a) in ONE.into_iter().enumerate() {
        for (j, b) in ONE.into_iter().enumerate().filter(|(j, _)| *j >= i) {
            let groups = sample(&[a, b], 100_000, (10 * i + j) as u64, NONE);
            assert!(worst(&[a, b], &groups) < 3.0, "{a:?} {b:?}: {:?} is not {:?}", found(&groups), truth(&[a, b]));
        }
    }
    let lines = sixteen();
    let groups = sample(&lines, 400_000, 3, NONE);
    assert!(worst(&lines, &groups) < 3.0, "{:?} is not {:?}", found(&groups), truth(&lines));
    assert!(groups.total().effective_samples() > 300.0, "{}", groups.total().effective_samples());
}

#[test]
fn mutants_are_found_out() {
    // Each of these is one wrong sign, weight or factor; the test above must fail on it.
    let mutants: [(&str, Mutation); 6] = [
        ("weights L instead of L^2", |log, _, _| log / 2.0),
        ("no weights", |_, _, _| 0.0),
        ("weights 1 / L^2", |log, _, _| -log),
        ("momentum twice too large", |log, _, p| {
            p.iter_mut().for_each(|p| *p *= 2.0);
            log
        }),
        ("the gradient of L instead of log L", |log, _, p| {
            p.iter_mut().for_each(|p| *p *= log.exp());
            log
        }),
        ("a sign that depends on the side", |log, x, p| {
            p.iter_mut().zip(x).for_each(|(p, x)| *p *= x.signum());
            log
        }),
    ];
    for (what, mutation) in mutants {
        let off = |line: Line| worst(&[line], &sample(&[line], 40_000, 7, mutation));
        assert!(ONE.into_iter().map(off).fold(0.0, f64::max) > 10.0, "nobody notices: {what}");
    }
}

#[test]
fn the_error_falls_as_one_over_the_root_of_n() {
    let error = |samples: u64| {
        let repetitions = 40;
        let squares = (0..repetitions).map(|seed| {
            let groups = sample(&[Line::Cosine { r: 0.7 }], samples, 1000 + seed, NONE);
            let truth = truth(&[Line::Cosine { r: 0.7 }]);
            let [dx, dp, ..] = found(&groups);
            [(dx.value - truth[0]).powi(2), (dp.value - truth[1]).powi(2), dx.se.powi(2), dp.se.powi(2)]
        });
        let sums = squares.fold([0.0; 4], |sums, squares| std::array::from_fn(|i| sums[i] + squares[i]));
        sums.map(|sum: f64| (sum / repetitions as f64).sqrt())
    };
    let (few, many) = (error(1_000), error(16_000));
    for (which, name) in ["dx", "dp", "se of dx", "se of dp"].into_iter().enumerate() {
        let ratio = few[which] / many[which];
        // A ratio of two root mean squares of 40 repetitions is itself good to about 16 %.
        assert!((2.7..5.6).contains(&ratio), "{name}: 16 times the samples make it {ratio} times smaller");
    }
}

#[test]
fn intervals_cover_the_truth_95_percent_of_the_time() {
    let quantile = StudentsT::new(0.0, 1.0, GROUPS as f64 - 1.0).expect("a distribution").inverse_cdf(0.975);
    let cases: [(&str, Vec<Line>); 4] = [
        ("packet", vec![Line::Packet { s: 0.3 }]),
        ("cosine", vec![Line::Cosine { r: 0.7 }]),
        (
            "cut packets in 3 dimensions",
            vec![Line::CutPacket { s: 1.0 }, Line::CutPacket { s: 0.2 }, Line::Cosine { r: 2.0 }],
        ),
        ("decay beside a packet", vec![Line::Decay { k: 3.0 }, Line::CutPacket { s: 0.5 }]),
    ];
    let (mut covered, mut of) = ([0u32; 4], 0);
    for (case, (name, lines)) in cases.iter().enumerate() {
        let truth = truth(lines);
        let mut own = [0u32; 4];
        for repetition in 0..200u64 {
            let groups = sample(lines, 4_096, 10_000 * (case as u64 + 1) + repetition, NONE);
            for (which, figure) in found(&groups).into_iter().enumerate() {
                own[which] += u32::from((figure.value - truth[which]).abs() <= quantile * figure.se);
            }
        }
        for (which, figure) in ["dx", "dp", "product", "bound"].into_iter().enumerate() {
            let share = f64::from(own[which]) / 200.0;
            assert!((0.91..=0.98).contains(&share), "{name}: {figure} is covered {share} of the time");
            covered[which] += own[which];
        }
        of += 200;
    }
    for share in covered.map(|covered| f64::from(covered) / f64::from(of)) {
        assert!((0.925..=0.975).contains(&share), "{share}");
    }
}

#[test]
fn the_product_is_never_below_the_bound_of_the_same_samples() {
    let lines = sixteen();
    for samples in [64, 100, 1000] {
        let total = sample(&lines, samples, samples, NONE).total();
        for PerFeature { dx, dp, c } in total.features() {
            assert!(dx * dp >= c.abs() * (1.0 - 1e-9), "{dx} {dp} {c}");
        }
    }
}

#[test]
fn noise_is_no_bound() {
    // Position and momentum have nothing to do with each other: C is 0 in every dimension, and its
    // estimate is not.
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut unit = || (rng.next_u64() >> 11) as f64 * (-53f64).exp2() - 0.5;
    let mut groups = Groups::new(500);
    for number in 0..1024 {
        let (x, p): (Vec<f64>, Vec<f64>) = (0..500).map(|_| (unit(), unit())).unzip();
        groups.add(number, 1024, 0.0, &x, &p);
    }
    let naive = (groups.total().features().map(|f| f.c * f.c).sum::<f64>() / 500.0).sqrt();
    let bound = groups.figures().expect("defined").bound;
    assert!(naive > 0.0024, "1/12 / sqrt(1024) = 0.0026 of noise: {naive}");
    assert!(bound.value < 0.3 * naive && bound.value <= 3.0 * bound.se, "{bound:?} after {naive}");
}

#[test]
fn the_scale_of_the_loss_does_not_matter_however_small_it_is() {
    let line = [Line::Packet { s: 0.3 }, Line::Cosine { r: 1.0 }];
    let plain = found(&sample(&line, 2_000, 1, NONE));
    for shifted in [sample(&line, 2_000, 1, |log, _, _| log - 900.0), sample(&line, 2_000, 1, |log, _, _| log + 900.0)]
    {
        for (a, b) in plain.into_iter().zip(found(&shifted)) {
            assert!((a.value - b.value).abs() < 1e-10 && (a.se - b.se).abs() < 1e-9, "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_psi_that_is_not_there_has_no_figures() {
    let of = |log_loss: &dyn Fn(u64) -> f64| {
        let mut groups = Groups::new(2);
        (0..640).for_each(|n| groups.add(n, 640, log_loss(n), &[n as f64, 1.0], &[1.0, n as f64]));
        groups.figures()
    };
    assert!(of(&|_| 0.0).is_some());
    assert_eq!(of(&|_| f64::NEG_INFINITY), None, "0 everywhere");
    assert_eq!(of(&|n| if n == 7 { 0.0 } else { f64::NEG_INFINITY }), None, "0 but for one sample");
    assert_eq!(of(&|n| if n == 7 { f64::NAN } else { 0.0 }), None);
    assert_eq!(of(&|n| if n == 7 { f64::INFINITY } else { 0.0 }), None);
    assert!(of(&|n| if n % 2 == 0 { f64::NEG_INFINITY } else { 0.0 }).is_some(), "half of it is enough");
    assert_eq!(Groups::new(0).figures(), None, "no dimension");
}

#[test]
fn moments_do_not_depend_on_how_samples_are_grouped() {
    let lines = sixteen();
    let groups = sample(&lines, 1_000, 4, NONE);
    let mut backwards = Moments::new(lines.len());
    groups.0.iter().rev().for_each(|group| backwards.merge(group));
    for (a, b) in groups.total().features().zip(backwards.features()) {
        assert!((a.dx - b.dx).abs() < 1e-12 && (a.dp - b.dp).abs() < 1e-9 && (a.c - b.c).abs() < 1e-12);
    }
}
