//! Whether dp goes with robustness: one point per trial, and the coefficient with its interval.

use super::figures::{epsilon, legend};
use super::statistics::at;
use crate::frontier::correlation::Coefficient;
use crate::report::correlations::{Cloud, DP, clouds};
use crate::report::format::{counted, grouped, short_epsilon};
use crate::report::plot::{clean, scatter::scatter};
use crate::report::study::Study;
use maud::{Markup, html};

pub fn section(study: &Study) -> Markup {
    let clouds = clouds(study);
    if clouds.is_empty() || study.reach() <= 0.0 {
        return html! {};
    }
    html! {
        section #correlations {
            h2 { "Does dp go with robustness?" }
            p.how {
                "Each point is one trained network at its last measured epoch: how strongly its loss changes with the input (dp), and how much of "
                "the test set it holds at " (epsilon(study)) ". If robustness and dp exclude each other, the points fall from the upper left to the "
                "lower right. A correlation over configurations that were chosen by hand says how these differ, not that dp causes it."
            }
            @for cloud in &clouds {
                @if clouds.len() > 1 { h3 { (clean(&cloud.measure)) } }
                figure {
                    @for e in 0..study.results.epsilons.len() {
                        (at(study, e, html! { (scatter(study, cloud, DP, "dp", e)) p.reading { (reading(study, cloud, e)) } }))
                    }
                    (legend(study))
                    figcaption {
                        (counted(cloud.points.len(), "trial")) ", n = " (grouped(study.frontier.examples as u64)) " test examples each, worst case over all attacks; dp of "
                        code { (clean(&cloud.measure)) } ", averaged over all classes. Intervals: 95\u{202f}%, Fisher's. Trials of one configuration are alike, so "
                        "that over trials is too narrow; that over configurations is not. dx, the product and the bound, and Pearson's coefficient, "
                        "stand in " code { "correlations.csv" } "."
                    }
                }
            }
        }
    }
}

fn reading(study: &Study, cloud: &Cloud, e: usize) -> Markup {
    let over = |trials: bool| cloud.correlation(DP, e, trials);
    html! {
        "At ε = " (short_epsilon(study.results.epsilons[e])) ", the rank correlation of dp and robust accuracy is "
        @match over(true) {
            Some(found) => { b { (value(found.spearman.value)) } " " (interval(found.spearman)) " over " (counted(found.n, "trial")) }
            None => "not defined over these trials: fewer than three, or nothing varies"
        }
        @match over(false) {
            Some(found) => { ", and " b { (value(found.spearman.value)) } " " (interval(found.spearman)) " over " (counted(found.n, "configuration")) "." }
            None => ". There are too few configurations to speak of them."
        }
    }
}

fn interval(of: Coefficient) -> String {
    match of.interval {
        Some((low, high)) => format!("({} to {})", value(low), value(high)),
        None => "(no interval: fewer than four points)".into(),
    }
}

fn value(r: f64) -> String {
    format!("{r:+.2}").replace('-', "\u{2212}")
}
