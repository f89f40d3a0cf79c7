//! The three figures with the words around them, and the data that the script needs.

use crate::frontier::Estimate;
use crate::report::format::{counted, grouped, short_epsilon};
use crate::report::plot::{self, DASHES, Size, clean, colour_class};
use crate::report::study::Study;
use maud::{Markup, html};
use serde_json::{Value, json};

/// The slider that moves every figure. Without a script it stays hidden and the page shows one epsilon.
pub fn control(study: &Study) -> Markup {
    let last = study.frontier.epsilons.len().saturating_sub(1);
    html! {
        div.control {
            label for="eps" { "Attack strength" }
            button #play type="button" aria-label="Play through all attack strengths" title="Play" { "▶" }
            input #eps type="range" min="0" max=(last) step="1" value=(study.focus);
            output #shown for="eps" { "ε = " (short_epsilon(study.frontier.epsilons[study.focus])) }
        }
    }
}

pub fn frontier(study: &Study) -> Markup {
    let (wide, remark) = plot::frontier(study, Size::Wide);
    let (slim, _) = plot::frontier(study, Size::Slim);
    html! {
        section #frontier {
            h2 { "The frontier" }
            p.how {
                "Each point is a configuration at one epoch. Up and to the right is better in both; the staircase joins those that "
                "nothing else beats in both at " (epsilon(study)) ", and what lies under it is dominated."
            }
            figure {
                div.wide { (wide) }
                div.slim { (slim) (legend(study)) }
                figcaption {
                    (basis(study, "bars")) " Large points are last epochs, small ones earlier epochs. Robust means right under the worst of "
                    (counted(study.results.attacks.len(), "attack")) "."
                    @if let Some(remark) = remark { " " (remark) }
                }
            }
        }
    }
}

pub fn curves(study: &Study) -> Markup {
    let panels = plot::attacks(study);
    let bands = plot::bands(study);
    html! {
        section #curves {
            h2 { "Robustness curves" }
            p.how {
                "How many examples are still classified correctly as the attacker gets more room, from clean accuracy on the left. "
                "A curve that stays high longer is more robust; names are in order of the area under their curve."
            }
            figure {
                div.wide { (plot::curves(study, Size::Wide)) }
                div.slim { (plot::curves(study, Size::Slim)) (legend(study)) }
                figcaption { (basis(study, "bands")) " Last epoch of each configuration, worst case over all attacks." (greys(study)) }
            }
            @if !panels.is_empty() {
                h3 { "Which attack does the breaking" }
                p.how {
                    "The thick line is the worst case over all attacks; a thin line far above it belongs to an attack that would have "
                    "flattered the model. Together they are never weaker than the strongest alone."
                }
                (attack_key(study))
                figure {
                    div.panels {
                        @for (k, panel) in panels {
                            div.cfg data-k=(k) { p title=(clean(&study.configs[k].label)) { (clean(&study.configs[k].short(44))) } (panel) }
                        }
                    }
                    figcaption {
                        "Means over seeds at the last epoch, n = " (grouped(study.frontier.examples as u64)) " test examples. "
                        "Intervals of each attack and each seed stand in " code { "curves.csv" } " (Clopper-Pearson, 95\u{202f}%)."
                    }
                }
            }
            @if !bands.is_empty() { (certified(study, &bands)) }
        }
    }
}

/// Where the truth lies: above what is certified, below what was broken.
fn certified(study: &Study, bands: &[(usize, Markup)]) -> Markup {
    let sure = || study.results.certificates.iter().enumerate().filter(|(_, certificate)| certificate.deterministic);
    html! {
        h3 { "What is certain" }
        p.how {
            "The thick line is what withstood every attack: an upper bound, for another attack may break more. Below the highest thin "
            "line no attack will ever succeed: that share of the examples is certified. " b { "The robust accuracy of the network lies in the coloured band" }
            "; a wide band says that the certificates are weak, the attacks, or both."
        }
        ul.key {
            li { svg viewBox="0 0 34 10" { path.all d="M1 5L33 5" {} } "withstood all attacks" }
            @for (c, certificate) in sure() {
                li { svg viewBox="0 0 34 10" { path d="M1 5L33 5" stroke-dasharray=(DASHES[(c + 1) % DASHES.len()]) {} } (clean(&certificate.name)) }
            }
        }
        figure {
            div.panels {
                @for (k, panel) in bands {
                    div.cfg data-k=(k) { p title=(clean(&study.configs[*k].label)) { (clean(&study.configs[*k].short(44))) } (panel) }
                }
            }
            figcaption {
                "Means over seeds at the last epoch. Each network by itself, with intervals, stands in " code { "certified.csv" }
                @if sure().count() < study.results.certificates.len() {
                    "; so does randomised smoothing, which certifies the smoothed network and is therefore not drawn here"
                }
                "."
            }
        }
    }
}

pub fn tradeoff(study: &Study) -> Markup {
    let epochs = study.epochs();
    html! {
        section #tradeoff {
            h2 { "The way through training" }
            @if epochs.len() < 2 {
                p.how {
                    "One epoch was evaluated (" (epochs.first().copied().unwrap_or(0)) "), so there is no way to draw. List several under "
                    code { "evaluate.epochs" } " to see how accuracy and robustness move as training goes on."
                }
            } @else {
                p.how {
                    "Each line follows one configuration from its first evaluated epoch to its last, the large point. A line that turns "
                    "down while it moves right buys clean accuracy with robustness at " (epsilon(study)) "."
                }
                figure {
                    div.wide { (plot::tradeoff(study, Size::Wide)) }
                    div.slim { (plot::tradeoff(study, Size::Slim)) (legend(study)) }
                    figcaption {
                        "Epochs " (epochs.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")) ". " (basis(study, "intervals on hover"))
                    }
                }
            }
        }
    }
}

/// The chosen epsilon in running text; the script keeps it current.
pub fn epsilon(study: &Study) -> Markup {
    html! { span.eps { "ε = " (short_epsilon(study.frontier.epsilons[study.focus])) } }
}

/// n, seeds and the kind of interval: what every figure must say.
pub fn basis(study: &Study, marks: &str) -> String {
    let seeds: Vec<usize> = study.frontier.candidates.iter().map(|c| c.seeds).collect();
    let (least, most) = (seeds.iter().min().copied().unwrap_or(0), seeds.iter().max().copied().unwrap_or(0));
    let means = match (least, most) {
        (1, 1) => "One seed each".to_owned(),
        (a, b) if a == b => format!("Means over {b} seeds"),
        (a, b) => format!("Means over {a} to {b} seeds"),
    };
    let over =
        if most > 1 { "seeds and test examples" } else { "test examples only, as one seed says nothing about others" };
    let n = grouped(study.frontier.examples as u64);
    let pair = if seeds.contains(&2) { " Two seeds say little about others, so their intervals are wide." } else { "" };
    format!(
        "{means}, n = {n} test examples; {marks}: 95\u{202f}% bootstrap over {over} ({} draws).{pair}",
        grouped(study.frontier.draws as u64)
    )
}

fn greys(study: &Study) -> String {
    let grey = study.plotted().filter(|(_, config, _)| config.colour.is_none()).count();
    if grey == 0 {
        String::new()
    } else {
        format!(" {} in grey; point at one to see it.", counted(grey, "more configuration"))
    }
}

/// Names for narrow screens, where figures have no room for them.
pub fn legend(study: &Study) -> Markup {
    html! {
        ul.legend {
            @for (k, config, _) in study.plotted().filter(|(_, config, _)| config.colour.is_some()) {
                li.cfg data-k=(k) { i class=(colour_class(config.colour)) {} (clean(&config.short(60))) }
            }
        }
    }
}

fn attack_key(study: &Study) -> Markup {
    html! {
        ul.key {
            li { svg viewBox="0 0 34 10" { path.all d="M1 5L33 5" {} } "all together" }
            @for (a, attack) in study.results.attacks.iter().enumerate() {
                li { svg viewBox="0 0 34 10" { path d="M1 5L33 5" stroke-dasharray=(DASHES[a % DASHES.len()]) {} } (clean(attack)) }
            }
        }
    }
}

/// Numbers for the script, in units of 0.01 %; safe inside a script element.
pub fn data(study: &Study) -> String {
    let unit = |v: f64| (v * 1e4).round() as i64;
    let estimate = |e: Estimate| json!([unit(e.value), unit(e.low), unit(e.high)]);
    let config_of = study.config_of();
    let epsilons = study.frontier.epsilons.len();
    let candidates = study.frontier.candidates.iter().enumerate().map(|(c, candidate)| {
        json!({
            "k": config_of[c],
            "epoch": candidate.when(),
            "seeds": candidate.seeds,
            "clean": estimate(candidate.clean),
            "robust": (0..epsilons).map(|e| estimate(study.robust(e, c))).collect::<Vec<Value>>(),
            "p": (0..epsilons).map(|e| unit(study.frontier.points[e][c].p_on_frontier)).collect::<Vec<_>>(),
            "on": (0..epsilons).map(|e| u8::from(study.frontier.points[e][c].on_frontier)).collect::<Vec<_>>(),
        })
    });
    let configs = study.configs.iter().map(|config| json!({ "label": clean(&config.label), "last": config.last() }));
    let data = json!({
        "focus": study.focus,
        "epsilons": study.frontier.epsilons.iter().map(|&e| short_epsilon(e)).collect::<Vec<_>>(),
        "candidates": candidates.collect::<Vec<Value>>(),
        "configs": configs.collect::<Vec<Value>>(),
    });
    // Nothing in the data may end the script element or open a comment.
    data.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
