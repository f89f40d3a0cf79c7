//! Figure 3: how each configuration moves through the plane as training goes on.

use super::colour_class;
use super::frontier::texts;
use super::plane::{Plane, label_frames};
use super::scale::{Px, Size, path};
use crate::report::study::Study;
use maud::{Markup, html};
use serde_json::{Value, json};

/// One trajectory per configuration: its epochs in order, connected; the last one is filled and named.
pub fn tradeoff(study: &Study, size: Size) -> Markup {
    let plane = Plane::new(study, size);
    let epsilon = study.focus;
    let config_of = study.config_of();
    let (width, height) = size.pick((880, 520), (400, 420));
    html! {
        svg.plot.plane.trails viewBox={ "0 0 " (width) " " (height) } role="img"
            aria-label="Clean and robust accuracy over epochs" data-frames=(frames(study, &plane)) {
            (plane.axes("↑ Robust accuracy"))
            (trails(study, &plane, epsilon))
            @for &c in &plane.drawn {
                (plane.mark(study, epsilon, c, config_of[c], false))
            }
            (texts(study, &plane.labels(study, epsilon, named(study, &plane), false)))
        }
    }
}

/// The lines that connect the epochs of each configuration, grey ones first.
pub fn trails(study: &Study, plane: &Plane, epsilon: usize) -> Markup {
    let mut order: Vec<usize> = (0..study.configs.len()).filter(|&k| study.configs[k].candidates.len() > 1).collect();
    order.sort_by_key(|&k| study.configs[k].colour.is_some());
    html! {
        @for k in order {
            path.trail.(colour_class(study.configs[k].colour)) data-k=(k) d=(trail(study, plane, epsilon, k)) {}
        }
    }
}

fn trail(study: &Study, plane: &Plane, epsilon: usize, k: usize) -> String {
    let drawn = study.configs[k].candidates.iter().filter(|c| plane.drawn.contains(c));
    path(drawn.map(|&c| plane.at(study, epsilon, c)))
}

/// The last candidates of the coloured configurations; on a small screen the legend names them.
pub fn named(study: &Study, plane: &Plane) -> Vec<usize> {
    if plane.size == Size::Slim {
        return Vec::new();
    }
    let last = study.plotted().filter(|(_, config, _)| config.colour.is_some()).map(|(_, _, c)| c);
    last.filter(|c| plane.drawn.contains(c)).collect()
}

/// Small numbers beside the points of the trajectory that spans the largest distance.
pub fn epochs(study: &Study, plane: &Plane, epsilon: usize) -> Markup {
    let span = |k: usize| {
        let ends = (study.configs[k].candidates.first(), study.configs[k].last());
        let (Some(&a), Some(b)) = ends else { return 0.0 };
        let (a, b) = (plane.at(study, epsilon, a), plane.at(study, epsilon, b));
        (a.0 - b.0).hypot(a.1 - b.1)
    };
    let coloured = (0..study.configs.len()).filter(|&k| study.configs[k].colour.is_some());
    let longest = coloured.max_by(|&a, &b| span(a).total_cmp(&span(b)));
    let points: Vec<usize> = longest.map_or(Vec::new(), |k| study.configs[k].candidates.clone());
    html! {
        @for c in points {
            @let (x, y) = plane.at(study, epsilon, c);
            text.tick x=(Px(x)) y=(Px(y + 17.0)) text-anchor="middle" { (study.candidate(c).when()) }
        }
    }
}

fn frames(study: &Study, plane: &Plane) -> String {
    let frame = |epsilon: usize| {
        let trails: Vec<Value> = (0..study.configs.len())
            .filter(|&k| study.configs[k].candidates.len() > 1)
            .map(|k| json!([k, trail(study, plane, epsilon, k)]))
            .collect();
        let labels = plane.labels(study, epsilon, named(study, plane), false);
        json!({ "at": plane.positions(study, epsilon), "trails": trails, "labels": label_frames(&labels) })
    };
    let frames: Vec<Value> = (0..study.frontier.epsilons.len()).map(frame).collect();
    Value::from(frames).to_string()
}
