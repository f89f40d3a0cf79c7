//! The end of the page: how the numbers were made, so that somebody else can make them again.

use crate::report::format::{counted, duration, epsilon, grouped, large};
use crate::report::input::{CostRow, Provenance, WorkerLine};
use crate::report::plot::clean;
use crate::report::study::Study;
use maud::{Markup, html};

/// Workers that are listed before the rest is folded away.
const WORKERS: usize = 8;

pub fn section(study: &Study, costs: &[CostRow], provenance: &Provenance) -> Markup {
    html! {
        section #made {
            h2 { "How it was made" }
            div.made {
                dl { (facts(study, costs, provenance)) }
                div.prose { (method(study)) (again(provenance)) }
            }
            @if !provenance.workers.is_empty() { (workers(&provenance.workers)) }
            @if !provenance.yaml.is_empty() {
                h3 { "The sweep, as it was written" }
                pre { code { (provenance.yaml) } }
            }
            h3 { "Files beside this page" }
            (files(study))
        }
    }
}

fn facts(study: &Study, costs: &[CostRow], p: &Provenance) -> Markup {
    let results = study.results;
    let (forwards, backwards) = costs.iter().fold((0, 0), |(f, b), c| (f + c.forwards, b + c.backwards));
    let tasks = match (p.tasks, p.reused) {
        (0, _) => String::new(),
        (n, 0) => format!("{}, {} repeated", grouped(n), counted(p.retries as usize, "attempt")),
        (n, reused) => {
            format!(
                "{}, of which {} were answered before; {} repeated",
                grouped(n),
                grouped(reused),
                counted(p.retries as usize, "attempt")
            )
        }
    };
    let passes = format!("{} forwards, {} backwards", large(forwards), large(backwards));
    let epsilons: Vec<String> = results.epsilons.iter().map(|&e| epsilon(e)).collect();
    let certificates: Vec<&str> = results.certificates.iter().map(|certificate| certificate.name.as_str()).collect();
    let when = [&p.started, &p.finished].into_iter().filter(|t| !t.is_empty()).map(String::as_str).collect::<Vec<_>>();
    html! {
        (fact("Data", &p.data))
        (fact("Data digest", &p.data_digest))
        (fact("Test examples", &grouped(results.examples as u64)))
        (fact("Attacks", &results.attacks.join(", ")))
        (fact("Certificates", &certificates.join(", ")))
        (fact("Epsilons", &epsilons.join(", ")))
        (fact("epsweep", &p.epsweep))
        (fact("Algorithms", &p.algorithm))
        (fact("libtorch", &p.libtorch))
        (fact("When", &when.join(" to ")))
        @if p.wall_seconds > 0.0 { (fact("Wall time", &duration(p.wall_seconds))) }
        (fact("Tasks", &tasks))
        @if forwards + backwards > 0 { (fact("Passes", &passes)) }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { @if !value.is_empty() { dt { (name) } dd { (clean(value)) } } }
}

fn method(study: &Study) -> Markup {
    html! {
        p {
            "An example counts as broken at ε when an adversarial example within ε was found and confirmed; what withstands every attack here "
            "may still fall to a stronger one, so " b { "robust accuracies are upper bounds" } "."
        }
        p {
            "Intervals of a configuration come from " (grouped(study.frontier.draws as u64)) " bootstrap draws. Each redraws the test examples, "
            "the same ones for every configuration, and moves the mean over seeds by Student's t of the spread between seeds. "
            "A configuration with one seed has an interval over examples only. \u{201c}On frontier\u{201d} is the fraction of draws in which "
            "nothing else is at least as good in both accuracies and better in one."
        }
        p { "Intervals of a single model, in " code { "curves.csv" } " and " code { "trials.csv" } ", are Clopper-Pearson at 95\u{202f}%." }
    }
}

fn again(provenance: &Provenance) -> Markup {
    html! {
        @if !provenance.command.is_empty() {
            p { "To make these numbers again:" }
            pre.command { code { (clean(&provenance.command)) } }
        }
        p {
            "The same file on the same kind of processor gives the same " code { "curves.csv" } " and " code { "frontier.csv" }
            ", byte for byte, with any number of workers."
        }
    }
}

fn workers(workers: &[WorkerLine]) -> Markup {
    let line = |w: &WorkerLine| {
        html! { tr { td { code { (clean(&w.name)) } } td { (clean(&w.device)) } td.num { (w.slots) } td.num { (grouped(w.tasks)) } } }
    };
    let head = html! { thead { tr { th { "Worker" } th { "Device" } th.num { "Slots" } th.num { "Tasks" } } } };
    html! {
        h3 { "Workers" }
        div.scroll { table.plain { (head) tbody { @for w in workers.iter().take(WORKERS) { (line(w)) } } } }
        @if workers.len() > WORKERS {
            details {
                summary { (workers.len() - WORKERS) " more" }
                div.scroll { table.plain { (head) tbody { @for w in &workers[WORKERS..] { (line(w)) } } } }
            }
        }
    }
}

fn files(study: &Study) -> Markup {
    let certified = ("certified", "what is proved, per checkpoint, certificate and epsilon");
    let mut tables = vec![
        ("trials", "one row per checkpoint: clean accuracy, training loss, status"),
        ("curves", "robust accuracy per checkpoint, attack and epsilon"),
        ("frontier", "configurations over seeds, per epsilon"),
        ("summary", "one row per configuration and epoch: area under the curve, median break, with intervals"),
        ("hypervolume", "the frontier as one number, and how the sweep made it grow"),
        ("comparisons", "every two configurations on the same examples, corrected for their number"),
        ("trust", "what speaks against the numbers, per checkpoint and attack"),
        ("costs", "every attempt of every task: seconds and passes"),
    ];
    if !study.results.certificates.is_empty() {
        tables.push(certified);
    }
    if !study.results.measures.is_empty() {
        tables.push((
            "correlations",
            "dx, dp, product and bound against robust accuracy, over trials and configurations",
        ));
    }
    html! {
        ul.files {
            @for (name, what) in tables {
                li { a href={ (name) ".csv" } { (name) ".csv" } ", " a href={ (name) ".parquet" } { (name) ".parquet" } " " span { (what) } }
            }
            li {
                a href="frontier.svg" { "frontier.svg" } ", " a href="curves.svg" { "curves.svg" } ", " a href="tradeoff.svg" { "tradeoff.svg" }
                " " span { "the figures for a paper" }
            }
        }
    }
}
