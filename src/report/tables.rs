//! The columns of each table. Names and order are a contract with scripts: add at the end only.

use super::input::CostRow;
use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::trust::{self, Check};
use crate::frontier::results::{CheckpointResults, TrialResults, TrialStatus};
use crate::frontier::summary::{Summary, summarise};

/// One row per checkpoint; a trial without any has one row with empty cells and its status.
/// Sorted by axes, configuration, seed, trial, epoch.
pub fn trials(study: &Study) -> Table {
    let mut rows: Vec<(&TrialResults, Option<(&CheckpointResults, Summary)>)> = Vec::new();
    for &t in &study.order {
        let trial = &study.results.trials[t];
        if trial.checkpoints.is_empty() {
            rows.push((trial, None));
        }
        rows.extend(trial.checkpoints.iter().map(|c| (trial, Some((c, summarise(study.results, c))))));
    }
    let real = |of: &dyn Fn(&CheckpointResults, &Summary) -> Option<f64>, format| {
        let cells = rows.iter().map(|(_, c)| c.as_ref().and_then(|(c, s)| of(c, s)));
        Cells::Real(cells.collect(), format)
    };
    let finite = |x: f64| x.is_finite().then_some(x);
    let text = |of: &dyn Fn(&TrialResults) -> String| Cells::Text(rows.iter().map(|(t, _)| of(t)).collect());
    let count = |of: &dyn Fn(&CheckpointResults, &Summary) -> Option<u64>| {
        Cells::MaybeCount(rows.iter().map(|(_, c)| c.as_ref().and_then(|(c, s)| of(c, s))).collect())
    };
    let probability = Format::Probability;
    let mut columns = vec![Column::new("trial", text(&|t| t.trial.clone()))];
    columns.extend(axes(study, &TRIALS, rows.iter().map(|(t, _)| &t.axes)));
    columns.extend([
        Column::new("seed", Cells::Count(rows.iter().map(|(t, _)| t.seed).collect())),
        Column::new("epoch", count(&|c, _| Some(c.weights_epoch().into()))),
        Column::new("clean_accuracy", real(&|_, s| s.clean.map(|c| c.accuracy()), probability)),
        Column::new("train_loss", real(&|c, _| finite(c.train_loss), probability)),
        Column::new("train_seconds", real(&|c, _| finite(c.train_seconds), Format::Seconds)),
        Column::new("status", text(&|t| status(&t.status).into())),
        Column::new("config", text(&|t| t.config.clone())),
        Column::new("n", count(&|_, s| s.clean.map(|c| c.n as u64))),
        Column::new("clean_low", real(&|_, s| s.clean.map(|c| c.interval.low), probability)),
        Column::new("clean_high", real(&|_, s| s.clean.map(|c| c.interval.high), probability)),
        Column::new("area", real(&|_, s| s.area, probability)),
        Column::new("median_break", real(&|_, s| s.median_break, Format::Epsilon)),
        Column::new(
            "reason",
            text(&|t| if let TrialStatus::Failed(why) = &t.status { why.clone() } else { String::new() }),
        ),
        Column::new("validation_accuracy", real(&|c, _| c.facts.validation_accuracy, probability)),
        Column::new("fgsm_accuracy", real(&|c, _| c.facts.fgsm_accuracy, probability)),
        Column::new("pgd_accuracy", real(&|c, _| c.facts.pgd_accuracy, probability)),
        Column::new(
            "note",
            Cells::Text(rows.iter().map(|(_, c)| c.as_ref().map_or(String::new(), |(c, _)| c.facts.note())).collect()),
        ),
    ]);
    Table { name: "trials", columns }
}

const TRIALS: [&str; 18] = [
    "trial",
    "seed",
    "epoch",
    "clean_accuracy",
    "train_loss",
    "train_seconds",
    "status",
    "config",
    "n",
    "clean_low",
    "clean_high",
    "area",
    "median_break",
    "reason",
    "validation_accuracy",
    "fgsm_accuracy",
    "pgd_accuracy",
    "note",
];

/// Sorted by axes, configuration, seed, trial, epoch, attack (in the order of the file, `all`
/// last), epsilon. `n` counts the examples whose outcome is known; where none is, there is no row.
pub fn curves(study: &Study) -> Table {
    let results = study.results;
    let mut rank = vec![0; results.trials.len()];
    study.order.iter().enumerate().for_each(|(place, &t)| rank[t] = place);
    let mut curves: Vec<_> = study.curves.iter().collect();
    curves.sort_by_key(|c| (rank[c.trial], c.checkpoint, c.attack.is_none(), c.attack));
    let rows: Vec<_> = curves.iter().flat_map(|c| c.points.iter().map(move |p| (*c, p))).collect();
    let trial = |c: &crate::frontier::Curve| &results.trials[c.trial];
    let real = |values: Vec<f64>, format| Cells::Real(values.into_iter().map(Some).collect(), format);
    let mut columns =
        vec![Column::new("trial", Cells::Text(rows.iter().map(|(c, _)| trial(c).trial.clone()).collect()))];
    columns.extend(axes(study, &CURVES, rows.iter().map(|(c, _)| &trial(c).axes)));
    let epoch = rows.iter().map(|(c, _)| trial(c).checkpoints[c.checkpoint].weights_epoch().into());
    let probability = Format::Probability;
    columns.extend([
        Column::new("seed", Cells::Count(rows.iter().map(|(c, _)| trial(c).seed).collect())),
        Column::new("epoch", Cells::Count(epoch.collect())),
        Column::new("norm", Cells::Text(vec![results.norm.clone(); rows.len()])),
        Column::new("attack", Cells::Text(rows.iter().map(|(c, _)| c.attack_name(results).into()).collect())),
        Column::new("epsilon", real(rows.iter().map(|(_, p)| p.epsilon).collect(), Format::Epsilon)),
        Column::new("n", Cells::Count(rows.iter().map(|(_, p)| p.n as u64).collect())),
        Column::new("robust", Cells::Count(rows.iter().map(|(_, p)| p.robust as u64).collect())),
        Column::new("robust_accuracy", real(rows.iter().map(|(_, p)| p.accuracy()).collect(), probability)),
        Column::new("ci_low", real(rows.iter().map(|(_, p)| p.interval.low).collect(), probability)),
        Column::new("ci_high", real(rows.iter().map(|(_, p)| p.interval.high).collect(), probability)),
    ]);
    Table { name: "curves", columns }
}

const CURVES: [&str; 11] =
    ["trial", "seed", "epoch", "norm", "attack", "epsilon", "n", "robust", "robust_accuracy", "ci_low", "ci_high"];

/// Sorted by epsilon, axes, configuration, epoch.
pub fn frontier(study: &Study) -> Table {
    let frontier = &study.frontier;
    let rows: Vec<_> = frontier
        .points
        .iter()
        .zip(&frontier.epsilons)
        .flat_map(|(points, &e)| points.iter().zip(&frontier.candidates).map(move |(point, c)| (e, c, point)))
        .collect();
    let probability = |values: Vec<f64>| Cells::Real(values.into_iter().map(Some).collect(), Format::Probability);
    let mut columns = vec![
        Column::new("epsilon", Cells::Real(rows.iter().map(|r| Some(r.0)).collect(), Format::Epsilon)),
        Column::new("config", Cells::Text(rows.iter().map(|r| r.1.config.clone()).collect())),
    ];
    columns.extend(axes(study, &FRONTIER, rows.iter().map(|r| &r.1.axes)));
    columns.extend([
        Column::new("epoch", Cells::MaybeCount(rows.iter().map(|r| r.1.weights_epoch().map(u64::from)).collect())),
        Column::new("seeds", Cells::Count(rows.iter().map(|r| r.1.seeds as u64).collect())),
        Column::new("clean_accuracy", probability(rows.iter().map(|r| r.1.clean.value).collect())),
        Column::new("clean_low", probability(rows.iter().map(|r| r.1.clean.low).collect())),
        Column::new("clean_high", probability(rows.iter().map(|r| r.1.clean.high).collect())),
        Column::new("robust_accuracy", probability(rows.iter().map(|r| r.2.robust.value).collect())),
        Column::new("robust_low", probability(rows.iter().map(|r| r.2.robust.low).collect())),
        Column::new("robust_high", probability(rows.iter().map(|r| r.2.robust.high).collect())),
        Column::new("on_frontier", Cells::Flag(rows.iter().map(|r| r.2.on_frontier).collect())),
        Column::new("p_on_frontier", probability(rows.iter().map(|r| r.2.p_on_frontier).collect())),
        Column::new("n", Cells::Count(vec![frontier.examples as u64; rows.len()])),
        Column::new("interval", Cells::Text(rows.iter().map(|r| r.1.interval.name().into()).collect())),
    ]);
    Table { name: "frontier", columns }
}

const FRONTIER: [&str; 14] = [
    "epsilon",
    "config",
    "epoch",
    "seeds",
    "clean_accuracy",
    "clean_low",
    "clean_high",
    "robust_accuracy",
    "robust_low",
    "robust_high",
    "on_frontier",
    "p_on_frontier",
    "n",
    "interval",
];

/// Sorted as `curves`: one row per checkpoint and attack, `all` last.
pub fn trust(study: &Study) -> Table {
    let results = study.results;
    let rows = trust::rows(study);
    let trial = |row: &trust::Row| &results.trials[row.trial];
    let text = |of: &dyn Fn(&trust::Row) -> String| Cells::Text(rows.iter().map(of).collect());
    let mut columns = vec![Column::new("trial", text(&|row| trial(row).trial.clone()))];
    let mut ours: Vec<&str> = vec!["trial", "seed", "epoch", "norm", "attack", "attacked", "warnings"];
    ours.extend(Check::ALL.map(Check::column));
    columns.extend(axes(study, &ours, rows.iter().map(|row| &trial(row).axes)));
    let epoch = |row: &trust::Row| trial(row).checkpoints[row.checkpoint].epoch.into();
    columns.extend([
        Column::new("seed", Cells::Count(rows.iter().map(|row| trial(row).seed).collect())),
        Column::new("epoch", Cells::Count(rows.iter().map(epoch).collect())),
        Column::new("norm", Cells::Text(vec![results.norm.clone(); rows.len()])),
        Column::new("attack", text(&|row| trust::attack_name(results, row).into())),
        Column::new("attacked", Cells::MaybeCount(rows.iter().map(|row| row.facts.map(|f| f.attacked)).collect())),
    ]);
    for check in Check::ALL {
        let values = rows.iter().map(|row| check.value(row));
        let cells = match check {
            _ if check.is_share() => Cells::Real(values.collect(), Format::Probability),
            _ if check.is_flag() => Cells::MaybeFlag(values.map(|value| value.map(|value| value > 0.0)).collect()),
            _ => Cells::MaybeCount(values.map(|value| value.map(|value| value as u64)).collect()),
        };
        columns.push(Column::new(check.column(), cells));
    }
    let warnings = |row: &trust::Row| {
        let raised: Vec<&str> =
            Check::ALL.iter().filter(|check| check.warns(row)).map(|check| check.column()).collect();
        raised.join(" ")
    };
    columns.push(Column::new("warnings", text(&warnings)));
    Table { name: "trust", columns }
}

/// Sorted by task, attempt, worker.
pub fn costs(costs: &[CostRow]) -> Table {
    let mut rows: Vec<&CostRow> = costs.iter().collect();
    rows.sort_by(|a, b| (&a.task, a.attempt, &a.worker).cmp(&(&b.task, b.attempt, &b.worker)));
    let count = |of: &dyn Fn(&CostRow) -> u64| Cells::Count(rows.iter().map(|r| of(r)).collect());
    let text = |of: &dyn Fn(&CostRow) -> &str| Cells::Text(rows.iter().map(|r| of(r).to_owned()).collect());
    let columns = vec![
        Column::new("task", text(&|r| &r.task)),
        Column::new("kind", text(&|r| &r.kind)),
        Column::new("worker", text(&|r| &r.worker)),
        Column::new("attempt", count(&|r| r.attempt.into())),
        Column::new("seconds", Cells::Real(rows.iter().map(|r| Some(r.seconds)).collect(), Format::Seconds)),
        Column::new("forwards", count(&|r| r.forwards)),
        Column::new("backwards", count(&|r| r.backwards)),
        Column::new("examples", count(&|r| r.examples)),
    ];
    Table { name: "costs", columns }
}

pub fn status(status: &TrialStatus) -> &'static str {
    match status {
        TrialStatus::Done => "done",
        TrialStatus::Pending => "pending",
        TrialStatus::Failed(_) => "failed",
        TrialStatus::Cancelled => "cancelled",
    }
}

/// One text column per axis. An axis named like a column of ours becomes `axis.<name>`.
pub(super) fn axes<'a>(
    study: &Study,
    ours: &[&str],
    rows: impl Iterator<Item = &'a Vec<String>> + Clone,
) -> Vec<Column> {
    let axes = study.results.axes.iter().enumerate();
    axes.map(|(a, axis)| {
        let name = if ours.contains(&axis.as_str()) { format!("axis.{axis}") } else { axis.clone() };
        let values = rows.clone().map(|values| values.get(a).cloned().unwrap_or_default());
        Column::new(name, Cells::Text(values.collect()))
    })
    .collect()
}
