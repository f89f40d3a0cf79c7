//! The plots as files of their own: a white ground, a fixed palette, nothing to load.

use super::curves;
use super::frontier::texts;
use super::plane::Plane;
use super::regions::maps;
use super::scale::{Px, Size};
use super::tradeoff::{epochs, named, trails};
use super::trajectory::{PANEL, Trajectories};
use super::{clean, colour_class};
use crate::report::format::{counted, norm, short_epsilon};
use crate::report::regions;
use crate::report::study::Study;
use maud::{Markup, html};

/// `(name, content)` of every SVG file.
pub fn files(study: &Study) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("frontier.svg", frontier(study)),
        ("curves.svg", curve_sheet(study)),
        ("tradeoff.svg", tradeoff_sheet(study)),
    ];
    files.extend(Trajectories::new(study).map(|all| ("trajectory.svg", trajectory_sheet(study, &all))));
    files
}

/// All maps of class regions, one figure under the other.
pub fn regions_sheet(study: &Study) -> String {
    let figures = regions::figures(study);
    let (mut height, mut width) = (52.0, 480.0_f64);
    let mut parts = Vec::new();
    for chosen in &figures {
        let (markup, wide, below) = maps(chosen, height + 32.0);
        parts.push((height, regions::caption(chosen), markup));
        (height, width) = (below + 22.0, width.max(wide));
    }
    let content = html! {
        @if parts.is_empty() { text.label x="24" y="72" { "Nothing is mapped yet." } }
        @for (y, caption, markup) in parts {
            @for (k, line) in caption.iter().enumerate() {
                text.tick x="24" y=(Px(y + 16.0 * k as f64)) { (clean(line)) }
            }
            (markup)
        }
    };
    let title = format!("{}: class regions", study.results.sweep);
    let foot = "Colour: class that is named; pale: unsure. Rings: images with their true class, dashed where misnamed.";
    sheet(width.max(720.0), height + 40.0, &title, foot, content)
}

/// Rules for the marks, shared with the page, which sets the colours as properties.
pub const FIGURE_CSS: &str = include_str!("figure.css");

/// Colours on white: after Okabe and Ito (2008), without their yellow, which white swallows.
const PAPER: [(&str, &str); 16] = [
    ("--ink", "#1d1d1f"),
    ("--soft", "#55585f"),
    ("--faint", "#b9bcc3"),
    ("--hair", "#e6e7ea"),
    ("--ground", "#ffffff"),
    ("--accent", "#1d1d1f"),
    ("--wash", "#f3f4f6"),
    ("--k0", "#0072b2"),
    ("--k1", "#d55e00"),
    ("--k2", "#009e73"),
    ("--k3", "#cc79a7"),
    ("--k4", "#e69f00"),
    ("--k5", "#56b4e9"),
    ("--k6", "#882255"),
    ("--k7", "#4d4d4d"),
    ("--kx", "#b9bcc3"),
];

/// A whole file around `content`.
fn sheet(width: f64, height: f64, title: &str, foot: &str, content: Markup) -> String {
    let mut style = FIGURE_CSS.to_owned();
    for (name, value) in PAPER {
        style = style.replace(&format!("var({name})"), value);
    }
    let markup = html! {
        svg.plot.paper xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (Px(width)) " " (Px(height)) }
            width=(Px(width)) height=(Px(height)) font-family="Inter, Helvetica, Arial, sans-serif" font-size="12" {
            style { (maud::PreEscaped(style)) }
            rect width=(Px(width)) height=(Px(height)) fill="#ffffff" {}
            text.heading x="24" y="32" { (clean(title)) }
            (content)
            text.foot x="24" y=(Px(height - 16.0)) { (clean(foot)) }
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", markup.into_string())
}

/// What every figure must say: n and the interval.
pub fn foot(study: &Study, what: &str) -> String {
    let seeds = study.frontier.candidates.iter().map(|c| c.seeds);
    let (least, most) = (seeds.clone().min().unwrap_or(0), seeds.max().unwrap_or(0));
    let seeds = if least == most { counted(most, "seed") } else { format!("{least} to {most} seeds") };
    let over = if most > 1 { "seeds and examples" } else { "examples (one seed says nothing about others)" };
    format!(
        "n = {} test examples, {seeds}. {what}: 95\u{202f}% bootstrap over {over}.",
        crate::report::format::grouped(study.frontier.examples as u64)
    )
}

/// One row of plots per configuration.
fn trajectory_sheet(study: &Study, all: &Trajectories<'_>) -> String {
    let (wide, tall) = (PANEL.0 + 20.0, PANEL.1 + 56.0);
    let across = wide * all.kinds.len() as f64;
    let keys = 20.0 * all.kinds.len() as f64;
    let height = 70.0 + tall * all.rows.len() as f64 + keys + 44.0;
    let content = html! {
        @for (r, row) in all.rows.iter().enumerate() {
            @let top = 62.0 + tall * r as f64;
            text.label x="24" y=(Px(top)) { (clean(&study.configs[row.config].short(90))) }
            @for (c, kind) in all.kinds.iter().enumerate() {
                g transform={ "translate(" (Px(24.0 + wide * c as f64)) " " (Px(top + 20.0)) ")" } {
                    text.title x="0" y="4" { (kind.title()) }
                    (all.panel(row, *kind))
                }
            }
        }
        @for (i, kind) in all.kinds.iter().enumerate() {
            @let y = height - keys - 34.0 + 20.0 * i as f64;
            text.title x="24" y=(Px(y)) { (kind.title()) ":" }
            @for (j, (name, dash)) in all.key(*kind).into_iter().enumerate() {
                @let x = 250.0 + 170.0 * j as f64;
                path.attack d={ "M" (Px(x)) " " (Px(y - 4.0)) "L" (Px(x + 34.0)) " " (Px(y - 4.0)) } stroke-dasharray=[dash] {}
                text.tick x=(Px(x + 42.0)) y=(Px(y)) { (clean(&name)) }
            }
        }
    };
    let foot =
        "Over the epochs of training. Thin lines are single networks, one per seed, the thick one is their mean.";
    sheet(across + 40.0, height, &study.results.sweep, foot, content)
}

/// Up to six epsilons side by side.
fn frontier(study: &Study) -> String {
    let chosen = chosen(study, 6);
    let columns = chosen.len().clamp(1, 3);
    let rows = chosen.len().div_ceil(columns).max(1);
    let (wide, tall) = (300.0, 270.0);
    let width = 40.0 + wide * columns.max(2) as f64;
    let below = 78.0 + tall * rows as f64;
    let legend = legend(study, below, width);
    let height = below + legend.1 + 36.0;
    let config_of = study.config_of();
    let content = html! {
        @if study.frontier.candidates.is_empty() { (empty()) }
        @else {
            @for (i, &e) in chosen.iter().enumerate() {
                @let (left, top) = (24.0 + wide * (i % columns) as f64, 60.0 + tall * (i / columns) as f64);
                @let plane = Plane::within(study, Size::Slim, (left + 40.0, left + wide - 16.0), (top + tall - 56.0, top + 40.0));
                @let (line, under) = plane.stairs(study, e);
                text.panel x=(Px(left)) y=(Px(top + 8.0)) { "ε = " (short_epsilon(study.frontier.epsilons[e])) }
                path.under d=(under) {}
                (plane.axes("↑ Robust accuracy"))
                path.stairs d=(line) {}
                @for &c in &plane.drawn {
                    (plane.mark(study, e, c, config_of[c], study.frontier.points[e][c].on_frontier))
                }
            }
            (legend.0)
        }
    };
    let title = format!("{}: clean and robust accuracy ({})", study.results.sweep, norm(&study.results.norm));
    sheet(width, height, &title, &foot(study, "Bars"), content)
}

fn curve_sheet(study: &Study) -> String {
    let frame = curves::frame(study, (60.0, 560.0), (400.0, 90.0));
    let content = html! {
        @if study.frontier.candidates.is_empty() { (empty()) }
        @else {
            (frame.axes(super::scale::Axis::Epsilon("Attack strength ε →"), super::scale::Axis::Percent("↑ Accuracy"), (7, 6)))
            (curves::lines(study, &frame))
            (curves::names(study, &frame, 38))
        }
    };
    let title = format!("{}: accuracy under attack ({}, worst case)", study.results.sweep, norm(&study.results.norm));
    sheet(880.0, 490.0, &title, &foot(study, "Bands"), content)
}

fn tradeoff_sheet(study: &Study) -> String {
    let plane = Plane::within(study, Size::Wide, (60.0, 640.0), (440.0, 90.0));
    let (e, config_of) = (study.focus, study.config_of());
    let content = html! {
        @if study.frontier.candidates.is_empty() { (empty()) }
        @else {
            (plane.axes("↑ Robust accuracy"))
            (trails(study, &plane, e))
            g.trails { @for &c in &plane.drawn { (plane.mark(study, e, c, config_of[c], false)) } }
            (epochs(study, &plane, e))
            (texts(study, &plane.labels(study, e, named(study, &plane), false)))
        }
    };
    let epsilon = study.frontier.epsilons.get(e).map(|&e| short_epsilon(e)).unwrap_or_default();
    let title = format!("{}: the way through training at ε = {epsilon}", study.results.sweep);
    let foot = foot(study, "Intervals (in frontier.csv)") + " Small numbers are epochs.";
    sheet(840.0, 520.0, &title, &foot, content)
}

fn empty() -> Markup {
    html! { text.label x="24" y="72" { "No checkpoint is fully evaluated yet." } }
}

/// Up to `most` positive epsilons, evenly chosen, the first and the last among them.
fn chosen(study: &Study, most: usize) -> Vec<usize> {
    let positive: Vec<usize> =
        (0..study.frontier.epsilons.len()).filter(|&e| study.frontier.epsilons[e] > 0.0).collect();
    if positive.len() <= most {
        return positive;
    }
    (0..most).map(|i| positive[(i * (positive.len() - 1) + (most - 1) / 2) / (most - 1)]).collect()
}

/// Names of the coloured configurations in two columns, and how tall that is.
fn legend(study: &Study, top: f64, width: f64) -> (Markup, f64) {
    let named: Vec<_> = study.plotted().filter(|(_, config, _)| config.colour.is_some()).collect();
    let (column, grey) = ((width - 48.0) / 2.0, study.plotted().count() - named.len());
    let at = |i: usize| (24.0 + column * (i % 2) as f64, top + 20.0 * (i / 2) as f64);
    let others = format!("{} in grey", counted(grey, "other configuration"));
    let markup = html! {
        @for (i, (_, config, _)) in named.iter().enumerate() {
            @let (x, y) = at(i);
            g.pt.on.(colour_class(config.colour)) { circle.dot cx=(Px(x + 6.0)) cy=(Px(y - 4.0)) r="5" {} }
            text.label x=(Px(x + 18.0)) y=(Px(y)) { (clean(&config.short((column / 6.8) as usize))) }
        }
        @if grey > 0 {
            @let (x, y) = at(named.len());
            text.label x=(Px(x + 18.0)) y=(Px(y)) { (others) }
        }
    };
    (markup, 20.0 * (named.len() + usize::from(grey > 0)).div_ceil(2) as f64)
}
