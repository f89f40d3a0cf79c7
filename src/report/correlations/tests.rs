//! Joining what was measured with what was attacked.

use super::*;
use crate::frontier::Results;
use crate::frontier::synthetic::{Shape, study as behaviours, sweep};
use crate::measure::Measured;
use crate::measure::moments::{Figure, Figures};
use crate::measure::uncertainty::{Answer, Unit};
use crate::outcome::Level;
use crate::spec::{Domain, Measure, MeasuredLoss, NamedMeasure, Uncertainty};

/// One unit whose dp is given; dx is the same everywhere.
fn answer(dp: f64) -> Option<Measured> {
    let figure = |value: f64| Figure { value, se: 0.01 };
    let (dx, product, bound) = (figure(0.05), figure(0.05 * dp), figure(0.02 * dp));
    let figures = Figures { dx, dp: figure(dp), product, bound, effective: 400.0 };
    let mut answer = Answer::default();
    answer.push(Unit { class: 1, figures: Some(figures) }, &[]);
    Some(Measured::Uncertainty(answer))
}

/// Eight configurations, three seeds, three epochs: dp falls with the accuracy at the fourth epsilon.
fn measured() -> Results {
    let mut results = sweep(&behaviours(), &["model", "method"], &Shape { examples: 100, ..Shape::default() }, 11);
    let asked =
        Uncertainty { domain: Domain::Box, radius: Some(0.1), samples: 1024, loss: MeasuredLoss::Ce, clip: true };
    let named = NamedMeasure { name: "box".into(), measure: Measure::Uncertainty(asked), examples: 4, epochs: None };
    results.measures = vec![named];
    for trial in &mut results.trials {
        for checkpoint in &mut trial.checkpoints {
            let standing = checkpoint.levels[2].iter().filter(|level| level.survives(3)).count() as f64;
            checkpoint.measured = vec![answer(500.0 - standing)];
        }
    }
    results
}

fn study(results: &Results) -> Study<'_> {
    Study::with(results, crate::frontier::Settings { draws: 2 })
}

#[test]
fn a_trial_is_one_point_at_its_last_measured_epoch() {
    let mut results = measured();
    results.trials[0].checkpoints[2].measured = vec![None];
    results.trials[1].checkpoints[2].levels[0][5] = Level::UNKNOWN;
    let study = study(&results);
    let clouds = clouds(&study);
    assert_eq!((clouds.len(), clouds[0].points.len()), (1, 24));
    let epoch = |seed: u64| {
        let config = study.configs.iter().position(|config| config.config == results.trials[0].config);
        clouds[0].points.iter().find(|p| Some(p.config) == config && p.seed == seed).map(|p| p.epoch)
    };
    assert_eq!([0, 1, 2].map(epoch), [Some(5), Some(5), Some(20)], "not measured; not fully attacked; both");
}

#[test]
fn trials_and_configurations_are_told_apart_and_what_does_not_vary_is_left_out() {
    let results = measured();
    let study = study(&results);
    let lines = lines(&study, &clouds(&study));
    assert!(lines.iter().all(|line| line.figure != "dx"));
    let of = |over_trials| {
        let at = |line: &&Line| {
            line.figure == "dp" && line.epsilon == results.epsilons[3] && line.over_trials == over_trials
        };
        lines.iter().find(at).unwrap().found
    };
    assert_eq!((of(true).n, of(false).n), (24, 8));
    // The worst case over attacks is a little below the last attack, so the line is nearly perfect.
    assert!(of(true).pearson.value < -0.98 && of(false).spearman.value < -0.97, "{:?}", of(true));
    let width = |over| of(over).spearman.interval.map(|(low, high)| high - low).unwrap();
    assert!(width(false) > width(true), "fewer points say less");
    let table = String::from_utf8(table(&lines).csv().unwrap()).unwrap();
    assert_eq!(table.lines().count(), 1 + lines.len());
    assert!(table.starts_with("measure,figure,epsilon,over,n,spearman,spearman_low,spearman_high,pearson,"));
}

#[test]
fn two_points_are_no_correlation() {
    let mut results = measured();
    results.trials.truncate(2);
    let study = study(&results);
    assert!(lines(&study, &clouds(&study)).is_empty());
}
