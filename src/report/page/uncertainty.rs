//! Trajectories over training, and the uncertainty relation, with the words that say how to read them.

use crate::measure::GROUPS;
use crate::measure::uncertainty::{ClassFigures, Mean, Means};
use crate::report::format::{grouped, significant};
use crate::report::plot::trajectory::{Kind, PANEL, Trajectories};
use crate::report::plot::{clean, colour_class};
use crate::report::study::Study;
use crate::report::uncertainty::{At, all};
use crate::spec::Domain;
use maud::{Markup, html};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The section of trajectories; empty where one epoch alone was looked at.
pub fn trajectories(study: &Study) -> Markup {
    let Some(trajectories) = Trajectories::new(study) else { return html! {} };
    let (width, height) = PANEL;
    let epochs: Vec<String> = trajectories.epochs().iter().map(u32::to_string).collect();
    html! {
        section #trajectories {
            h2 { "Over the epochs" }
            p.how {
                "One row per configuration, its epochs from left to right; all rows have the same scales. Read down a column to compare "
                "training methods, and along a row to see what moves together: "
                @if trajectories.measure().is_some() {
                    "the claim under test is that where accuracy rises in the first plot, dp rises in the second and the epsilon that breaks "
                    "half of the examples falls in the fourth. Products and bounds stand on a logarithmic scale."
                } @else {
                    "where accuracy rises while the epsilon that breaks half of the examples falls, robustness is given up."
                }
            }
            @for kind in &trajectories.kinds {
                ul.key {
                    li { b { (kind.title()) ":" } }
                    @for (name, dash) in trajectories.key(*kind) {
                        li { svg viewBox="0 0 34 10" { path.all d="M1 5L33 5" stroke-dasharray=[dash] {} } (clean(&name)) }
                    }
                    @if *kind == Kind::Product { li { svg viewBox="0 0 34 10" { path d="M1 5L33 5" stroke-dasharray="2 3" {} } "1/2, the paper's bound" } }
                }
            }
            figure {
                @for row in &trajectories.rows {
                    @let config = &study.configs[row.config];
                    h3.cfg data-k=(row.config) { (clean(&config.short(80))) }
                    div.panels.four {
                        @for kind in &trajectories.kinds {
                            div {
                                p { (kind.title()) }
                                svg.plot.small viewBox={ "0 0 " (width) " " (height) } role="img" aria-label={ (kind.title()) " over epochs" } {
                                    (trajectories.panel(row, *kind))
                                }
                            }
                        }
                    }
                }
                figcaption {
                    "Epochs " (epochs.join(", ")) ". n = " (grouped(study.frontier.examples as u64)) " test examples for accuracies. Thin lines are single "
                    "networks (one per seed), the thick one is their mean; an epsilon that more than half of the examples withstand is beyond the grid and not drawn."
                    @if let Some(name) = trajectories.measure() { " Spreads are those of " code { (clean(name)) } ", averaged over all classes." }
                    " Every number, with its error, stands in " code { "trajectory.csv" } "."
                }
            }
        }
    }
}

/// What a configuration's runs say at the last epoch that was measured.
struct Line {
    config: usize,
    runs: Vec<(ClassFigures, Means)>,
    epoch: u32,
}

/// The section of the uncertainty relation; empty where nothing of the kind was measured.
pub fn section(study: &Study) -> Markup {
    let found = all(study);
    if found.is_empty() {
        return html! {};
    }
    let measures: Vec<usize> = (0..study.results.measures.len())
        .filter(|&at| found.iter().any(|one| std::ptr::eq(one.named, &study.results.measures[at])))
        .collect();
    html! {
        section #uncertainty {
            h2 { "The uncertainty relation" }
            p.how {
                "With psi the normalised loss on a domain, dx is how far the loss is spread over it, and dp how much its relative slope varies. "
                b { "dx times dp is never below the bound |C|." }
                " Both definitions are reconstructed from the abstracts of arXiv 2205.01493. Compare rows: a network whose loss is steeper here than there has a larger dp."
            }
            @for at in measures {
                @let ones: Vec<&At> = found.iter().filter(|one| std::ptr::eq(one.named, &study.results.measures[at])).collect();
                (measure(study, &ones))
            }
        }
    }
}

fn measure(study: &Study, ones: &[&At]) -> Markup {
    let Some(first) = ones.first() else { return html! {} };
    let lines = lines(study, ones);
    let (below, units) = tally(&lines, |row, means| (u64::from(means.below_half), u64::from(row.units)));
    let (undefined, of) = tally(&lines, |row, _| (row.undefined.into(), u64::from(row.undefined + row.units)));
    let undefined =
        undefined + ones.iter().filter(|one| whole(one).is_some_and(|row| row.means.is_none())).count() as u64;
    let effective =
        lines.iter().flat_map(|line| &line.runs).map(|(_, means)| means.effective).fold(f64::INFINITY, f64::min);
    html! {
        h3 { (clean(&first.named.name)) }
        div.scroll {
            table.spreads {
                thead { tr {
                    th scope="col" { "Configuration" }
                    @for heading in ["Epoch", "Networks", "dx", "dp", "Product", "Bound |C|"] { th scope="col" { (heading) } }
                } }
                tbody {
                    @for line in &lines {
                        @let config = &study.configs[line.config];
                        tr.cfg data-k=(line.config) {
                            td.axis { span { i class=(colour_class(config.colour)) {} (clean(&config.short(60))) } }
                            td.num { (line.epoch) }
                            td.num { (line.runs.len()) }
                            @for of in [(|m: &Means| m.dx) as fn(&Means) -> Mean, |m| m.dp, |m| m.product, |m| m.bound] { td.num { (interval(line, of)) } }
                        }
                    }
                }
            }
        }
        p.how {
            (grouped(first.asked.samples.into())) " samples in each of "
            @match first.asked.domain {
                Domain::Box => { (grouped(first.answer.units.len() as u64)) " boxes of radius " (significant(first.asked.radius.unwrap_or(0.0), 4)) " around test examples" @if first.asked.clip { ", cut off at 0 and 1" } }
                Domain::Data => { (grouped(first.answer.units.len() as u64)) " classes, in the box that holds the training images" }
                Domain::Plane => { (grouped(first.answer.units.len() as u64)) " classes, in the plane of the training images' first two principal components" }
            }
            "; the last epoch of each configuration. Intervals are 95\u{202f}%: over seeds where there are two networks or more, else the sampling "
            "error of Monte Carlo alone, which says nothing about other seeds. In the median box or class, the samples are worth at least "
            (significant(effective.floor().max(0.0), 3)) " equally weighted ones."
        }
        @if below > 0 {
            p.how {
                b { "The product is below 1/2 in " (grouped(below)) " of " (grouped(units)) " cases, and that contradicts nothing." }
                " 1/2 holds where psi vanishes on the boundary of its domain. Here it does not: integrating by parts, C is half of a boundary term minus 1/2, "
                "and where the loss is nearly constant over the domain, or grows at one rate through it, the boundary term makes up for the 1/2. "
                "The bound |C| from the same samples is what holds; it stands in the last column."
            }
        }
        @if undefined > 0 {
            p.how { "In " (grouped(undefined)) " of " (grouped(of.max(undefined))) " cases psi is not defined, because the loss is 0 (or no number) at every sample; they are left out." }
        }
    }
}

/// The figures over all classes.
fn whole(one: &At) -> Option<ClassFigures> {
    one.answer.by_class().pop()
}

/// By configuration, in table order: its networks at the last epoch at which one was measured.
fn lines(study: &Study, ones: &[&At]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (k, config) in study.configs.iter().enumerate() {
        let mine = || ones.iter().filter(|one| one.trial.config == config.config);
        let Some(last) = mine().map(|one| one.checkpoint.epoch).max() else { continue };
        let at_last: Vec<_> = mine().filter(|one| one.checkpoint.epoch == last).collect();
        let epoch = at_last.first().map_or(last, |one| one.checkpoint.weights_epoch());
        let runs = at_last.iter().filter_map(|one| whole(one)).filter_map(|row| row.means.map(|means| (row, means)));
        lines.push(Line { config: k, runs: runs.collect(), epoch });
    }
    lines
}

fn tally(lines: &[Line], of: impl Fn(&ClassFigures, &Means) -> (u64, u64)) -> (u64, u64) {
    let each = lines.iter().flat_map(|line| &line.runs).map(|(row, means)| of(row, means));
    each.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

/// `0.0577 ± 0.0021`, `1.95e-4 ± 2.1e-5`, or a dash.
fn interval(line: &Line, of: fn(&Means) -> Mean) -> String {
    let values: Vec<Mean> = line.runs.iter().map(|(_, means)| of(means)).collect();
    let n = values.len() as f64;
    let mean = values.iter().map(|value| value.value).sum::<f64>() / n;
    let half = match &values[..] {
        [] => return "–".into(),
        [one] => quantile(GROUPS as f64 - 1.0) * one.se,
        _ => {
            let squares = values.iter().map(|value| (value.value - mean).powi(2)).sum::<f64>();
            quantile(n - 1.0) * (squares / (n - 1.0) / n).sqrt()
        }
    };
    format!("{} ± {}", narrow(mean, 4), narrow(half, 2))
}

/// Small numbers by their exponent, so that four columns of them fit the page.
fn narrow(value: f64, digits: usize) -> String {
    match value.abs() {
        size if size > 0.0 && size < 1e-3 => format!("{value:.*e}", digits.min(3) - 1),
        _ => significant(value, digits),
    }
}

/// The 97.5 % quantile of Student's t.
fn quantile(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
}
