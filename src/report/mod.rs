//! What people read: tables, plots and one page, written anew from the results at any time.
//!
//! ```text
//!  Results ─► frontier ─► Study ─┬─► tables ─► trials, curves, frontier, trust, certified, uncertainty, trajectory, costs  (.csv, .parquet)
//!                                ├─► statistics, correlations ─► summary, hypervolume, comparisons, correlations  (the same)
//!  CostRow ──────────────────────┤
//!  Provenance ───────────────────┴─► plot ──► frontier, curves, tradeoff, trajectory (.svg) ─► page ─► index.html
//! ```
//!
//! `curves.*` and `frontier.*` depend on the results alone: no clock, no worker, no seconds.
//! Every file appears whole or not at all.

mod certified;
mod correlations;
mod files;
mod format;
mod input;
mod page;
mod parquet;
mod plot;
mod regions;
mod statistics;
mod study;
mod table;
mod tables;
mod trajectory;
mod trust;
mod uncertainty;

#[cfg(test)]
mod tests;

pub use input::{CostRow, Failure, Provenance, ReportError, WorkerLine, Written};

use crate::frontier::Results;
use std::path::Path;
use study::Study;

/// Writes every table, every plot and the page into `dir`, which is made if need be.
///
/// `results` may be those of a sweep that is still running or has failed in part; the page says so.
pub fn write(
    dir: &Path,
    results: &Results,
    costs: &[CostRow],
    provenance: &Provenance,
) -> Result<Written, ReportError> {
    let study = Study::new(results);
    let mut files = files::Files::new(dir)?;
    let written = [
        tables::trials(&study),
        tables::curves(&study),
        tables::frontier(&study),
        statistics::summary(&study),
        statistics::hypervolume(&study),
        statistics::comparisons(&study),
        tables::trust(&study),
        tables::costs(costs),
    ];
    for table in written {
        files.write(&format!("{}.csv", table.name), &table.csv()?)?;
        files.write(&format!("{}.parquet", table.name), &parquet::encode(&table)?)?;
    }
    if results.certificates.is_empty() {
        // Of an earlier report, before the file was edited.
        files.remove(&["certified.csv", "certified.parquet"])?;
    } else {
        let table = certified::table(&study);
        files.write("certified.csv", &table.csv()?)?;
        files.write("certified.parquet", &parquet::encode(&table)?)?;
    }
    uncertainty::write(&study, &mut files)?;
    let lines = correlations::lines(&study, &correlations::clouds(&study));
    if lines.is_empty() {
        files.remove(&["correlations.csv", "correlations.parquet"])?;
    } else {
        let table = correlations::table(&lines);
        files.write("correlations.csv", &table.csv()?)?;
        files.write("correlations.parquet", &parquet::encode(&table)?)?;
    }
    if trajectory::is_wanted(&study) {
        let table = trajectory::table(&study);
        files.write("trajectory.csv", &table.csv()?)?;
        files.write("trajectory.parquet", &parquet::encode(&table)?)?;
    } else {
        files.remove(&["trajectory.csv", "trajectory.parquet"])?;
    }
    // Of an earlier report, whose configurations had several epochs.
    files.remove(&["trajectory.svg"])?;
    regions::write(&study, &mut files)?;
    for (name, svg) in plot::files(&study) {
        files.write(name, svg.as_bytes())?;
    }
    files.write("index.html", page::render(&study, costs, provenance).into_string().as_bytes())?;
    let contradictions = certified::contradictions(&study);
    Ok(Written { files: files.written, finished: study.finished(), trials: results.trials.len(), contradictions })
}
