//! The report as a whole: what its files hold, and that it survives every shape of a sweep.

use super::*;
use crate::frontier::results::TrialStatus;
use crate::frontier::synthetic::{Behaviour, Shape, study, sweep};
use crate::outcome::Level;

fn provenance() -> Provenance {
    Provenance {
        yaml: "name: digits-tradeoff\ndataset: digits\ntrial:\n  method: natural\n  epochs: 20\ngrid:\n  - {model: [mlp, smallcnn]}\n  - {method: [natural, {pgd: {epsilon: 0.1}}, {pgd: {epsilon: 0.2}}, {trades: {epsilon: 0.1, beta: 6}}]}\nseeds: 3\nevaluate:\n  epochs: [1, 5, final]\n  epsilons: {linspace: [0, 0.3, 11]}\n  attacks: [fgsm, {pgd: {steps: 40, restarts: 5}}, autoattack]\n".into(),
        epsweep: "0.1.0".into(),
        libtorch: "2.13.0".into(),
        algorithm: "3".into(),
        data: "digits".into(),
        data_digest: "blake3:5f8c0c0a4bb9a1a4de0b6a4e6a6ecf27c7a3b2a6b4b8c6d2f0b19a7f5e3d1c0b".into(),
        started: "2026-11-22 17:48:03Z".into(),
        finished: "2026-11-22 18:00:41Z".into(),
        wall_seconds: 758.0,
        workers: (0..4)
            .map(|i| WorkerLine { name: format!("node{i:02}"), device: "cpu".into(), slots: 1, tasks: 90 - 3 * i })
            .collect(),
        tasks: 352,
        reused: 0,
        retries: 2,
        failures: Vec::new(),
        command: "epsweep run digits-tradeoff.yaml --workers 4".into(),
    }
}

fn costs() -> Vec<CostRow> {
    let row = |i: u64| CostRow {
        task: format!("{:08x}", i.wrapping_mul(0x9e37_79b9)),
        kind: if i % 8 == 0 { "train" } else { "evaluate" }.into(),
        worker: format!("node{:02}", i % 4),
        attempt: 1,
        seconds: 8.1,
        forwards: 120_000,
        backwards: 110_000,
        examples: 150,
    };
    (0..352).map(row).collect()
}

fn typical() -> Results {
    sweep(&study(), &["model", "method"], &Shape::default(), 11)
}

/// One sweep of every shape that people have: tiny, huge, broken, hostile.
fn shapes() -> Vec<(&'static str, Results)> {
    let shape = Shape::default();
    let mut partial = typical();
    partial.trials[4].status = TrialStatus::Failed("loss became NaN at step 812 (diverged)".into());
    partial.trials[4].checkpoints.truncate(1);
    partial.trials[9].status = TrialStatus::Pending;
    partial.trials[9].checkpoints[2].levels[1][100..].fill(Level::UNKNOWN);
    partial.trials[20].status = TrialStatus::Cancelled;
    partial.trials[20].checkpoints.clear();
    let mut nothing = typical();
    nothing.trials.iter_mut().for_each(|t| {
        t.status = TrialStatus::Pending;
        t.checkpoints.clear();
    });
    let one = Shape { seeds: 1, epochs: vec![20], attacks: vec!["fgsm".into()], ..shape.clone() };
    let many: Vec<Behaviour> = (0..200)
        .map(|i| Behaviour {
            axes: vec![
                ["mlp", "smallcnn"][i % 2].into(),
                format!("{}", 0.001 * (i / 2) as f64),
                "0.0005".into(),
                "cosine".into(),
                format!("{}", 32 << (i % 4)),
            ],
            clean: 0.80 + 0.18 * ((i * 37 % 100) as f64 / 100.0),
            median: 0.03 + 0.2 * ((i * 61 % 100) as f64 / 100.0),
            spread: 0.03,
        })
        .collect();
    let five = ["model", "optimizer.sgd.lr", "weight_decay", "schedule", "batch_size"];
    let mut hostile = sweep(&study()[..2], &["seed", "a<b>&\"'"], &Shape { examples: 40, ..shape.clone() }, 2);
    hostile.sweep = "</title><script>alert(1)</script>".into();
    for trial in &mut hostile.trials {
        trial.axes[1] = format!(
            "</script><img src=x onerror=alert(1)>\u{0}\u{1b}{}, \"quoted\"\n{}",
            trial.axes[1],
            "very-".repeat(60)
        );
    }
    hostile.attacks[0] = "]]>&<fgsm>".into();
    let mut empty = typical();
    empty.trials.clear();
    empty.axes.clear();
    empty.attacks.clear();
    empty.epsilons.clear();
    let eighths: Vec<f64> = (0..=8).map(|i| f64::from(2 * i) / 255.0).collect();
    let clean_only = Shape { epsilons: vec![0.0], ..one.clone() };
    vec![
        ("typical", typical()),
        ("partial", partial),
        ("nothing", nothing),
        ("one", sweep(&study()[..1], &["model", "method"], &one, 3)),
        ("many", sweep(&many, &five, &Shape { examples: 120, seeds: 2, ..shape.clone() }, 4)),
        ("hostile", hostile),
        ("empty", empty),
        ("eighths", sweep(&study()[..4], &["model", "method"], &Shape { epsilons: eighths, ..shape.clone() }, 5)),
        ("clean-only", sweep(&study()[..3], &["model", "method"], &clean_only, 6)),
        ("no-axes", sweep(&[Behaviour { axes: Vec::new(), ..study()[0].clone() }], &[], &shape, 6)),
    ]
}

/// Writes all shapes to look at: `cargo test write_to_look_at -- --ignored`, into $EPSWEEP_LOOK or /tmp/epsweep-look.
#[test]
#[ignore = "for looking at"]
fn write_to_look_at() {
    let root = std::env::var("EPSWEEP_LOOK").unwrap_or_else(|_| "/tmp/epsweep-look".into());
    for (name, results) in shapes() {
        write(&Path::new(&root).join(name), &results, &costs(), &provenance()).unwrap();
    }
}
