//! The table of certificates, and what the page says where they contradict the attacks.

use super::format::counted;
use super::study::Study;
use super::table::{Cells, Column, Format, Table};
use super::tables::axes;

const COLUMNS: [&str; 12] = [
    "trial",
    "seed",
    "epoch",
    "norm",
    "certificate",
    "epsilon",
    "n",
    "certified",
    "certified_accuracy",
    "ci_low",
    "ci_high",
    "deterministic",
];

/// One row per checkpoint, certificate and epsilon, sorted as `curves.csv` is. `n` counts the examples
/// whose certificate is known; where none is, there is no row.
pub fn table(study: &Study) -> Table {
    let results = study.results;
    let mut rank = vec![0; results.trials.len()];
    study.order.iter().enumerate().for_each(|(place, &t)| rank[t] = place);
    let mut curves: Vec<_> = study.certified.iter().collect();
    curves.sort_by_key(|c| (rank[c.trial], c.checkpoint, c.certificate));
    let rows: Vec<_> = curves.iter().flat_map(|c| c.points.iter().map(move |p| (*c, p))).collect();
    let trial = |row: usize| &results.trials[rows[row].0.trial];
    let text = |of: &dyn Fn(usize) -> String| Cells::Text((0..rows.len()).map(of).collect());
    let count = |of: &dyn Fn(usize) -> u64| Cells::Count((0..rows.len()).map(of).collect());
    let real =
        |of: &dyn Fn(usize) -> f64, format| Cells::Real((0..rows.len()).map(|row| Some(of(row))).collect(), format);
    let certificate = |row: usize| &results.certificates[rows[row].0.certificate];
    let probability = Format::Probability;
    let mut columns = vec![Column::new("trial", text(&|row| trial(row).trial.clone()))];
    columns.extend(axes(study, &COLUMNS, rows.iter().map(|(c, _)| &results.trials[c.trial].axes)));
    columns.extend([
        Column::new("seed", count(&|row| trial(row).seed)),
        Column::new("epoch", count(&|row| trial(row).checkpoints[rows[row].0.checkpoint].epoch.into())),
        Column::new("norm", text(&|_| results.norm.clone())),
        Column::new("certificate", text(&|row| certificate(row).name.clone())),
        Column::new("epsilon", real(&|row| rows[row].1.epsilon, Format::Epsilon)),
        Column::new("n", count(&|row| rows[row].1.n as u64)),
        Column::new("certified", count(&|row| rows[row].1.robust as u64)),
        Column::new("certified_accuracy", real(&|row| rows[row].1.accuracy(), probability)),
        Column::new("ci_low", real(&|row| rows[row].1.interval.low, probability)),
        Column::new("ci_high", real(&|row| rows[row].1.interval.high, probability)),
        Column::new("deterministic", Cells::Flag((0..rows.len()).map(|row| certificate(row).deterministic).collect())),
    ]);
    Table { name: "certified", columns }
}

/// What contradicts itself, one line per checkpoint and certificate: a bug, to be reported.
pub fn contradictions(study: &Study) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for found in &study.contradictions {
        let trial = &study.results.trials[found.trial];
        let certificate = &study.results.certificates[found.certificate].name;
        let epoch = trial.checkpoints[found.checkpoint].epoch;
        let axes = trial.axes.join(" · ");
        let who = format!("{certificate}: {} · {axes} · seed {} · epoch {epoch}", trial.trial, trial.seed);
        match lines.last_mut().filter(|(last, _)| *last == who) {
            Some((_, count)) => *count += 1,
            None => lines.push((who, 1)),
        }
    }
    lines.into_iter().map(|(who, count)| format!("{who}: {}", counted(count, "example"))).collect()
}
