//! What the user wrote: YAML -> a validated [`Sweep`], with errors that point at the line.
//!
//! ```text
//! text ─ yaml ─► tree with places ─ document ─► name, seeds, dataset, evaluate, measure ┐
//!                                 └ grid ─► points ─ settings ─► distinct configurations ┴► Sweep
//!                                     section: what may be written where
//!                                     decode, check: types and ranges of one setting
//!                                     pattern: `exclude` and `when`;  values: lists, generators
//! ```
//!
//! The meaning of the file, in order: `trial` with defaults; `grid` is a product of its items, the
//! keys of one item vary together; `exclude` drops points; equal points are merged; `sample` keeps
//! some; `include` adds more; every remaining point is trained once per seed. Everything that is
//! wrong is an [`SpecError`] with a place and a remedy. Pure but for [`load`].

pub mod attack;
mod check;
mod decode;
mod document;
mod doubts;
mod epochs;
mod error;
mod evaluate;
mod format;
mod grid;
mod inputs;
mod load;
pub mod measure;
pub mod method;
mod pattern;
pub mod recipe;
pub mod regions;
mod schema;
mod section;
mod settings;
pub mod sweep;
mod values;
mod yaml;

#[cfg(test)]
mod tests;

pub use attack::*;
pub use doubts::doubts;
pub use error::{Invalid, Problem, Span, SpecError, Warning};
pub use inputs::{GivenFile, Normalization, Normalize};
pub use load::{load, load_with_warnings};
pub use measure::{Domain, Measure, MeasuredLoss, NamedMeasure, Uncertainty};
pub use method::*;
pub use recipe::*;
pub use regions::{Plane, Regions};
pub use schema::schema;
pub use sweep::*;

use error::Problems;
use std::path::Path;

/// Validates and expands the sweep in `text`. `source_name` stands in messages and, without its
/// extension, for a missing `name`; relative paths start at `base_dir`, which should be absolute.
///
/// # Errors
/// Every mistake that was found, each with its place in `text` and a remedy.
pub fn parse(text: &str, source_name: &str, base_dir: &Path) -> Result<Sweep, SpecError> {
    parse_with_warnings(text, source_name, base_dir).map(|(sweep, _)| sweep)
}

/// As [`parse`], with what is valid but probably not meant.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_warnings(text: &str, source_name: &str, base_dir: &Path) -> Result<(Sweep, Vec<Warning>), SpecError> {
    let mut problems = Problems::default();
    let mut warnings = Problems::default();
    let sweep = match yaml::parse(text) {
        Ok(tree) => read(&tree, source_name, base_dir, &mut problems, &mut warnings),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    match sweep {
        Some(sweep) if problems.is_empty() => Ok((sweep, Warning::all(source_name, text, warnings))),
        _ => Err(SpecError::invalid(source_name, text, problems.into_list())),
    }
}

/// The sweep, unless a problem kept a part of it from being read. Parts are read even if others are
/// wrong, so that one run shows the mistakes of all.
fn read(
    tree: &yaml::Node,
    source_name: &str,
    base_dir: &Path,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<Sweep> {
    let document = document::Document::read(tree, problems)?;
    let name = document.name(source_name, problems);
    let seed = document.seed(problems);
    let dataset = document.dataset(base_dir, problems);
    let radii = check::Radii { pixels: dataset.as_ref().and_then(Dataset::pixels) };
    let seeds = document.seeds(problems);
    let evaluate = document.evaluate.and_then(|entry| evaluate::read(&entry.node, dataset.as_ref(), radii, problems));
    let measures = document.measure.map_or(Some(Vec::new()), |entry| measure::read(&entry.node, problems));
    // The grid is expanded only when all else holds: names and types in it were checked before.
    let expanded = grid::expand(&document, radii, problems, warnings)?;
    let (seeds, evaluate, measures) = (seeds?, evaluate?, measures?);
    let lengths: Vec<u32> = expanded.configs.iter().map(|config| config.recipe.epochs).collect();
    evaluate::check_epochs(&document.evaluate?.node, &evaluate, &lengths, problems, warnings);
    let place = document.measure.map_or(Span::default(), |entry| entry.node.span);
    measure::check_epochs(place, &measures, &lengths, problems);
    let models = expanded.configs.iter().map(|config| &config.recipe.model);
    evaluate::check_certificates(&document.evaluate?.node, &evaluate, models, problems);
    let trials = trials(&document, expanded.configs, &seeds, base_dir, problems)?;
    Some(Sweep {
        name: name?,
        seed: seed?,
        dataset: dataset?,
        axes: expanded.axes,
        trials,
        evaluate,
        measures,
        counts: expanded.counts,
    })
}

/// Every configuration once per seed, seeds innermost; a pretrained one once, because no seed changes it.
fn trials(
    document: &document::Document<'_>,
    configs: Vec<grid::Config>,
    seeds: &[u64],
    base_dir: &Path,
    problems: &mut Problems,
) -> Option<Vec<Trial>> {
    let total = configs.len().saturating_mul(seeds.len());
    if total > grid::MAX_POINTS {
        let place = document.root.get("seeds").or(document.grid).map_or(Span::default(), |entry| entry.key);
        problems.push(
            Problem::new(place, format!("{total} trials are more than the {} that a sweep may have", grid::MAX_POINTS))
                .label(format!("{} configurations times {} seeds", configs.len(), seeds.len()))
                .help("use fewer seeds or a coarser grid, or keep part of it with `sample: {n: 1000}`"),
        );
        return None;
    }
    let mut trials = Vec::with_capacity(total);
    for config in configs {
        let seeds = if config.recipe.is_pretrained() { &[0] } else { seeds };
        let recipe = config.recipe.with_files(|file| file.beneath(base_dir));
        trials.extend(seeds.iter().map(|&seed| Trial { axes: config.axes.clone(), recipe: recipe.clone(), seed }));
    }
    Some(trials)
}
