//! The table of class regions, the choice of what is drawn, and the words around the drawing.

use super::files::Files;
use super::format::{counted, cut};
use super::input::ReportError;
use super::parquet;
use super::plot;
use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::tables::axes;
use crate::frontier::results::{CheckpointResults, TrialResults};
use crate::measure::Measured;
use crate::measure::regions::{Answer, Map, Summary};
use crate::spec::{Measure, NamedMeasure, Plane, Regions};
use maud::{Markup, html};
use std::collections::BTreeSet;

const COLUMNS: [&str; 13] = [
    "trial",
    "seed",
    "epoch",
    "measure",
    "plane",
    "attacked",
    "points",
    "side",
    "classes",
    "boundary",
    "confidence",
    "unsure",
    "right",
];
/// A figure shows no more of each.
const MOST_CONFIGS: usize = 6;
const MOST_EPOCHS: usize = 6;

/// Maps of one checkpoint.
struct At<'a> {
    trial: &'a TrialResults,
    checkpoint: &'a CheckpointResults,
    named: &'a NamedMeasure,
    asked: &'a Regions,
    answer: &'a Answer,
}

/// One row of a figure: a configuration before or after the attack.
pub struct Row<'a> {
    pub name: String,
    pub attacked: bool,
    /// By epoch.
    pub maps: Vec<Option<&'a Map>>,
}

/// What a figure shows.
pub struct Chosen<'a> {
    pub measure: &'a str,
    pub asked: &'a Regions,
    pub epochs: Vec<u32>,
    pub rows: Vec<Row<'a>>,
    /// All that are named anywhere in it.
    pub classes: Vec<u8>,
    /// Configurations that are left out.
    pub left_out: usize,
}

fn all<'a>(study: &'a Study<'a>) -> Vec<At<'a>> {
    let results = study.results;
    let mut found = Vec::new();
    for &t in &study.order {
        let trial = &results.trials[t];
        for checkpoint in &trial.checkpoints {
            for (named, measured) in results.measures.iter().zip(&checkpoint.measured) {
                let (Some(Measured::Regions(answer)), Measure::Regions(asked)) = (measured, &named.measure) else {
                    continue;
                };
                found.push(At { trial, checkpoint, named, asked, answer });
            }
        }
    }
    found
}

/// Writes the table and the figures, or removes those of an earlier report.
pub fn write(study: &Study, files: &mut Files<'_>) -> Result<(), ReportError> {
    let asked = |named: &NamedMeasure| matches!(named.measure, Measure::Regions(_));
    if !study.results.measures.iter().any(asked) {
        return files.remove(&["regions.csv", "regions.parquet", "regions.svg"]);
    }
    let table = table(study);
    files.write("regions.csv", &table.csv()?)?;
    files.write("regions.parquet", &parquet::encode(&table)?)?;
    files.write("regions.svg", plot::regions_sheet(study).as_bytes())
}

/// One row per checkpoint, measure and map.
fn table(study: &Study) -> Table {
    let found = all(study);
    let rows: Vec<(&At, &Map, Summary)> =
        found.iter().flat_map(|at| at.answer.maps.iter().map(move |map| (at, map, map.summary()))).collect();
    let text = |of: &dyn Fn(&At) -> String| Cells::Text(rows.iter().map(|(at, ..)| of(at)).collect());
    let count = |of: &dyn Fn(&At, &Map, &Summary) -> u64| {
        Cells::Count(rows.iter().map(|(at, map, summary)| of(at, map, summary)).collect())
    };
    let real = |of: &dyn Fn(&Map, &Summary) -> f64, format| {
        Cells::Real(rows.iter().map(|(_, map, summary)| Some(of(map, summary))).collect(), format)
    };
    let right = rows.iter().map(|(_, map, summary)| (!map.marks.is_empty()).then_some(summary.right.into()));
    let plane = |at: &At| match at.asked.plane {
        Plane::Images => "images".to_string(),
        Plane::Components => "components".to_string(),
    };
    let mut columns = vec![Column::new("trial", text(&|at| at.trial.trial.clone()))];
    columns.extend(axes(study, &COLUMNS, rows.iter().map(|(at, ..)| &at.trial.axes)));
    columns.extend([
        Column::new("seed", count(&|at, _, _| at.trial.seed)),
        Column::new("epoch", count(&|at, _, _| at.checkpoint.weights_epoch().into())),
        Column::new("measure", text(&|at| at.named.name.clone())),
        Column::new("plane", text(&plane)),
        Column::new("attacked", count(&|_, map, _| u64::from(map.attacked))),
        Column::new("points", count(&|_, map, _| map.points.into())),
        Column::new("side", real(&|map, _| map.side, Format::Significant)),
        Column::new("classes", count(&|_, _, summary| summary.classes.into())),
        Column::new("boundary", real(&|_, summary| summary.boundary, Format::Probability)),
        Column::new("confidence", real(&|_, summary| summary.confidence, Format::Probability)),
        Column::new("unsure", real(&|_, summary| summary.unsure, Format::Probability)),
        Column::new("right", Cells::MaybeCount(right.collect())),
    ]);
    Table { name: "regions", columns }
}

/// One figure per measure that has maps: the first seed of each configuration, over the epochs.
pub fn figures<'a>(study: &'a Study<'a>) -> Vec<Chosen<'a>> {
    let results = study.results;
    let measures = results.measures.iter().enumerate();
    let asked = measures.filter_map(|(m, named)| match &named.measure {
        Measure::Regions(asked) => Some((m, named, asked)),
        Measure::Uncertainty(_) => None,
    });
    let figure = |(m, named, asked): (usize, &'a NamedMeasure, &'a Regions)| {
        let maps = |checkpoint: &'a CheckpointResults| match checkpoint.measured.get(m) {
            Some(Some(Measured::Regions(answer))) => Some(answer.maps.as_slice()),
            _ => None,
        };
        let has = |trial: &&'a TrialResults| trial.checkpoints.iter().any(|checkpoint| maps(checkpoint).is_some());
        let trials: Vec<(&str, &'a TrialResults)> = study
            .configs
            .iter()
            .filter_map(|config| {
                let mut own = study.order.iter().map(|&t| &results.trials[t]).filter(|t| t.config == config.config);
                own.find(has).map(|trial| (config.label.as_str(), trial))
            })
            .collect();
        let left_out = trials.len().saturating_sub(MOST_CONFIGS);
        let trials = &trials[..trials.len() - left_out];
        let checkpoints = || trials.iter().flat_map(|(_, trial)| &trial.checkpoints).filter(|c| maps(c).is_some());
        let epochs: BTreeSet<u32> = checkpoints().map(CheckpointResults::weights_epoch).collect();
        let epochs = evenly(&epochs.into_iter().collect::<Vec<_>>(), MOST_EPOCHS);
        let mut rows = Vec::new();
        for (label, trial) in trials {
            for attacked in [false, true] {
                let map = |epoch: &u32| {
                    let at = trial.checkpoints.iter().find(|c| c.weights_epoch() == *epoch && maps(c).is_some())?;
                    maps(at)?.iter().find(|map| map.attacked == attacked)
                };
                let row: Vec<Option<&Map>> = epochs.iter().map(map).collect();
                if row.iter().any(Option::is_some) {
                    rows.push(Row { name: cut(label, 44), attacked, maps: row });
                }
            }
        }
        let classes: BTreeSet<u8> = rows
            .iter()
            .flat_map(|row| row.maps.iter().flatten())
            .flat_map(|map| map.classes.iter().copied().chain(map.marks.iter().map(|mark| mark.label)))
            .collect();
        Chosen { measure: &named.name, asked, epochs, rows, classes: classes.into_iter().collect(), left_out }
    };
    asked.map(figure).filter(|chosen| !chosen.rows.is_empty()).collect()
}

/// At most `most` of `values`, the first and the last among them.
fn evenly(values: &[u32], most: usize) -> Vec<u32> {
    if values.len() <= most {
        return values.to_vec();
    }
    (0..most).map(|k| values[(k * (values.len() - 1) + (most - 1) / 2) / (most - 1)]).collect()
}

/// The section of the page; nothing where there are no maps.
pub fn section(study: &Study) -> Markup {
    let figures = figures(study);
    html! {
        @if !figures.is_empty() {
            section #regions {
                h2 { "Class regions" }
                p.how {
                    "Each square is a plane through the space of images, coloured by the class that the network names there; pale "
                    "where it is unsure. Sharp edges between full colours are the boundaries that training draws. Rings are test "
                    "images with their true class, dashed where another class is named."
                }
                @for chosen in &figures {
                    @if figures.len() > 1 { h3 { (plot::clean(chosen.measure)) } }
                    figure.maps {
                        (drawing(chosen))
                        figcaption { (caption(chosen).join(" ")) }
                    }
                }
            }
        }
    }
}

fn drawing(chosen: &Chosen) -> Markup {
    let (markup, width, height) = plot::maps(chosen, 0.0);
    html! {
        svg.plot viewBox={ "0 0 " (width) " " (height) } role="img"
            aria-label="Classes that are named on a plane of images" { (markup) }
    }
}

/// What is seen, and of how much.
pub fn caption(chosen: &Chosen) -> [String; 2] {
    let asked = chosen.asked;
    let what = match asked.plane {
        Plane::Images if asked.epsilon > 0.0 => {
            "The plane goes through three test images, and below through the same three after PGD moved them."
        }
        Plane::Images => "The plane goes through three test images.",
        Plane::Components => "The plane of the first two principal components of the training images.",
    };
    let points = asked.points;
    let left = match chosen.left_out {
        0 => String::new(),
        more => format!(" {} not shown.", counted(more, "more configuration")),
    };
    let rest = format!("One seed each, {points} × {points} points; regions.csv holds every map in numbers.{left}");
    [what.to_string(), rest]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_epochs_are_shown_and_the_ends_among_them() {
        assert_eq!(evenly(&[1, 2, 3], 6), [1, 2, 3]);
        let all: Vec<u32> = (1..=41).collect();
        let some = evenly(&all, 6);
        assert_eq!((some.len(), some[0], some[5]), (6, 1, 41));
        assert!(some.is_sorted_by(|a, b| a < b));
    }
}
