//! Every configuration in one sortable table, with bars instead of bare digits.

use super::figures::epsilon;
use crate::frontier::Estimate;
use crate::report::format::{percent, short_epsilon};
use crate::report::plot::{clean, colour_class};
use crate::report::study::{Config, Study};
use maud::{Markup, html};

/// Beyond this many axes, one column holds all values: a table must fit the page.
const AXES: usize = 4;
/// Rows before the rest is folded away.
const SHOWN: usize = 40;

pub fn section(study: &Study) -> Markup {
    let mut rows: Vec<(usize, &Config)> = study.configs.iter().enumerate().collect();
    let area = |config: &Config| config.last().and_then(|c| study.area(c)).map_or(-1.0, |area| area.value);
    rows.sort_by(|a, b| area(b.1).total_cmp(&area(a.1)));
    let split = study.results.axes.len() <= AXES && !study.results.axes.is_empty();
    html! {
        section #configurations {
            h2 { "All configurations" }
            p.how {
                "Each row is one configuration at its last epoch, most robust first; click a heading to sort, a row to pin it in every figure. "
                "Thin lines on the bars are 95\u{202f}% intervals."
            }
            div.scroll {
                table.configs {
                    thead { tr {
                        @if split { @for axis in &study.results.axes { (heading("text", html! { (clean(axis)) })) } }
                        @else { (heading("text", html! { "Configuration" })) }
                        (heading("number", html! { "Seeds" }))
                        (heading("number", html! { "Clean accuracy" }))
                        @if study.frontier.epsilons.is_empty() || study.frontier.candidates.is_empty() { (heading("number", html! { "Robust accuracy" })) }
                        @else { (heading("number", html! { "Robust at " (epsilon(study)) })) }
                        (heading("number", html! { abbr title="Mean robust accuracy from 0 to the largest epsilon: the area under the curve" { "Mean over ε" } }))
                        (heading("number", html! { abbr title="The smallest epsilon of the grid at which half of the test examples are broken" { "Half broken" } }))
                        (heading("number", html! { abbr title="In how many bootstrap draws nothing beats it in both" { "On frontier" } }))
                    } }
                    tbody {
                        @for (i, (k, config)) in rows.iter().enumerate() { (row(study, *k, config, split, i >= SHOWN)) }
                    }
                }
            }
            @if rows.len() > SHOWN { button #more type="button" { "Show all " (rows.len()) } }
        }
    }
}

fn heading(kind: &str, content: Markup) -> Markup {
    html! { th scope="col" data-kind=(kind) { button type="button" { (content) } } }
}

fn row(study: &Study, k: usize, config: &Config, split: bool, folded: bool) -> Markup {
    let swatch = html! { i class=(colour_class(config.colour)) title={ "config " (config.config) } {} };
    let columns = if split { study.results.axes.len() } else { 1 };
    html! {
        tr.cfg.folded[folded] data-k=(k) data-n=[config.last()] {
            @for column in 0..columns {
                @let text = if split { config.axes.get(column).cloned().unwrap_or_default() } else { config.label.clone() };
                td.axis data-v=(clean(&text)) title=(clean(&text)) { span { @if column == 0 { (swatch) } (clean(&text)) } }
            }
            @match config.last() {
                Some(c) => { (numbers(study, c, config)) }
                None => {
                    td.num data-v="0" { "0 of " (config.planned) }
                    td.none colspan="5" data-v="-1" { "not fully evaluated" }
                }
            }
        }
    }
}

fn numbers(study: &Study, c: usize, config: &Config) -> Markup {
    let candidate = study.candidate(c);
    let point = study.frontier.points[study.focus][c];
    let area = study.area(c);
    let half = candidate.median_break;
    let beyond = || if study.reach() > 0.0 { format!("> {}", short_epsilon(study.reach())) } else { "–".into() };
    let spelled = |epsilon: f64| if epsilon.is_finite() { short_epsilon(epsilon) } else { beyond() };
    html! {
        td.num data-v=(candidate.seeds) {
            (candidate.seeds) @if candidate.seeds < config.planned { small { " of " (config.planned) } }
        }
        td data-v=(candidate.clean.value) { (bar(candidate.clean)) }
        td.robust data-v=(point.robust.value) { (bar(point.robust)) }
        @match area {
            Some(area) => { td data-v=(area.value) { (bar(area)) } }
            None => { td.num data-v="-1" { "–" } }
        }
        td.num data-v=(half.value.min(f64::MAX)) {
            (spelled(half.value))
            @if half.low < half.high { small { " (" (spelled(half.low)) " to " (spelled(half.high)) ")" } }
        }
        td.num.chance data-v=(point.p_on_frontier) {
            span.member[point.on_frontier] title=(if point.on_frontier { "on the frontier" } else { "dominated" }) {}
            b { (percent_whole(point.p_on_frontier)) }
        }
    }
}

fn percent_whole(p: f64) -> String {
    format!("{:.0}\u{202f}%", 100.0 * p)
}

/// A bar from 0 to 100 % with its interval.
fn bar(e: Estimate) -> Markup {
    let style = format!("--v:{:.4};--l:{:.4};--h:{:.4}", e.value, e.low, e.high);
    html! { span.meter style=(style) { i {} } b { (percent(e.value)) } }
}
