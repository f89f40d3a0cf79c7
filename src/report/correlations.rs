//! Do the spreads of the uncertainty relation go with robustness, over all trials of the sweep?

use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::uncertainty::of_checkpoint;
use crate::frontier::correlation::{Correlation, correlation};
use crate::measure::uncertainty::Means;

/// The figures of a measure that are correlated, with their names in tables.
type Of = fn(&Means) -> f64;
const FIGURES: [(&str, Of); 4] = [
    ("dx", |means| means.dx.value),
    ("dp", |means| means.dp.value),
    ("product", |means| means.product.value),
    ("bound", |means| means.bound.value),
];
/// Position of dp in [`FIGURES`]: the one that the claim is about.
pub const DP: usize = 1;

/// A trial at the last epoch at which it was both measured and attacked.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Position in [`Study::configs`].
    pub config: usize,
    pub seed: u64,
    pub epoch: u32,
    /// dx, dp, product and bound, means over all classes.
    pub figures: [f64; 4],
    /// Accuracy under all attacks together at every epsilon of the sweep.
    pub robust: Vec<f64>,
}

/// One measure and all trials of which it was taken.
pub struct Cloud {
    /// The name in the column `measure`.
    pub measure: String,
    /// In table order.
    pub points: Vec<Point>,
}

/// What is correlated with what.
pub struct Line {
    pub measure: String,
    pub figure: &'static str,
    pub epsilon: f64,
    /// Points are trials; otherwise configurations, as means over their seeds.
    pub over_trials: bool,
    pub found: Correlation,
}

/// The clouds of all uncertainties that were measured, in the order of the file.
pub fn clouds(study: &Study) -> Vec<Cloud> {
    let results = study.results;
    let mut clouds: Vec<Cloud> =
        results.measures.iter().map(|named| Cloud { measure: named.name.clone(), points: Vec::new() }).collect();
    for &t in &study.order {
        let trial = &results.trials[t];
        let Some(config) = study.configs.iter().position(|config| config.config == trial.config) else { continue };
        for (position, cloud) in clouds.iter_mut().enumerate() {
            let point = |(c, checkpoint): (usize, &_)| {
                let means =
                    of_checkpoint(results, checkpoint).find(|found| found.0 == position)?.3.by_class().pop()?.means?;
                let curve =
                    study.curves.iter().find(|curve| (curve.trial, curve.checkpoint, curve.attack) == (t, c, None))?;
                let robust: Vec<f64> = curve.points.iter().map(|point| point.accuracy()).collect();
                let complete = curve.points.iter().all(|point| point.n == results.examples);
                let figures = FIGURES.map(|(_, of)| of(&means));
                complete.then_some(Point {
                    config,
                    seed: trial.seed,
                    epoch: checkpoint.weights_epoch(),
                    figures,
                    robust,
                })
            };
            cloud.points.extend(trial.checkpoints.iter().enumerate().filter_map(point).next_back());
        }
    }
    clouds.retain(|cloud| !cloud.points.is_empty());
    clouds
}

impl Cloud {
    /// The correlation of a figure with robust accuracy, over trials or over configurations.
    pub fn correlation(&self, figure: usize, epsilon: usize, over_trials: bool) -> Option<Correlation> {
        let pair = |point: &Point| (point.figures[figure], point.robust[epsilon]);
        if over_trials {
            return correlation(&self.points.iter().map(pair).collect::<Vec<_>>());
        }
        let mut configs: Vec<usize> = self.points.iter().map(|point| point.config).collect();
        configs.dedup();
        let mean = |config: &usize| {
            let mine: Vec<(f64, f64)> = self.points.iter().filter(|point| point.config == *config).map(pair).collect();
            let n = mine.len() as f64;
            (mine.iter().map(|p| p.0).sum::<f64>() / n, mine.iter().map(|p| p.1).sum::<f64>() / n)
        };
        correlation(&configs.iter().map(mean).collect::<Vec<_>>())
    }
}

/// Everything that can be correlated: what has fewer than three points, or does not vary, is left out.
pub fn lines(study: &Study, clouds: &[Cloud]) -> Vec<Line> {
    let mut lines = Vec::new();
    for cloud in clouds {
        for (f, &(figure, _)) in FIGURES.iter().enumerate() {
            for (e, &epsilon) in study.results.epsilons.iter().enumerate() {
                for over_trials in [true, false] {
                    let found = cloud.correlation(f, e, over_trials);
                    let measure = cloud.measure.clone();
                    lines.extend(found.map(|found| Line { measure, figure, epsilon, over_trials, found }));
                }
            }
        }
    }
    lines
}

/// One row per measure, figure, epsilon and kind of point.
pub fn table(lines: &[Line]) -> Table {
    let text = |of: &dyn Fn(&Line) -> String| Cells::Text(lines.iter().map(of).collect());
    let real = |of: &dyn Fn(&Correlation) -> Option<f64>| {
        Cells::Real(lines.iter().map(|line| of(&line.found)).collect(), Format::Probability)
    };
    let epsilons = lines.iter().map(|line| Some(line.epsilon)).collect();
    let mut columns = vec![
        Column::new("measure", text(&|line| line.measure.clone())),
        Column::new("figure", text(&|line| line.figure.into())),
        Column::new("epsilon", Cells::Real(epsilons, Format::Epsilon)),
        Column::new("over", text(&|line| if line.over_trials { "trials" } else { "configurations" }.into())),
        Column::new("n", Cells::Count(lines.iter().map(|line| line.found.n as u64).collect())),
    ];
    for (position, name) in ["spearman", "pearson"].into_iter().enumerate() {
        let kind = |found: &Correlation| [found.spearman, found.pearson][position];
        columns.extend([
            Column::new(name, real(&|c| Some(kind(c).value))),
            Column::new(format!("{name}_low"), real(&|c| kind(c).interval.map(|(low, _)| low))),
            Column::new(format!("{name}_high"), real(&|c| kind(c).interval.map(|(_, high)| high))),
        ]);
    }
    Table { name: "correlations", columns }
}

#[cfg(test)]
mod tests;
