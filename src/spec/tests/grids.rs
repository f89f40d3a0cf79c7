//! From grids to trials.

use super::{around, outcome, sweep, with};
use crate::spec::{GridCounts, Optimizer, Sweep};
use proptest::prelude::*;

/// The axis values of each trial, joined, seeds left out.
fn rows(sweep: &Sweep) -> Vec<String> {
    let mut rows: Vec<String> = sweep.trials.iter().map(|trial| trial.axes.join(" ")).collect();
    rows.dedup();
    rows
}

#[test]
fn a_grid_is_a_product_of_zips_with_seeds_innermost() {
    let sweep = sweep(&with(
        "grid:\n  - {model: [mlp, {smallcnn: {channels: [16, 32]}}]}\n  - {optimizer.sgd.lr: [0.1, 1e-2], batch_size: [128, 32]}\nseeds: 2",
    ));
    assert_eq!(sweep.axes, ["model", "optimizer.sgd.lr", "batch_size"]);
    let smallcnn = "smallcnn(channels=[16,32])";
    assert_eq!(
        rows(&sweep),
        ["mlp 0.1 128", "mlp 0.01 32", &format!("{smallcnn} 0.1 128"), &format!("{smallcnn} 0.01 32")]
    );
    assert_eq!(sweep.trials.iter().map(|trial| trial.seed).collect::<Vec<u64>>(), [0, 1, 0, 1, 0, 1, 0, 1]);
    let lr = |position: usize| match sweep.trials[position].recipe.optimizer {
        Optimizer::Sgd { lr, .. } => lr,
        Optimizer::Adamw { .. } => panic!("sgd is the default"),
    };
    assert_eq!((lr(0), lr(2)), (0.1, 0.01));
    assert_eq!(sweep.counts, GridCounts { points: 4, configs: 4, ..GridCounts::default() });
}

#[test]
fn an_axis_with_when_applies_to_matching_points_only() {
    let sweep = sweep(&with(
        "grid:\n  - {optimizer: [sgd, adamw]}\n  - {optimizer.sgd.momentum: [0, 0.9], when: {optimizer: sgd}}\n  - {optimizer.adamw.lr: [0.1, 0.2, 0.3], when: {optimizer: adamw}}",
    ));
    assert_eq!(sweep.axes, ["optimizer", "optimizer.sgd.momentum", "optimizer.adamw.lr"]);
    assert_eq!(rows(&sweep), ["sgd 0 ", "sgd 0.9 ", "adamw  0.1", "adamw  0.2", "adamw  0.3"]);
}

#[test]
fn when_can_look_at_numbers_and_at_defaults() {
    let sweep = sweep(&with(
        "grid:\n  - {optimizer.sgd.lr: [0.1, 0.2]}\n  - {batch_size: [32, 64], when: {optimizer.sgd.lr: 1/5, optimizer: {sgd: {momentum: 0.9}}}}",
    ));
    assert_eq!(rows(&sweep), ["0.1 128", "0.2 32", "0.2 64"]);
}

#[test]
fn the_same_key_may_be_varied_by_axes_that_never_meet() {
    let sweep = sweep(&with(
        "grid:\n  - {model: [mlp, linear]}\n  - {batch_size: [32], when: {model: mlp}}\n  - {batch_size: [64, 128], when: {model: linear}}",
    ));
    assert_eq!(sweep.axes, ["model", "batch_size"]);
    assert_eq!(rows(&sweep), ["mlp 32", "linear 64", "linear 128"]);
}

#[test]
fn a_field_may_be_varied_before_its_owner() {
    let sweep = sweep(&with("grid:\n  - {method.pgd.epsilon: [0.1, 0.2]}\n  - {method: [pgd, {pgd: {steps: 3}}]}"));
    assert_eq!(rows(&sweep), ["0.1 pgd", "0.1 pgd(steps=3)", "0.2 pgd", "0.2 pgd(steps=3)"]);
}

#[test]
fn excluded_points_need_not_be_valid() {
    let sweep = sweep(&with(
        "grid:\n  - {optimizer: [sgd, adamw]}\n  - {method: [natural, {trades: {epsilon: 0.1}}]}\nexclude:\n  - {optimizer: adamw, method: {trades: any}}",
    ));
    assert_eq!(rows(&sweep).len(), 3);
    assert_eq!(sweep.counts, GridCounts { points: 4, excluded: 1, configs: 3, ..GridCounts::default() });
}

#[test]
fn points_that_are_equal_with_defaults_filled_in_are_merged() {
    let sweep = sweep(&with(
        "grid:\n  - method:\n      - {pgd: {epsilon: 0.1}}\n      - {pgd: {steps: 10, epsilon: 1/10, norm: linf}}\n      - natural\n      - {natural: {}}",
    ));
    assert_eq!(rows(&sweep), ["pgd(epsilon=0.1)", "natural"]);
    assert_eq!(sweep.counts, GridCounts { points: 4, merged: 2, configs: 2, ..GridCounts::default() });
}

#[test]
fn included_points_are_added_whatever_was_excluded_or_sampled() {
    let sweep = sweep(&with(
        "grid:\n  - {model: [mlp, linear]}\n  - {batch_size: [32, 64]}\nexclude: [{model: linear}]\nsample: {n: 1}\ninclude:\n  - {model: linear, epochs: 9}\n  - {model: linear, epochs: 9}",
    ));
    assert_eq!(sweep.axes, ["model", "batch_size", "epochs"]);
    assert_eq!(sweep.trials.len(), 2);
    assert_eq!(sweep.trials[1].axes, ["linear", "128", "9"]);
    let counts = GridCounts { points: 4, excluded: 2, included: 2, unsampled: 1, merged: 1, configs: 2 };
    assert_eq!(sweep.counts, counts);
}

#[test]
fn without_a_grid_trial_itself_is_the_only_point() {
    let sweep = sweep(&with("seeds: [7, 3]"));
    assert_eq!(sweep.trials.iter().map(|trial| trial.seed).collect::<Vec<u64>>(), [7, 3]);
    assert_eq!(sweep.trials[0].axes.len(), 0);
}

#[test]
fn a_sample_is_stable_and_mostly_survives_an_edit_of_the_grid() {
    let sampled = |last: u32, seed: u32| {
        rows(&sweep(&with(&format!(
            "grid:\n  - {{batch_size: {{range: [1, {last}, 1]}}}}\nsample: {{n: 40, seed: {seed}}}"
        ))))
    };
    let sample = sampled(200, 1);
    assert_eq!(sample.len(), 40);
    assert_eq!(sample, sampled(200, 1));
    assert_ne!(sample, sampled(200, 2));
    let numbers: Vec<u32> = sample.iter().map(|row| row.parse().expect("batch sizes")).collect();
    assert!(numbers.is_sorted(), "grid order is kept");
    let after = sampled(220, 1);
    assert!(sample.iter().filter(|row| after.contains(row)).count() >= 30);
}

#[test]
fn a_sample_larger_than_the_grid_keeps_everything() {
    let sweep = sweep(&with("grid:\n  - {batch_size: [1, 2, 3]}\nsample: {n: 10}"));
    assert_eq!((sweep.trials.len(), sweep.counts.unsampled), (3, 0));
}

#[test]
fn a_hundred_thousand_points_expand_in_a_moment() {
    let text = with(
        "grid:\n  - {model: [mlp, linear]}\n  - {batch_size: {range: [1, 50, 1]}}\n  - {optimizer.sgd.lr: {logspace: [0.001, 0.1, 50]}}\n  - {optimizer.sgd.momentum: {linspace: [0, 0.9, 20]}}\nexclude: [{model: linear, batch_size: 7}]",
    );
    let start = std::time::Instant::now();
    assert_eq!(sweep(&text).trials.len(), 100_000 - 1000);
    // About 0.6 s on a slow core; the margin is for busy machines.
    assert!(start.elapsed().as_secs_f64() < 5.0, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn a_grid_of_distinct_values_has_the_product_of_its_sizes(
        models in 1..4_usize,
        batches in 1..6_u32,
        rates in 1..6_u32,
        zipped in 1..5_u32,
        seeds in 1..4_u32,
    ) {
        let models_list = ["mlp", "linear", "smallcnn"][..models].join(", ");
        let list = |count: u32, scale: f64| (1..=count).map(|i| (f64::from(i) * scale).to_string()).collect::<Vec<_>>().join(", ");
        let text = with(&format!(
            "grid:\n  - {{model: [{models_list}]}}\n  - {{batch_size: [{}]}}\n  - {{optimizer.sgd.lr: [{}]}}\n  - {{epochs: [{}], optimizer.sgd.momentum: [{}]}}\nseeds: {seeds}",
            list(batches, 1.0), list(rates, 0.01), list(zipped, 1.0), list(zipped, 0.1),
        ));
        let sweep = sweep(&text);
        let configs = models * (batches * rates * zipped) as usize;
        prop_assert_eq!(sweep.trials.len(), configs * seeds as usize);
        prop_assert_eq!(sweep.counts.configs, configs);
        let distinct: std::collections::HashSet<String> =
            sweep.trials.iter().map(|trial| format!("{:?} {}", trial.axes, trial.seed)).collect();
        prop_assert_eq!(distinct.len(), sweep.trials.len());
    }

    #[test]
    fn the_counts_always_add_up(
        batches in prop::collection::vec(1..5_u32, 1..6),
        excluded in 1..6_u32,
        included in prop::collection::vec(1..8_u32, 1..4),
        n in 1..6_u32,
    ) {
        let include: Vec<String> = included.iter().map(|batch| format!("{{batch_size: {batch}}}")).collect();
        let text = with(&format!(
            "grid:\n  - {{batch_size: {batches:?}}}\nexclude: [{{batch_size: {excluded}}}]\nsample: {{n: {n}}}\ninclude: [{}]",
            include.join(", "),
        ));
        let (sweep, _) = outcome(&text).expect("valid");
        let counts = sweep.counts;
        prop_assert_eq!(counts.points + counts.included - counts.excluded - counts.unsampled - counts.merged, counts.configs);
        prop_assert_eq!(counts.configs, sweep.trials.len());
        for batch in included {
            prop_assert!(sweep.trials.iter().any(|trial| trial.recipe.batch_size == batch));
        }
    }
}

#[test]
fn axis_columns_never_confuse_two_configurations() {
    let sweep = sweep(&around(
        "model: mlp, method: natural",
        "grid:\n  - {method: [natural, {pgd: {epsilon: 0.1}}, {pgd: {epsilon: 0.2}}, {pgd: {epsilon: 0.1, steps: 3}}]}\n  - {schedule: [cosine, {step: {milestones: [0.5]}}, step]}",
        "epsilons: [0]",
    ));
    let rows = rows(&sweep);
    let distinct: std::collections::HashSet<&String> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (12, 12));
}
