//! The frontier as one number: over epsilon, and as the sweep went on.

use super::scale::{Axis, Frame, Px, Scale, path};
use crate::frontier::Estimate;
use crate::report::study::Study;
use maud::{Markup, html};

/// Width and height of a panel.
pub const PANEL: (f64, f64) = (430.0, 300.0);

/// Hypervolume over epsilon, clean accuracy left out: there, both axes would be the same.
pub fn volumes(study: &Study) -> Markup {
    let frame = frame(study, Scale::new((0.0, study.reach()), (46.0, PANEL.0 - 12.0)));
    let line: Vec<(f64, Estimate)> = positive(study).map(|e| (study.frontier.epsilons[e], volume(study, e))).collect();
    let places = study.frontier.epsilons.iter().map(|&e| format!("{:.1}", frame.x.at(e)));
    let now = study.frontier.epsilons.get(study.focus).copied().unwrap_or(0.0);
    let band = path(
        line.iter()
            .map(|(e, v)| (frame.x.at(*e), frame.y.at(v.high)))
            .chain(line.iter().rev().map(|(e, v)| (frame.x.at(*e), frame.y.at(v.low)))),
    );
    html! {
        svg.plot viewBox={ "0 0 " (PANEL.0) " " (PANEL.1) } role="img" aria-label="Hypervolume over epsilon" {
            (frame.axes(Axis::Epsilon("Attack strength ε →"), Axis::Number("↑ Hypervolume"), (5, 5)))
            path.band.volume d={ (band) "Z" } {}
            g.curve.volume {
                path.line d=(path(line.iter().map(|(e, v)| (frame.x.at(*e), frame.y.at(v.value))))) {}
                @for (e, v) in line.iter().filter(|_| line.len() <= 32) { circle.knot cx=(Px(frame.x.at(*e))) cy=(Px(frame.y.at(v.value))) r="2.2" {} }
            }
            line.now x1=(Px(frame.x.at(now))) x2=(Px(frame.x.at(now))) y1=(Px(frame.top())) y2=(Px(frame.bottom()))
                data-x=(places.collect::<Vec<_>>().join(" ")) {}
        }
    }
}

/// Hypervolume at one epsilon over the trials of the plan: a flight of steps, one per configuration.
pub fn growth(study: &Study, epsilon: usize) -> Markup {
    let trials = study.results.trials.len() as f64;
    let frame = frame(study, Scale::new((0.0, trials), (46.0, PANEL.0 - 12.0)));
    let at: Vec<(f64, Estimate)> =
        study.growth.iter().map(|step| (step.trials as f64, step.volumes[epsilon].estimate)).collect();
    let stairs = |of: &dyn Fn(&Estimate) -> f64| -> Vec<(f64, f64)> {
        let mut corners = Vec::new();
        for (i, (trial, volume)) in at.iter().enumerate() {
            let until = at.get(i + 1).map_or(trials, |next| next.0);
            corners.extend([(frame.x.at(*trial), frame.y.at(of(volume))), (frame.x.at(until), frame.y.at(of(volume)))]);
        }
        corners
    };
    let mut low = stairs(&|v| v.low);
    low.reverse();
    html! {
        svg.plot viewBox={ "0 0 " (PANEL.0) " " (PANEL.1) } role="img" aria-label="Hypervolume over the trials of the plan" {
            (frame.axes(Axis::Number("Trials of the plan →"), Axis::Number("↑ Hypervolume"), (5, 5)))
            path.band.volume d={ (path(stairs(&|v| v.high).into_iter().chain(low))) "Z" } {}
            g.curve.volume { path.line d=(path(stairs(&|v| v.value))) {} }
        }
    }
}

/// The hypervolume at an epsilon.
pub fn volume(study: &Study, epsilon: usize) -> Estimate {
    study.frontier.volumes[epsilon].estimate
}

fn positive(study: &Study) -> impl Iterator<Item = usize> {
    (0..study.frontier.epsilons.len()).filter(|&e| study.frontier.epsilons[e] > 0.0)
}

/// The same scale of hypervolumes everywhere.
fn frame(study: &Study, x: Scale) -> Frame {
    let top = positive(study).map(|e| volume(study, e).high).fold(0.0, f64::max);
    let top = ((top * 10.0 - 1e-9).ceil() / 10.0).clamp(0.1, 1.0);
    Frame { x, y: Scale::new((0.0, top), (PANEL.1 - 52.0, 40.0)) }
}
