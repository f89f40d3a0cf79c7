//! The tables of the statistics over configurations: one line each, the frontier as one number, pairs.

use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::tables::axes;
use crate::frontier::Estimate;
use crate::frontier::compare::Comparison;
use crate::frontier::hypervolume::Volume;

const SUMMARY: [&str; 16] = [
    "config",
    "epoch",
    "seeds",
    "n",
    "clean_accuracy",
    "clean_low",
    "clean_high",
    "area",
    "area_low",
    "area_high",
    "median_break",
    "median_break_low",
    "median_break_high",
    "between_seeds",
    "best_p_on_frontier",
    "interval",
];

/// One row per configuration and epoch, sorted by axes, configuration, epoch.
pub fn summary(study: &Study) -> Table {
    let frontier = &study.frontier;
    let rows = &frontier.candidates;
    let real = |of: &dyn Fn(usize) -> Option<f64>, format| Cells::Real((0..rows.len()).map(of).collect(), format);
    let probability = |of: &dyn Fn(usize) -> Option<f64>| real(of, Format::Probability);
    let text = |of: &dyn Fn(usize) -> String| Cells::Text((0..rows.len()).map(of).collect());
    let best = |c: usize| frontier.points.iter().map(|points| points[c].p_on_frontier).reduce(f64::max);
    let mut columns = vec![Column::new("config", text(&|c| rows[c].config.clone()))];
    columns.extend(axes(study, &SUMMARY, rows.iter().map(|c| &c.axes)));
    columns.extend([
        Column::new("epoch", Cells::MaybeCount(rows.iter().map(|c| c.weights_epoch().map(u64::from)).collect())),
        Column::new("seeds", Cells::Count(rows.iter().map(|c| c.seeds as u64).collect())),
        Column::new("n", Cells::Count(vec![frontier.examples as u64; rows.len()])),
        Column::new("clean_accuracy", probability(&|c| Some(rows[c].clean.value))),
        Column::new("clean_low", probability(&|c| Some(rows[c].clean.low))),
        Column::new("clean_high", probability(&|c| Some(rows[c].clean.high))),
        Column::new("area", probability(&|c| rows[c].area.map(|area| area.value))),
        Column::new("area_low", probability(&|c| rows[c].area.map(|area| area.low))),
        Column::new("area_high", probability(&|c| rows[c].area.map(|area| area.high))),
        Column::new("median_break", real(&|c| Some(rows[c].median_break.value), Format::Epsilon)),
        Column::new("median_break_low", real(&|c| Some(rows[c].median_break.low), Format::Epsilon)),
        Column::new("median_break_high", real(&|c| Some(rows[c].median_break.high), Format::Epsilon)),
        Column::new("between_seeds", probability(&|c| rows[c].between_seeds)),
        Column::new("best_p_on_frontier", probability(&best)),
        Column::new("interval", text(&|c| rows[c].interval.name().into())),
    ]);
    Table { name: "summary", columns }
}

/// One row per step of the sweep and epsilon; the last step is the whole sweep.
pub fn hypervolume(study: &Study) -> Table {
    let epsilons = &study.frontier.epsilons;
    let rows: Vec<(usize, usize, f64, Volume)> = study
        .growth
        .iter()
        .flat_map(|step| {
            epsilons.iter().zip(&step.volumes).map(|(&epsilon, &volume)| (step.trials, step.configs, epsilon, volume))
        })
        .collect();
    let real = |of: &dyn Fn(&Volume) -> f64| {
        Cells::Real(rows.iter().map(|row| Some(of(&row.3))).collect(), Format::Probability)
    };
    let seeds = study.frontier.candidates.iter().map(|c| c.seeds).min().unwrap_or(0);
    let interval = if seeds > 1 { "seeds+examples" } else { "examples" };
    let columns = vec![
        Column::new("trials", Cells::Count(rows.iter().map(|row| row.0 as u64).collect())),
        Column::new("configs", Cells::Count(rows.iter().map(|row| row.1 as u64).collect())),
        Column::new("epsilon", Cells::Real(rows.iter().map(|row| Some(row.2)).collect(), Format::Epsilon)),
        Column::new("n", Cells::Count(vec![study.frontier.examples as u64; rows.len()])),
        Column::new("hypervolume", real(&|volume| volume.estimate.value)),
        Column::new("hypervolume_low", real(&|volume| volume.estimate.low)),
        Column::new("hypervolume_high", real(&|volume| volume.estimate.high)),
        Column::new("optimism", real(&|volume| volume.optimism)),
        Column::new("interval", Cells::Text(vec![interval.into(); rows.len()])),
    ];
    Table { name: "hypervolume", columns }
}

/// One row per epsilon and pair of configurations, each at its last epoch; sorted by epsilon, then as
/// the configurations are.
pub fn comparisons(study: &Study) -> Table {
    let rows: Vec<(f64, &Comparison, [Estimate; 2])> = study
        .frontier
        .epsilons
        .iter()
        .zip(&study.comparisons.at)
        .enumerate()
        .flat_map(|(e, (&epsilon, at))| {
            at.iter().map(move |c| (epsilon, c, [c.a, c.b].map(|side| study.robust(e, side))))
        })
        .collect();
    let config_of = study.config_of();
    let text = |of: &dyn Fn(&Comparison) -> String| Cells::Text(rows.iter().map(|row| of(row.1)).collect());
    let maybe = |of: &dyn Fn(&Comparison) -> Option<u64>| Cells::MaybeCount(rows.iter().map(|row| of(row.1)).collect());
    let count = |of: &dyn Fn(&Comparison) -> usize| Cells::Count(rows.iter().map(|row| of(row.1) as u64).collect());
    let real = |of: &dyn Fn(&Comparison) -> Option<f64>, format| {
        Cells::Real(rows.iter().map(|row| of(row.1)).collect(), format)
    };
    let probability = |of: &dyn Fn(&Comparison) -> f64| real(&|c| Some(of(c)), Format::Probability);
    let robust =
        |side: usize| Cells::Real(rows.iter().map(|row| Some(row.2[side].value)).collect(), Format::Probability);
    let mut columns =
        vec![Column::new("epsilon", Cells::Real(rows.iter().map(|row| Some(row.0)).collect(), Format::Epsilon))];
    for (position, name) in ["a", "b"].into_iter().enumerate() {
        let side = |c: &Comparison| [c.a, c.b][position];
        let epoch = |c: &Comparison| study.candidate(side(c)).weights_epoch().map(u64::from);
        columns.extend([
            Column::new(format!("config_{name}"), text(&|c| study.candidate(side(c)).config.clone())),
            Column::new(name, text(&|c| study.configs[config_of[side(c)]].label.clone())),
            Column::new(format!("epoch_{name}"), maybe(&epoch)),
            Column::new(format!("seeds_{name}"), count(&|c| study.candidate(side(c)).seeds)),
        ]);
    }
    columns.extend([
        Column::new("n", Cells::Count(vec![study.frontier.examples as u64; rows.len()])),
        Column::new("robust_a", robust(0)),
        Column::new("robust_b", robust(1)),
        Column::new("difference", probability(&|c| c.difference.value)),
        Column::new("difference_low", probability(&|c| c.difference.low)),
        Column::new("difference_high", probability(&|c| c.difference.high)),
        Column::new("interval", text(&|c| c.interval.name().into())),
        Column::new("only_a", count(&|c| c.only_a)),
        Column::new("only_b", count(&|c| c.only_b)),
        Column::new("p_examples", real(&|c| Some(c.examples.p), Format::Significant)),
        Column::new("p_examples_holm", real(&|c| Some(c.examples.holm), Format::Significant)),
        Column::new("q_examples", real(&|c| Some(c.examples.q), Format::Significant)),
        Column::new("p_seeds", real(&|c| c.seeds.map(|s| s.p), Format::Significant)),
        Column::new("p_seeds_holm", real(&|c| c.seeds.map(|s| s.holm), Format::Significant)),
        Column::new("q_seeds", real(&|c| c.seeds.map(|s| s.q), Format::Significant)),
        Column::new("family", Cells::Count(vec![study.comparisons.family as u64; rows.len()])),
    ]);
    Table { name: "comparisons", columns }
}
