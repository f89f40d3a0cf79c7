//! The frontier as one number, and who is really better than whom.

use super::figures::{basis, epsilon};
use crate::frontier::compare::{Comparison, MOST};
use crate::frontier::{Estimate, IntervalKind};
use crate::report::format::{counted, grouped, short_epsilon, significant};
use crate::report::plot::{clean, colour_class, volume};
use crate::report::study::Study;
use maud::{Markup, html};

/// Configurations that the table of comparisons lists; all stand in comparisons.csv.
const SHOWN: usize = 12;

pub fn hypervolume(study: &Study) -> Markup {
    html! {
        section #hypervolume {
            h2 { "The frontier as one number" }
            p.how {
                "The hypervolume is the area under the staircase above: the share of the plane of clean and robust accuracy that some "
                "configuration dominates. 1 would be perfect in both. Left, how it falls as attacks grow; right, how it grew with the sweep at "
                (epsilon(study)) ": " b { "where the steps have become flat, more of the same grid would hardly help." }
            }
            figure {
                div.pair {
                    (volume::volumes(study))
                    @for e in 0..study.frontier.epsilons.len() { (at(study, e, volume::growth(study, e))) }
                }
                @for e in 0..study.frontier.epsilons.len() { (at(study, e, html! { p.reading { (reading(study, e)) } })) }
                figcaption {
                    (basis(study, "bands")) " A frontier picks the luckiest of noisy means, so its hypervolume is flattered; the lower end of the band "
                    "allows for that. A configuration counts from its last trial on, in the order of the plan, with all its epochs."
                }
            }
        }
    }
}

/// What is shown at one epsilon only; the script shows another.
pub fn at(study: &Study, e: usize, content: Markup) -> Markup {
    html! { div data-e=(e) hidden[e != study.focus] { (content) } }
}

fn reading(study: &Study, e: usize) -> Markup {
    let found = study.frontier.volumes[e];
    // The first step from which on nothing was added.
    let end = found.estimate.value - 1e-9;
    let last = study.growth.iter().find(|step| step.volumes[e].estimate.value >= end);
    html! {
        "At ε = " (short_epsilon(study.frontier.epsilons[e])) " the frontier dominates " b { (number(found.estimate.value)) } " of the plane ("
        (number(found.estimate.low)) " to " (number(found.estimate.high)) "); picking the best of noisy means flatters that by about "
        (number(found.optimism)) "."
        @if let Some(step) = last.filter(|_| study.growth.len() > 1) {
            @if step.configs < study.frontier_configs() {
                " Nothing after trial " (step.trials) " of " (study.results.trials.len()) " has added to it."
            } @else {
                " The last configurations of the plan still added to it."
            }
        }
    }
}

pub fn comparisons(study: &Study) -> Markup {
    let found = &study.comparisons;
    html! {
        section #comparisons {
            h2 { "Who is really better" }
            p.how {
                "Each configuration against the most robust one at " (epsilon(study)) ", on the same test examples. A bar that stays left of zero is "
                "a difference that luck does not explain; where it reaches zero, the two may be equal. Full dots hold after correction for all "
                (counted(found.family, "pair")) " of configurations (Holm, 5\u{202f}%)."
            }
            figure {
                @for e in 0..study.frontier.epsilons.len() { (at(study, e, table(study, e))) }
                figcaption { (caption(study)) }
            }
        }
    }
}

fn caption(study: &Study) -> Markup {
    let found = &study.comparisons;
    let seeded = found.at.iter().flatten().filter(|pair| pair.seeds.is_some()).count();
    let all = found.at.iter().map(Vec::len).sum::<usize>();
    html! {
        "n = " (grouped(study.frontier.examples as u64)) " test examples, last epochs. \u{201c}Examples\u{201d}: these very networks on other test images "
        "(McNemar's exact test; with several seeds, each image speaks for the configuration of which the larger share of networks withstands). "
        @if seeded > 0 {
            "\u{201c}Seeds\u{201d}: other seeds too (Student's t); to say that a method is better, quote this one. Bars are its 95\u{202f}% interval. "
        }
        @if seeded < all {
            "Where either has one seed, bars speak of test examples only, and nothing is said about other seeds. "
        }
        "Both are corrected for the pairs at this epsilon, not for looking at all epsilons. "
        @if found.configs > MOST { "Only the " (MOST) " configurations with the largest area are compared. " }
        "All pairs, with p and q, stand in " code { "comparisons.csv" } "."
    }
}

/// The most robust at an epsilon, and the others by how close they come.
fn table(study: &Study, e: usize) -> Markup {
    let found = &study.comparisons;
    let value = |c: usize| study.robust(e, c).value;
    let best = found.compared.iter().copied().reduce(|a, b| if value(b) > value(a) { b } else { a });
    let Some(best) = best else { return html! {} };
    let mut rows: Vec<(usize, &Comparison, Estimate)> =
        found.at[e].iter().filter_map(|pair| Some((other(pair, best)?, pair, behind(pair, best)))).collect();
    rows.sort_by(|a, b| b.2.value.total_cmp(&a.2.value).then(a.0.cmp(&b.0)));
    let hidden = rows.len().saturating_sub(SHOWN);
    rows.truncate(SHOWN);
    let reach = rows.iter().map(|row| -row.2.low).fold(0.01, f64::max);
    let above = rows.iter().map(|row| row.2.high).fold(0.0, f64::max);
    let config_of = study.config_of();
    let name = |c: usize| {
        let config = &study.configs[config_of[c]];
        html! { i class=(colour_class(config.colour)) {} (clean(&config.short(48))) }
    };
    html! {
        p.reading { "Most robust at ε = " (short_epsilon(study.frontier.epsilons[e])) ": " b { (clean(&study.configs[config_of[best]].short(60))) } ", "
            (crate::report::format::percent(value(best))) "." }
        div.scroll {
            table.forest {
                thead { tr {
                    th { "Configuration" } th { "Points behind, 0 at the right line" } th.num { "Difference (95\u{202f}%)" }
                    th.num { abbr title="Examples that only the most robust withstands, and that only this one withstands" { "Only it : only this" } }
                    th.num { "Examples, Holm p" } th.num { "Seeds, Holm p" }
                } }
                tbody {
                    @for (c, pair, difference) in &rows {
                        tr.cfg data-k=(config_of[*c]) {
                            td.axis { span { (name(*c)) } }
                            td { (bar(*difference, (reach, above), sure(pair))) }
                            td.num { (points(difference.value)) small { " (" (points(difference.low)) " to " (points(difference.high)) ")" } }
                            td.num { (only(pair, best)) }
                            td.num { (p_value(pair.examples.holm)) }
                            td.num { @match pair.seeds { Some(seeds) => { (p_value(seeds.holm)) } None => { small { "one seed" } } } }
                        }
                    }
                }
            }
        }
        @if hidden > 0 { p.how { (counted(hidden, "more configuration")) " in comparisons.csv, further behind." } }
    }
}

/// The other side of a pair that `best` is part of.
fn other(pair: &Comparison, best: usize) -> Option<usize> {
    match best {
        b if b == pair.a => Some(pair.b),
        b if b == pair.b => Some(pair.a),
        _ => None,
    }
}

/// The other less the best.
fn behind(pair: &Comparison, best: usize) -> Estimate {
    let Estimate { value, low, high } = pair.difference;
    if pair.b == best { pair.difference } else { Estimate { value: -value, low: -high, high: -low } }
}

fn only(pair: &Comparison, best: usize) -> String {
    let (best, this) = if pair.a == best { (pair.only_a, pair.only_b) } else { (pair.only_b, pair.only_a) };
    format!("{} : {}", grouped(best as u64), grouped(this as u64))
}

/// By the test that speaks of more.
fn sure(pair: &Comparison) -> bool {
    match (pair.interval, pair.seeds) {
        (IntervalKind::SeedsAndExamples, Some(seeds)) => seeds.holm <= 0.05,
        _ => pair.examples.holm <= 0.05,
    }
}

/// A dot with its interval, between the farthest and a little beyond zero.
fn bar(difference: Estimate, (reach, above): (f64, f64), sure: bool) -> Markup {
    let x = |v: f64| format!("{:.1}", 6.0 + 228.0 * (v + reach) / (reach + above.max(0.05 * reach)));
    html! {
        svg.plot.whisker viewBox="0 0 240 20" width="240" height="20" role="img" aria-label="Difference with interval" {
            line.base x1=(x(0.0)) x2=(x(0.0)) y1="0" y2="20" {}
            line.reach x1=(x(difference.low)) x2=(x(difference.high)) y1="10" y2="10" {}
            circle.sure[sure].open[!sure] cx=(x(difference.value)) cy="10" r="4" {}
        }
    }
}

fn number(value: f64) -> String {
    format!("{value:.3}")
}

/// A difference of accuracies, in points.
fn points(value: f64) -> String {
    let text = format!("{:+.1}", 100.0 * value);
    if text == "-0.0" || text == "+0.0" { "0.0".into() } else { text.replace('-', "\u{2212}") }
}

fn p_value(p: f64) -> String {
    if p < 0.0005 { "< 0.001".into() } else { significant((p * 1000.0).round() / 1000.0, 2) }
}
