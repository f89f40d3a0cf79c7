//! Trajectories: everything that was found about a checkpoint, over the epochs of its training.

use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::tables::axes;
use super::uncertainty::of_checkpoint;
use crate::frontier::curves::{standing, worst_case};
use crate::frontier::results::{CheckpointResults, TrialResults};
use crate::frontier::summary::{Summary, summarise};
use crate::measure::uncertainty::Means;

const COLUMNS: [&str; 18] = [
    "trial",
    "seed",
    "epoch",
    "epsilon",
    "clean_accuracy",
    "robust_accuracy",
    "median_break",
    "measure",
    "dx",
    "dp",
    "product",
    "bound",
    "dx_se",
    "dp_se",
    "product_se",
    "bound_se",
    "area",
    "config",
];

/// Whether there is anything that changes with the epoch, or stands beside accuracies.
pub fn is_wanted(study: &Study) -> bool {
    let results = study.results;
    !results.measures.is_empty() || results.trials.iter().any(|trial| trial.checkpoints.len() > 1)
}

/// What is known of one checkpoint.
pub struct Stop {
    /// Whose weights these are.
    pub epoch: u32,
    pub summary: Summary,
    /// Accuracy under all attacks together, one per positive epsilon; empty where it was not attacked.
    pub robust: Vec<f64>,
    /// The means over all classes of each uncertainty that was measured, with the position of its measure.
    pub measured: Vec<(usize, Option<Means>)>,
}

/// What is known of the checkpoints of a trial, by epoch.
pub fn stops(study: &Study, trial: &TrialResults) -> Vec<Stop> {
    let results = study.results;
    let stop = |checkpoint: &CheckpointResults| {
        let levels = worst_case(results, checkpoint);
        let known = levels.iter().filter(|level| level.is_known()).count();
        let standing = standing(&levels, results.positive_epsilons().len());
        let robust = standing.iter().skip(1).filter(|_| known > 0).map(|&n| n as f64 / known as f64).collect();
        let means = |answer: &crate::measure::uncertainty::Answer| answer.by_class().pop().and_then(|all| all.means);
        let measured = of_checkpoint(results, checkpoint).map(|(at, _, _, answer)| (at, means(answer))).collect();
        Stop { epoch: checkpoint.weights_epoch(), summary: summarise(results, checkpoint), robust, measured }
    };
    trial.checkpoints.iter().map(stop).collect()
}

/// A row of the table.
struct Row<'a> {
    trial: &'a TrialResults,
    stop: &'a Stop,
    /// Position among the positive epsilons.
    epsilon: Option<usize>,
    /// Position in [`Stop::measured`].
    measure: Option<usize>,
}

/// One row per checkpoint, measure and positive epsilon; where there is no measure or no such epsilon,
/// their cells are empty. Sorted by trial in table order, epoch, measure, epsilon.
pub fn table(study: &Study) -> Table {
    let results = study.results;
    let stops: Vec<(&TrialResults, Vec<Stop>)> =
        study.order.iter().map(|&t| (&results.trials[t], stops(study, &results.trials[t]))).collect();
    let epsilons = some_or_none(results.positive_epsilons().len());
    let mut rows = Vec::new();
    for (trial, stops) in &stops {
        for stop in stops {
            for measure in some_or_none(stop.measured.len()) {
                rows.extend(epsilons.iter().map(|&epsilon| Row { trial, stop, epsilon, measure }));
            }
        }
    }
    let real = |of: &dyn Fn(&Row) -> Option<f64>, format| Cells::Real(rows.iter().map(of).collect(), format);
    let figure = |of: fn(&Means) -> f64| {
        real(&|row| row.measure.and_then(|at| row.stop.measured[at].1.as_ref().map(of)), Format::Significant)
    };
    let text = |of: &dyn Fn(&Row) -> String| Cells::Text(rows.iter().map(of).collect());
    let probability = Format::Probability;
    let measure =
        |row: &Row| row.measure.map_or(String::new(), |at| results.measures[row.stop.measured[at].0].name.clone());
    let mut columns = vec![Column::new("trial", text(&|row| row.trial.trial.clone()))];
    columns.extend(axes(study, &COLUMNS, rows.iter().map(|row| &row.trial.axes)));
    columns.extend([
        Column::new("seed", Cells::Count(rows.iter().map(|row| row.trial.seed).collect())),
        Column::new("epoch", Cells::Count(rows.iter().map(|row| row.stop.epoch.into()).collect())),
        Column::new("epsilon", real(&|row| row.epsilon.map(|e| results.positive_epsilons()[e]), Format::Epsilon)),
        Column::new("clean_accuracy", real(&|row| row.stop.summary.clean.map(|c| c.accuracy()), probability)),
        Column::new("robust_accuracy", real(&|row| row.stop.robust.get(row.epsilon?).copied(), probability)),
        Column::new("median_break", real(&|row| row.stop.summary.median_break, Format::Epsilon)),
        Column::new("measure", text(&measure)),
        Column::new("dx", figure(|m| m.dx.value)),
        Column::new("dp", figure(|m| m.dp.value)),
        Column::new("product", figure(|m| m.product.value)),
        Column::new("bound", figure(|m| m.bound.value)),
        Column::new("dx_se", figure(|m| m.dx.se)),
        Column::new("dp_se", figure(|m| m.dp.se)),
        Column::new("product_se", figure(|m| m.product.se)),
        Column::new("bound_se", figure(|m| m.bound.se)),
        Column::new("area", real(&|row| row.stop.summary.area, probability)),
        Column::new("config", text(&|row| row.trial.config.clone())),
    ]);
    Table { name: "trajectory", columns }
}

/// The numbers below `count`, or `None` once where there are none.
fn some_or_none(count: usize) -> Vec<Option<usize>> {
    if count == 0 { vec![None] } else { (0..count).map(Some).collect() }
}
