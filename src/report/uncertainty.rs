//! The tables of `measure: uncertainty`.

use super::files::Files;
use super::input::ReportError;
use super::parquet;
use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::tables::axes;
use crate::frontier::results::{CheckpointResults, Results, TrialResults};
use crate::measure::Measured;
use crate::measure::uncertainty::{Answer, ClassFigures, Mean, Means};
use crate::spec::{Measure, NamedMeasure, Uncertainty};

const COLUMNS: [&str; 25] = [
    "trial",
    "seed",
    "epoch",
    "class",
    "dx",
    "dp",
    "product",
    "bound",
    "dx_se",
    "dp_se",
    "product_se",
    "bound_se",
    "samples",
    "measure",
    "domain",
    "radius",
    "loss",
    "units",
    "undefined",
    "dx_sd",
    "dp_sd",
    "product_sd",
    "bound_sd",
    "effective_samples",
    "below_half",
];

/// An uncertainty that was measured on one checkpoint.
pub struct At<'a> {
    pub trial: &'a TrialResults,
    pub checkpoint: &'a CheckpointResults,
    pub named: &'a NamedMeasure,
    pub asked: &'a Uncertainty,
    pub answer: &'a Answer,
}

/// One of the four figures.
type Of = fn(&Means) -> Mean;

/// All that were measured: by trial in table order, epoch, measure.
pub fn all<'a>(study: &'a Study<'a>) -> Vec<At<'a>> {
    let results = study.results;
    let mut found = Vec::new();
    for &t in &study.order {
        let trial = &results.trials[t];
        for checkpoint in &trial.checkpoints {
            let of = of_checkpoint(results, checkpoint);
            found.extend(of.map(|(_, named, asked, answer)| At { trial, checkpoint, named, asked, answer }));
        }
    }
    found
}

/// The uncertainties of one checkpoint: the position of the measure, the measure, and what was found.
pub fn of_checkpoint<'a>(
    results: &'a Results,
    checkpoint: &'a CheckpointResults,
) -> impl Iterator<Item = (usize, &'a NamedMeasure, &'a Uncertainty, &'a Answer)> {
    results.measures.iter().zip(&checkpoint.measured).enumerate().filter_map(|(at, (named, measured))| {
        let (Some(Measured::Uncertainty(answer)), Measure::Uncertainty(asked)) = (measured, &named.measure) else {
            return None;
        };
        Some((at, named, asked, answer))
    })
}

/// Writes the tables, or removes those of an earlier report where nothing is measured any more.
pub fn write(study: &Study, files: &mut Files<'_>) -> Result<(), ReportError> {
    let asked = |named: &NamedMeasure| matches!(named.measure, Measure::Uncertainty(_));
    if !study.results.measures.iter().any(asked) {
        return files.remove(&["uncertainty.csv", "uncertainty.parquet", "uncertainty_features.parquet"]);
    }
    let table = table(study);
    files.write("uncertainty.csv", &table.csv()?)?;
    files.write("uncertainty.parquet", &parquet::encode(&table)?)?;
    files.write("uncertainty_features.parquet", &parquet::encode(&features(study))?)
}

/// One row per checkpoint, measure and class that has units, and one for all classes.
pub fn table(study: &Study) -> Table {
    let found = all(study);
    let rows: Vec<(&At, ClassFigures)> =
        found.iter().flat_map(|at| at.answer.by_class().into_iter().map(move |row| (at, row))).collect();
    let text = |of: &dyn Fn(&At) -> String| Cells::Text(rows.iter().map(|(at, _)| of(at)).collect());
    let count =
        |of: &dyn Fn(&At, &ClassFigures) -> u64| Cells::Count(rows.iter().map(|(at, row)| of(at, row)).collect());
    let real = |of: &dyn Fn(&Means) -> Option<f64>| {
        Cells::Real(rows.iter().map(|(_, row)| row.means.as_ref().and_then(of)).collect(), Format::Significant)
    };
    let radius = rows.iter().map(|(at, _)| at.asked.radius);
    let mut columns = vec![Column::new("trial", text(&|at| at.trial.trial.clone()))];
    columns.extend(axes(study, &COLUMNS, rows.iter().map(|(at, _)| &at.trial.axes)));
    columns.extend([
        Column::new("seed", count(&|at, _| at.trial.seed)),
        Column::new("epoch", count(&|at, _| at.checkpoint.weights_epoch().into())),
        Column::new("class", Cells::Text(rows.iter().map(|(_, row)| class(row.class)).collect())),
    ]);
    let figures: [(&str, Of); 4] =
        [("dx", |m| m.dx), ("dp", |m| m.dp), ("product", |m| m.product), ("bound", |m| m.bound)];
    columns.extend(figures.map(|(name, of)| Column::new(name, real(&|means| Some(of(means).value)))));
    columns.extend(figures.map(|(name, of)| Column::new(format!("{name}_se"), real(&|means| Some(of(means).se)))));
    columns.extend([
        Column::new("samples", count(&|at, _| at.asked.samples.into())),
        Column::new("measure", text(&|at| at.named.name.clone())),
        Column::new("domain", text(&|at| at.asked.domain.word().into())),
        Column::new("radius", Cells::Real(radius.collect(), Format::Epsilon)),
        Column::new("loss", text(&|at| at.asked.loss.word().into())),
        Column::new("units", count(&|_, row| row.units.into())),
        Column::new("undefined", count(&|_, row| row.undefined.into())),
    ]);
    columns.extend(figures.map(|(name, of)| Column::new(format!("{name}_sd"), real(&|means| of(means).sd))));
    let below = rows.iter().map(|(_, row)| row.means.map(|means| means.below_half.into()));
    columns.extend([
        Column::new("effective_samples", real(&|means| Some(means.effective))),
        Column::new("below_half", Cells::MaybeCount(below.collect())),
    ]);
    Table { name: "uncertainty", columns }
}

/// One row per checkpoint, measure, class and feature; `all` classes come last.
pub fn features(study: &Study) -> Table {
    let found = all(study);
    let mut classes = Vec::new();
    for at in &found {
        classes.extend(at.answer.features.iter().map(|class| (at, Some(class.class), class.clone())));
        classes.extend(at.answer.all_features().map(|class| (at, None, class)));
    }
    let rows = || classes.iter().flat_map(|at| (0..at.2.sums[0].len()).map(move |feature| (at, feature)));
    let text = |of: &dyn Fn(&At, Option<u32>) -> String| Cells::Text(rows().map(|(at, _)| of(at.0, at.1)).collect());
    let mean = |which: usize| {
        let of = |units: u32, sums: &[Vec<f32>; 4], feature: usize| f64::from(sums[which][feature]) / f64::from(units);
        Cells::Real(
            rows().map(|(at, feature)| Some(of(at.2.units, &at.2.sums, feature))).collect(),
            Format::Significant,
        )
    };
    let columns = vec![
        Column::new("trial", text(&|at, _| at.trial.trial.clone())),
        Column::new("epoch", Cells::Count(rows().map(|(at, _)| at.0.checkpoint.weights_epoch().into()).collect())),
        Column::new("measure", text(&|at, _| at.named.name.clone())),
        Column::new("class", text(&|_, which| class(which))),
        Column::new("feature", Cells::Count(rows().map(|(_, feature)| feature as u64).collect())),
        Column::new("dx", mean(0)),
        Column::new("dp", mean(1)),
        Column::new("product", mean(2)),
        Column::new("bound", mean(3)),
        Column::new("units", Cells::Count(rows().map(|(at, _)| at.2.units.into()).collect())),
    ];
    Table { name: "uncertainty_features", columns }
}

fn class(class: Option<u32>) -> String {
    class.map_or("all".into(), |class| class.to_string())
}
