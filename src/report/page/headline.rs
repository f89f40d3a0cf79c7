//! The top of the page: what came out in a sentence, how much stands behind it, what is missing.

use crate::frontier::Estimate;
use crate::frontier::results::TrialStatus;
use crate::report::format::{counted, duration, grouped, large, norm, percent, percent_range, short_epsilon};
use crate::report::input::{CostRow, Provenance};
use crate::report::plot::clean;
use crate::report::study::Study;
use crate::report::tables::status;
use maud::{Markup, html};

/// How many of the unfinished trials the banner lists before it folds the rest away.
const LISTED: usize = 5;

/// The trade-off at the epsilon that tells configurations apart best.
pub fn lede(study: &Study) -> Markup {
    let Some(points) = study.frontier.points.get(study.focus).filter(|p| !p.is_empty()) else {
        return html! { p.lede { "No checkpoint is fully evaluated yet. This page fills as results come in; write it anew at any time with " code { "epsweep report" } "." } };
    };
    let on: Vec<usize> = (0..points.len()).filter(|&c| points[c].on_frontier).collect();
    let by = |value: &dyn Fn(usize) -> f64| on.iter().copied().max_by(|&a, &b| value(a).total_cmp(&value(b)));
    let accurate = by(&|c| study.candidate(c).clean.value).unwrap_or(0);
    let robust = by(&|c| points[c].robust.value).unwrap_or(0);
    let epsilon = short_epsilon(study.frontier.epsilons[study.focus]);
    let name = |c: usize| name(study, c);
    let cost = study.candidate(accurate).clean.value - study.candidate(robust).clean.value;
    html! {
        p.lede {
            @if study.configs.len() == 1 || study.frontier.candidates.len() == 1 {
                b { (name(robust)) } " is right on " (stated(study.candidate(robust).clean)) " of the test examples, and on "
                (stated(points[robust].robust)) " when each may be changed by ε = " (epsilon) "."
            } @else if accurate == robust {
                "At ε = " (epsilon) " one configuration is best at both: " b { (name(robust)) } ", with a clean accuracy of "
                (stated(study.candidate(robust).clean)) " and " (stated(points[robust].robust)) " under attack."
            } @else {
                "At ε = " (epsilon) " nothing is best at both. The most accurate, " b { (name(accurate)) } ", is right on "
                (stated(study.candidate(accurate).clean)) " of the clean examples and on "
                (stated(points[accurate].robust)) " under attack. The most robust, " b { (name(robust)) } ", holds "
                (stated(points[robust].robust)) " and pays " (format!("{:.1}", 100.0 * cost)) " points of clean accuracy."
            }
        }
    }
}

/// The name of a candidate in running text, with its epoch where that is not the last.
fn name(study: &Study, c: usize) -> String {
    let candidate = study.candidate(c);
    let config = study.configs.iter().find(|config| config.candidates.contains(&c));
    let label = config.map_or(candidate.config.clone(), |config| config.short(60));
    let last = config.is_some_and(|config| config.last() == Some(c));
    if last { clean(&label) } else { format!("{} at epoch {}", clean(&label), candidate.when()) }
}

fn stated(estimate: Estimate) -> Markup {
    html! { span.stated { (percent(estimate.value)) " " small { "(" (percent_range(estimate.low, estimate.high)) ")" } } }
}

pub fn cards(study: &Study, costs: &[CostRow], provenance: &Provenance) -> Markup {
    let results = study.results;
    let passes: u64 = costs.iter().map(|c| c.forwards + c.backwards).sum();
    let seeds = study.configs.iter().map(|c| c.planned).max().unwrap_or(0);
    let positive = results.positive_epsilons().len();
    let busy: f64 = costs.iter().map(|c| c.seconds).sum();
    html! {
        div.cards {
            (card(&format!("{} of {}", study.finished(), results.trials.len()), "trials finished",
                &format!("{} × {}", counted(study.configs.len(), "configuration"), counted(seeds, "seed"))))
            (card(&grouped(results.examples as u64), "test examples",
                &format!("{} at {}, {}", counted(results.attacks.len(), "attack"), counted(positive, "epsilon"), norm(&results.norm))))
            @if provenance.wall_seconds > 0.0 {
                (card(&duration(provenance.wall_seconds), "by the clock",
                    &format!("{}, {} of work", counted(provenance.workers.len(), "worker"), duration(busy))))
            }
            @if passes > 0 {
                (card(&large(passes), "passes", "one example, forwards or backwards"))
            }
        }
    }
}

/// What training noticed and a reader must know. Empty where there is nothing.
pub fn warnings(study: &Study) -> Markup {
    let mut lines: Vec<(String, String)> = Vec::new();
    for &t in &study.order {
        let trial = &study.results.trials[t];
        let who = || format!("{} · {} · seed {}", trial.trial, trial.axes.join(" · "), trial.seed);
        let Some(last) = trial.checkpoints.last().filter(|last| !last.facts.note().is_empty()) else { continue };
        let share = |of: Option<f64>| of.map_or("unknown".to_string(), percent);
        let (fgsm, pgd) = (share(last.facts.fgsm_accuracy), share(last.facts.pgd_accuracy));
        let figures = format!(
            "{}; at the end {fgsm} of watched training examples withstand one step, {pgd} PGD",
            last.facts.note()
        );
        lines.push((who(), figures));
    }
    html! {
        @if !lines.is_empty() {
            aside.banner role="note" {
                p {
                    b { "Training collapsed in " (counted(lines.len(), "trial")) ". " }
                    "A single-step method learned to withstand its own step and nothing else (catastrophic overfitting). Its robust "
                    "accuracies are real, and low; a smaller radius or step, or more steps, avoids it."
                }
                ul { @for line in lines.iter().take(LISTED) { (failure(line)) } }
                @if lines.len() > LISTED { p { (lines.len() - LISTED) " more, in the column " code { "note" } " of trials.csv" } }
            }
        }
    }
}

fn card(value: &str, what: &str, detail: &str) -> Markup {
    html! { div.card { b { (value) } span { (what) } small { (detail) } } }
}

/// What is missing, as plainly as what is there. Empty when the sweep is complete.
pub fn banner(study: &Study, provenance: &Provenance) -> Markup {
    let results = study.results;
    let unfinished: Vec<_> =
        study.order.iter().map(|&t| &results.trials[t]).filter(|t| t.status != TrialStatus::Done).collect();
    let count = |name: &str| unfinished.iter().filter(|t| status(&t.status) == name).count();
    let parts: Vec<String> = ["failed", "pending", "cancelled"]
        .iter()
        .filter(|name| count(name) > 0)
        .map(|name| format!("{} {name}", count(name)))
        .collect();
    let known = |trial: &str| unfinished.iter().any(|t| t.trial == trial);
    let mut lines: Vec<(String, String)> = Vec::new();
    for trial in &unfinished {
        if let TrialStatus::Failed(why) = &trial.status {
            lines.push((format!("{} · {} · seed {}", trial.trial, trial.axes.join(" · "), trial.seed), why.clone()));
        }
    }
    let others = provenance.failures.iter().filter(|f| !known(&f.trial));
    lines.extend(others.map(|f| (f.trial.clone(), f.reason.clone())));
    let contradictions = crate::report::certified::contradictions(study);
    html! {
        @if !contradictions.is_empty() {
            aside.banner role="alert" {
                p {
                    b { "Do not trust this report: an attack broke examples that are certified. " }
                    "One of the two is wrong, and that is a bug of the program. Please report it with the sweep file."
                }
                ul { @for line in contradictions.iter().take(LISTED) { li { (clean(line)) } } }
            }
        }
        @if !unfinished.is_empty() || !lines.is_empty() {
            aside.banner role="note" {
                p {
                    b { "This sweep is not complete: " (parts.join(", ")) " of " (counted(results.trials.len(), "trial")) ". " }
                    "Figures show only checkpoints of which every example was attacked by every attack; a mean over fewer seeds says so."
                }
                @if !lines.is_empty() {
                    ul { @for line in lines.iter().take(LISTED) { (failure(line)) } }
                    @if lines.len() > LISTED {
                        details {
                            summary { (lines.len() - LISTED) " more" }
                            ul { @for line in &lines[LISTED..] { (failure(line)) } }
                        }
                    }
                }
            }
        }
    }
}

fn failure((who, why): &(String, String)) -> Markup {
    html! { li { code { (clean(who)) } " " (clean(why)) } }
}
