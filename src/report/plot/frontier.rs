//! Figure 1: the frontier at one epsilon, ready to move to any other.

use super::label::Label;
use super::plane::{Plane, label_frames};
use super::scale::{Px, Size};
use crate::report::study::Study;
use maud::{Markup, html};
use serde_json::{Value, json};

/// Every candidate, the staircase through the non-dominated and their names. Returns the drawing
/// and a remark on points that did not fit.
pub fn frontier(study: &Study, size: Size) -> (Markup, Option<String>) {
    let plane = Plane::new(study, size);
    let config_of = study.config_of();
    let epsilon = study.focus;
    let (line, under) = plane.stairs(study, epsilon);
    let labels = plane.labels(study, epsilon, plane.on_frontier(study, epsilon), true);
    let (width, height) = size.pick((880, 520), (400, 420));
    let drawing = html! {
        svg.plot.plane viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="Clean against robust accuracy"
            data-frames=(frames(study, &plane)) {
            path.under d=(under) {}
            (plane.axes("↑ Robust accuracy"))
            path.stairs d=(line) {}
            @for &c in &plane.drawn {
                (plane.mark(study, epsilon, c, config_of[c], study.frontier.points[epsilon][c].on_frontier))
            }
            (texts(study, &labels))
        }
    };
    let remark = (plane.omitted > 0).then(|| {
        format!(
            "{} dominated point(s) with a clean accuracy below {:.0}\u{202f}% lie left of the plot.",
            plane.omitted,
            100.0 * plane.limit
        )
    });
    (drawing, remark)
}

pub fn texts(study: &Study, labels: &[(usize, String, Label)]) -> Markup {
    let config_of = study.config_of();
    html! {
        g.labels {
            @for (c, text, place) in labels {
                text.label data-n=(c) data-k=(config_of[*c]) x=(Px(place.x)) y=(Px(place.y)) text-anchor=(place.anchor) { (text) }
            }
        }
    }
}

fn frames(study: &Study, plane: &Plane) -> String {
    let frame = |epsilon: usize| {
        let (line, under) = plane.stairs(study, epsilon);
        let on = plane.on_frontier(study, epsilon);
        let labels = plane.labels(study, epsilon, on.clone(), true);
        json!({
            "at": plane.positions(study, epsilon),
            "on": on,
            "stairs": line,
            "under": under,
            "labels": label_frames(&labels),
        })
    };
    let frames: Vec<Value> = (0..study.frontier.epsilons.len()).map(frame).collect();
    Value::from(frames).to_string()
}
