//! The plane of clean and robust accuracy, which two figures share.

use super::label::{self, Area, Label, Obstacles};
use super::scale::{Axis, Frame, Px, Scale, Size, path};
use super::{clean, colour_class};
use crate::report::format::{percent, percent_range};
use crate::report::study::Study;
use maud::{Markup, html};
use serde_json::{Value, json};

/// A frame and who lies in it.
pub struct Plane {
    pub frame: Frame,
    /// Positions of the candidates that are drawn, the least important first.
    pub drawn: Vec<usize>,
    /// How many lie too far left to be drawn ...
    pub omitted: usize,
    /// ... and what their clean accuracy stays below.
    pub limit: f64,
    pub size: Size,
}

impl Plane {
    pub fn new(study: &Study, size: Size) -> Plane {
        let (width, height) = size.pick((880.0, 520.0), (400.0, 420.0));
        let margin = size.pick((58.0, 150.0), (46.0, 12.0));
        Plane::within(study, size, (margin.0, width - margin.1), (height - 56.0, 44.0))
    }

    /// `x` and `y` are the pixels that the axes span.
    pub fn within(study: &Study, size: Size, x: (f64, f64), y: (f64, f64)) -> Plane {
        let limit = limit(study);
        let mut drawn: Vec<usize> =
            (0..study.frontier.candidates.len()).filter(|&c| study.candidate(c).clean.value >= limit).collect();
        let omitted = study.frontier.candidates.len() - drawn.len();
        let config_of = study.config_of();
        drawn.sort_by_key(|&c| {
            let config = &study.configs[config_of[c]];
            (config.colour.is_some(), config.last() == Some(c))
        });
        let frame = Frame { x: Scale::new(span(study, &drawn), x), y: Scale::new((0.0, highest(study, &drawn)), y) };
        Plane { frame, drawn, omitted, limit, size }
    }

    pub fn at(&self, study: &Study, epsilon: usize, c: usize) -> (f64, f64) {
        let robust = study.robust(epsilon, c).value;
        (self.frame.x.at(study.candidate(c).clean.value), self.frame.y.at(robust))
    }

    /// Both ends of the bar of robust accuracy, in pixels, lower end first.
    pub fn bar(&self, study: &Study, epsilon: usize, c: usize) -> (f64, f64) {
        let robust = study.robust(epsilon, c);
        (self.frame.y.at(robust.low), self.frame.y.at(robust.high))
    }

    pub fn axes(&self, robust: &str) -> Markup {
        let ticks = self.size.pick((8, 6), (4, 5));
        self.frame.axes(Axis::Percent("Clean accuracy →"), Axis::Percent(robust), ticks)
    }

    /// A mark with its error bars. Bars start from the point itself, so that it can be moved.
    pub fn mark(&self, study: &Study, epsilon: usize, c: usize, config: usize, on: bool) -> Markup {
        let (x, y) = self.at(study, epsilon, c);
        let (low, high) = self.bar(study, epsilon, c);
        let candidate = study.candidate(c);
        let last = study.configs[config].last() == Some(c);
        let (left, right) = (self.frame.x.at(candidate.clean.low), self.frame.x.at(candidate.clean.high));
        let (left, right) = (left.max(self.frame.left()), right.min(self.frame.right()));
        html! {
            g.pt.(colour_class(study.configs[config].colour)).on[on].last[last]
                data-k=(config) data-n=(c) transform={ "translate(" (Px(x)) " " (Px(y)) ")" } {
                line.bar x1=(Px(left - x)) x2=(Px(right - x)) y1="0" y2="0" {}
                line.bar.v x1="0" x2="0" y1=(Px(low - y)) y2=(Px(high - y)) {}
                circle.hit r="14" {}
                circle.dot r=(if last { 5.5 } else { 3.5 }) {}
                title { (tip(study, epsilon, c, config)) }
            }
        }
    }

    /// The staircase through the frontier, and the region that it dominates.
    pub fn stairs(&self, study: &Study, epsilon: usize) -> (String, String) {
        let mut steps: Vec<(f64, f64)> =
            self.on_frontier(study, epsilon).into_iter().map(|c| self.at(study, epsilon, c)).collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (Some(first), Some(last)) = (steps.first().copied(), steps.last().copied()) else {
            return (String::new(), String::new());
        };
        let mut line = vec![(self.frame.left(), first.1)];
        for (i, &(x, y)) in steps.iter().enumerate() {
            line.push((x, y));
            let next = steps.get(i + 1).map_or(self.frame.bottom(), |n| n.1);
            line.push((x, next));
        }
        let corners = [(last.0, self.frame.bottom()), (self.frame.left(), self.frame.bottom())];
        let under = path(line.iter().copied().chain(corners)) + "Z";
        (path(line), under)
    }

    pub fn on_frontier(&self, study: &Study, epsilon: usize) -> Vec<usize> {
        self.drawn.iter().copied().filter(|&c| study.frontier.points[epsilon][c].on_frontier).collect()
    }

    /// The error bars of a mark as areas that labels should not cover.
    fn bars(&self, study: &Study, epsilon: usize, c: usize) -> [Area; 2] {
        let (x, y) = self.at(study, epsilon, c);
        let (low, high) = self.bar(study, epsilon, c);
        let clean = study.candidate(c).clean;
        [(self.frame.x.at(clean.low), y - 1.5, self.frame.x.at(clean.high), y + 1.5), (x - 1.5, high, x + 1.5, low)]
    }

    /// Names beside the points `who`, where there is room; the surest members choose first. `bars`
    /// says whether their error bars are drawn.
    pub fn labels(
        &self,
        study: &Study,
        epsilon: usize,
        mut who: Vec<usize>,
        bars: bool,
    ) -> Vec<(usize, String, Label)> {
        let config_of = study.config_of();
        who.sort_by(|&a, &b| {
            let p = |c: usize| study.frontier.points[epsilon][c].p_on_frontier;
            p(b).total_cmp(&p(a)).then(a.cmp(&b))
        });
        let length = self.size.pick(38, 24);
        let texts: Vec<(f64, f64, String)> = who
            .iter()
            .map(|&c| {
                let (x, y) = self.at(study, epsilon, c);
                (x, y, name(study, c, config_of[c], length))
            })
            .collect();
        let points = texts.iter().map(|t| (t.0, t.1)).collect();
        let bars = if bars { who.iter().flat_map(|&c| self.bars(study, epsilon, c)).collect() } else { Vec::new() };
        let room = self.size.pick(146.0, 10.0);
        let places = label::place(&self.frame, room, &Obstacles { points, bars }, &texts);
        let named = who.into_iter().zip(texts).zip(places);
        named.filter_map(|((c, (_, _, text)), place)| place.map(|p| (c, text, p))).collect()
    }

    /// Positions at every epsilon, for the script: what [`Plane::mark`] and [`Plane::labels`] would draw.
    pub fn positions(&self, study: &Study, epsilon: usize) -> Value {
        let round = |v: f64| (v * 10.0).round() / 10.0;
        let marks: Vec<Value> = self
            .drawn
            .iter()
            .map(|&c| {
                let (x, y) = self.at(study, epsilon, c);
                let (low, high) = self.bar(study, epsilon, c);
                json!([c, round(x), round(y), round(low - y), round(high - y)])
            })
            .collect();
        Value::from(marks)
    }
}

pub fn label_frames(labels: &[(usize, String, Label)]) -> Value {
    let round = |v: f64| (v * 10.0).round() / 10.0;
    labels.iter().map(|(c, _, p)| json!([c, round(p.x), round(p.y), p.anchor])).collect()
}

/// The name of a candidate; its epoch is said where it is not the last of its configuration.
pub fn name(study: &Study, c: usize, config: usize, width: usize) -> String {
    let config = &study.configs[config];
    if config.last() == Some(c) {
        return clean(&config.short(width));
    }
    let epoch = format!(", epoch {}", study.candidate(c).when());
    clean(&config.short(width.saturating_sub(epoch.len()).max(8))) + &epoch
}

/// What a mark says when pointed at.
fn tip(study: &Study, epsilon: usize, c: usize, config: usize) -> String {
    let candidate = study.candidate(c);
    let (robust, clean_) = (study.robust(epsilon, c), candidate.clean);
    let p = study.frontier.points[epsilon][c].p_on_frontier;
    format!(
        "{}\nepoch {}, {} seed(s)\nclean {} ({})\nrobust {} ({})\non the frontier in {} of draws",
        clean(&study.configs[config].label),
        candidate.when(),
        candidate.seeds,
        percent(clean_.value),
        percent_range(clean_.low, clean_.high),
        percent(robust.value),
        percent_range(robust.low, robust.high),
        percent(p)
    )
}

/// Clean accuracy below which points are left out, so that one model that never learned does not
/// squeeze all others into a corner. Members of a frontier always stay.
fn limit(study: &Study) -> f64 {
    let mut values: Vec<f64> = study.frontier.candidates.iter().map(|c| c.clean.value).collect();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return 0.0;
    }
    let quarter = |q: usize| values[(values.len() - 1) * q / 4];
    let fence = quarter(1) - 2.5 * (quarter(3) - quarter(1)) - 0.05;
    let members = (0..values.len()).filter(|&c| study.frontier.points.iter().any(|p| p[c].on_frontier));
    members.map(|c| study.candidate(c).clean.value).fold(fence, f64::min)
}

/// The axis of clean accuracy: all points with some air. Wide intervals may reach beyond it; only
/// points that (nearly) coincide are given the room of their intervals.
fn span(study: &Study, drawn: &[usize]) -> (f64, f64) {
    let clean = || drawn.iter().map(|&c| study.candidate(c).clean);
    let low = clean().map(|e| e.value).fold(1.0, f64::min);
    let high = clean().map(|e| e.value).fold(0.0, f64::max);
    if low > high {
        return (0.0, 1.0);
    }
    if high - low < 0.03 {
        let (low, high) = (clean().map(|e| e.low).fold(low, f64::min), clean().map(|e| e.high).fold(high, f64::max));
        return ((low - 0.01).max(0.0), (high + 0.01).min(1.0));
    }
    let pad = 0.07 * (high - low);
    ((low - pad).max(0.0), (high + pad).min(1.0))
}

/// The upper end of the axis of robust accuracy: the same at all epsilons, a multiple of 10 %.
fn highest(study: &Study, drawn: &[usize]) -> f64 {
    let only_clean = study.reach() == 0.0;
    let grid = study.frontier.epsilons.iter().zip(&study.frontier.points);
    let positive = grid.filter(|(e, _)| only_clean || **e > 0.0);
    let top = positive.flat_map(|(_, points)| drawn.iter().map(|&c| points[c].robust.high)).fold(0.0, f64::max);
    ((top * 10.0 - 1e-9).ceil() / 10.0).clamp(0.1, 1.0)
}
