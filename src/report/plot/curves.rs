//! Figure 2: accuracy over epsilon, by configuration and by attack.

use super::label::spread;
use super::scale::{Axis, Frame, Px, Scale, Size, path};
use super::{clean, colour_class};
use crate::frontier::Estimate;
use crate::report::study::Study;
use maud::{Markup, html};

/// A curve to draw: epsilon and the estimate there.
type Line = Vec<(f64, Estimate)>;

/// Mean over seeds for the worst case over attacks, at the last epoch of each configuration.
pub fn curves(study: &Study, size: Size) -> Markup {
    let (width, height) = size.pick((880.0, 480.0), (400.0, 380.0));
    let right = size.pick(width - 272.0, width - 14.0);
    let frame = frame(study, (size.pick(58.0, 46.0), right), (height - 56.0, 44.0));
    html! {
        svg.plot.curves viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="Accuracy over epsilon" {
            (frame.axes(Axis::Epsilon("Attack strength ε →"), Axis::Percent("↑ Accuracy"), size.pick((8, 6), (5, 5))))
            (lines(study, &frame))
            @if size == Size::Wide { (names(study, &frame, 38)) }
            line.now x1=(Px(frame.x.at(study.results.epsilons.get(study.focus).copied().unwrap_or(0.0))))
                x2=(Px(frame.x.at(study.results.epsilons.get(study.focus).copied().unwrap_or(0.0))))
                y1=(Px(frame.top())) y2=(Px(frame.bottom()))
                data-x=(positions(study, &frame)) {}
        }
    }
}

/// Where the marker of the chosen epsilon stands, for the script.
fn positions(study: &Study, frame: &Frame) -> String {
    let places = study.results.epsilons.iter().map(|&e| format!("{:.1}", frame.x.at(e)));
    places.collect::<Vec<_>>().join(" ")
}

pub fn frame(study: &Study, x: (f64, f64), y: (f64, f64)) -> Frame {
    Frame { x: Scale::new((0.0, study.reach()), x), y: Scale::new((0.0, 1.0), y) }
}

/// Grey lines first, then bands, then coloured lines.
pub fn lines(study: &Study, frame: &Frame) -> Markup {
    let drawn: Vec<(usize, Option<usize>, Line)> =
        study.plotted().map(|(k, config, c)| (k, config.colour, line(study, c))).collect();
    // Many bands on top of each other say nothing; the page brings out the one that is pointed at.
    let crowd = drawn.iter().filter(|d| d.1.is_some()).count() > 5;
    html! {
        @for (k, _, line) in drawn.iter().filter(|d| d.1.is_none()) {
            path.line.kx data-k=(k) d=(middle(frame, line)) { title { (clean(&study.configs[*k].label)) } }
        }
        @for (k, colour, line) in drawn.iter().filter(|d| d.1.is_some()) {
            path.band.faint[crowd].(colour_class(*colour)) data-k=(k) d=(band(frame, line)) {}
        }
        @for (k, colour, line) in drawn.iter().filter(|d| d.1.is_some()) {
            g.curve.(colour_class(*colour)) data-k=(k) {
                path.line d=(middle(frame, line)) {}
                @if line.len() <= 32 {
                    @for (e, estimate) in line {
                        circle.knot cx=(Px(frame.x.at(*e))) cy=(Px(frame.y.at(estimate.value))) r="2.2" {}
                    }
                }
                title { (clean(&study.configs[*k].label)) }
            }
        }
    }
}

/// Names to the right, the most robust on top; each is tied to the end of its curve.
pub fn names(study: &Study, frame: &Frame, length: usize) -> Markup {
    let mut named: Vec<(usize, usize)> =
        study.plotted().filter(|(_, config, _)| config.colour.is_some()).map(|(k, _, c)| (k, c)).collect();
    let area = |c: usize| study.area(c).unwrap_or(study.candidate(c).clean).value;
    named.sort_by(|a, b| area(b.1).total_cmp(&area(a.1)).then(a.cmp(b)));
    let end = |c: usize| study.candidate(c).accuracy.last().copied().unwrap_or(0.0);
    // In order of robustness, not of the ends: where all curves have come down, ends say nothing.
    let mut wishes: Vec<f64> = named.iter().map(|&(_, c)| frame.y.at(end(c))).collect();
    for i in 1..wishes.len() {
        wishes[i] = wishes[i].max(wishes[i - 1]);
    }
    let places = spread(&wishes, 22.0, frame.top() + 8.0, frame.bottom());
    html! {
        g.labels {
            @for ((k, c), place) in named.iter().zip(places) {
                @let config = &study.configs[*k];
                g.(colour_class(config.colour)) data-k=(k) {
                    path.tie d=(path([(frame.right() + 2.0, frame.y.at(end(*c))), (frame.right() + 18.0, place), (frame.right() + 26.0, place)])) {}
                    text.label x=(Px(frame.right() + 31.0)) y=(Px(place + 4.0)) { (clean(&config.short(length))) }
                }
            }
        }
    }
}

/// Clean accuracy, then every positive epsilon of the grid.
fn line(study: &Study, c: usize) -> Line {
    let clean = (0.0, study.candidate(c).clean);
    let epsilons = study.frontier.epsilons.iter().enumerate().filter(|(_, e)| **e > 0.0);
    std::iter::once(clean).chain(epsilons.map(|(i, &e)| (e, study.robust(i, c)))).collect()
}

fn middle(frame: &Frame, line: &Line) -> String {
    path(line.iter().map(|(e, v)| (frame.x.at(*e), frame.y.at(v.value))))
}

fn band(frame: &Frame, line: &Line) -> String {
    let upper = line.iter().map(|(e, v)| (frame.x.at(*e), frame.y.at(v.high)));
    let lower = line.iter().rev().map(|(e, v)| (frame.x.at(*e), frame.y.at(v.low)));
    path(upper.chain(lower)) + "Z"
}

/// One small plot per coloured configuration: each attack alone, and the worst case over all.
/// Empty where there is one attack only.
pub fn attacks(study: &Study) -> Vec<(usize, Markup)> {
    if study.results.attacks.len() < 2 {
        return Vec::new();
    }
    let coloured = study.plotted().filter(|(_, config, _)| config.colour.is_some());
    coloured.map(|(k, config, c)| (k, panel(study, config.colour, c))).collect()
}

fn panel(study: &Study, colour: Option<usize>, c: usize) -> Markup {
    let frame = frame(study, (40.0, 252.0), (150.0, 14.0));
    html! {
        svg.plot.small viewBox="0 0 260 178" role="img" aria-label="Accuracy over epsilon by attack" {
            (small_axes(&frame))
            @for (a, attack) in study.results.attacks.iter().enumerate() {
                path.attack stroke-dasharray=(DASHES[a % DASHES.len()])
                    d=(mean_path(study, &frame, c, Some(a))) { title { (clean(attack)) } }
            }
            // On top: where one attack alone is the worst case, its line is the thick one.
            g.curve.(colour_class(colour)) {
                path.line d=(mean_path(study, &frame, c, None)) { title { "worst case over all attacks" } }
            }
        }
    }
}

/// Three lines across and some ticks.
pub(super) fn small_axes(frame: &Frame) -> Markup {
    html! {
        g.axes {
            @for v in [0.0, 0.5, 1.0] {
                line.base[v == 0.0].grid[v != 0.0] x1=(Px(frame.left())) x2=(Px(frame.right()))
                    y1=(Px(frame.y.at(v))) y2=(Px(frame.y.at(v))) {}
                text.tick x=(Px(frame.left() - 6.0)) y=(Px(frame.y.at(v) + 4.0)) text-anchor="end" { (format!("{:.0}%", v * 100.0)) }
            }
            @for v in frame.x.ticks(3) {
                text.tick x=(Px(frame.x.at(v))) y=(Px(frame.bottom() + 18.0)) text-anchor="middle" {
                    (crate::report::format::significant(v, 3))
                }
            }
        }
    }
}

/// How the lines of attacks differ, besides their height.
pub const DASHES: [&str; 6] = ["1 3.5", "5 3", "10 3", "7 2 1 2", "3 2", "12 2 2 2"];

/// The mean over the trials of a candidate, each on the examples known for it.
pub(super) fn mean_path(study: &Study, frame: &Frame, c: usize, attack: Option<usize>) -> String {
    let candidate = study.candidate(c);
    let mine = study.curves.iter().filter(|curve| {
        let trial = &study.results.trials[curve.trial];
        curve.attack == attack
            && trial.config == candidate.config
            && trial.checkpoints[curve.checkpoint].epoch == candidate.epoch
    });
    let mine: Vec<_> = mine.collect();
    let mean = |e: usize| mine.iter().map(|curve| curve.points[e].accuracy()).sum::<f64>() / mine.len() as f64;
    let start = (frame.x.at(0.0), frame.y.at(candidate.clean.value));
    let rest = study.results.epsilons.iter().enumerate().filter(|(_, e)| **e > 0.0);
    if mine.is_empty() {
        return String::new();
    }
    path(std::iter::once(start).chain(rest.map(|(i, &e)| (frame.x.at(e), frame.y.at(mean(i))))))
}
