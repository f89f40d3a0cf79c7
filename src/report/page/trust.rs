//! How far to trust the numbers: every check, what it found, and where it warns what to do.

use crate::report::format::{counted, grouped, percent};
use crate::report::plot::clean;
use crate::report::study::Study;
use crate::report::trust::{Check, Row, Verdict, attack_name, rows, verdicts};
use maud::{Markup, html};

/// Evaluations that a warning names before it folds the rest away.
const NAMED: usize = 5;

pub fn section(study: &Study) -> Markup {
    let rows = rows(study);
    let verdicts = verdicts(&rows);
    let noted = rows.iter().filter(|row| row.facts.is_some()).count();
    let silent = rows.iter().filter(|row| row.attack.is_some()).count() - noted;
    let (raised, calm): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| !verdict.warnings.is_empty());
    html! {
        section #trust {
            h2 { "How far to trust these numbers" }
            p.how {
                "A robust accuracy is an upper bound: another attack may break more. These checks look for the known ways in which a bound "
                "is loose, in " (counted(noted, "evaluation")) " of a checkpoint under an attack. They can raise doubt; they cannot prove robustness."
            }
            @if noted == 0 {
                p.verdict { "These evaluations were made by an earlier release, which noted nothing that could be checked." }
            } @else if raised.is_empty() {
                p.verdict.fine { b { "No warning." } " Nothing that was checked speaks against these numbers." }
            } @else {
                p.verdict.doubt { b { (counted(raised.len(), "warning")) "." } " Read on before quoting these numbers." }
            }
            @for verdict in raised { (warning(study, verdict)) }
            @if noted > 0 { ul.checks { @for verdict in calm { (line(verdict)) } } }
            @if silent > 0 && noted > 0 {
                p.how { (counted(silent, "evaluation")) " of an earlier release noted nothing, and are not part of this." }
            }
        }
    }
}

fn warning(study: &Study, verdict: &Verdict) -> Markup {
    let check = verdict.check;
    let place = |row: &&Row| {
        let trial = &study.results.trials[row.trial];
        let epoch = trial.checkpoints[row.checkpoint].epoch;
        let axes =
            trial.axes.iter().filter(|axis| !axis.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" · ");
        html! {
            li {
                code { (clean(&trial.trial)) } " "
                (clean(&crate::report::format::cut(&axes, 60))) " · seed " (trial.seed) " · epoch " (epoch) " · "
                (clean(attack_name(study.results, row)))
                @if !check.is_flag() { ": " b { (value(check, check.value(row).unwrap_or(0.0))) } }
            }
        }
    };
    html! {
        div.banner {
            p { b { (check.title()) ": no." } " " (worst(verdict)) }
            p { (check.meaning()) " " b { "What to do: " } (marked(check.remedy())) }
            ul { @for row in verdict.warnings.iter().take(NAMED) { (place(row)) } }
            @if verdict.warnings.len() > NAMED {
                details {
                    summary { (verdict.warnings.len() - NAMED) " more" }
                    ul { @for row in &verdict.warnings[NAMED..] { (place(row)) } }
                }
            }
        }
    }
}

/// A check that is content, or does not apply.
fn line(verdict: &Verdict) -> Markup {
    html! {
        @if verdict.rows == 0 {
            li.open { (verdict.check.title()) small { " not checked: " (marked(absent(verdict.check))) } }
        } @else {
            li.fine { (verdict.check.title()) small { " " (worst(verdict)) } }
        }
    }
}

fn worst(verdict: &Verdict) -> Markup {
    let check = verdict.check;
    let Some(worst) = verdict.worst else { return html! {} };
    html! {
        @if check.is_flag() {
            @if !verdict.warnings.is_empty() { "In " (counted(verdict.warnings.len(), "evaluation")) " of " (grouped(verdict.rows as u64)) "." }
        } @else if check == Check::AboveChance && worst <= 0.0 {
            "At the largest epsilon, no more than the largest class stands."
        } @else if worst <= 0.0 {
            "None."
        } @else {
            "Up to " (value(check, worst)) " " (check.unit()) "."
        }
    }
}

fn value(check: Check, value: f64) -> String {
    if check.is_share() { percent(value) } else { grouped(value as u64) }
}

fn absent(check: Check) -> &'static str {
    match check {
        Check::ZeroGradients => "no attack asked for a gradient.",
        Check::BlackBox => "no attack without gradients (`square`, `autoattack`) stands beside others.",
        Check::Late => "no attack takes ten steps or more.",
        Check::LastRestart => "no attack has restarts.",
        Check::AboveChance => "no epsilon is so large that all images can become one.",
        _ => "nothing was noted.",
    }
}

/// Words between backticks as code.
fn marked(text: &str) -> Markup {
    html! {
        @for (position, part) in text.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
