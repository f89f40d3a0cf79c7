//! From data to pixels: scales, round ticks and the frame of a plot.

use crate::report::format::{percent_tick, short_epsilon, significant};
use maud::{Markup, Render, html};
use std::fmt::Write as _;

/// A coordinate, spelled with one decimal.
#[derive(Clone, Copy)]
pub struct Px(pub f64);

impl Render for Px {
    fn render_to(&self, buffer: &mut String) {
        let rounded = (self.0 * 10.0).round() / 10.0;
        // Writing to a string cannot fail. Adding 0 turns -0 into 0.
        let _ = write!(buffer, "{}", rounded + 0.0);
    }
}

/// A linear map from data to pixels.
#[derive(Clone, Copy)]
pub struct Scale {
    pub from: (f64, f64),
    pub to: (f64, f64),
}

impl Scale {
    pub fn new(from: (f64, f64), to: (f64, f64)) -> Scale {
        // An empty domain would divide by zero.
        let from = if from.1 > from.0 { from } else { (from.0 - 0.5, from.0 + 0.5) };
        Scale { from, to }
    }

    pub fn at(&self, value: f64) -> f64 {
        let part = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + part * (self.to.1 - self.to.0)
    }

    /// About `count` round values inside the domain.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let step = round_step((self.from.1 - self.from.0) / count.max(1) as f64);
        let first = (self.from.0 / step - 1e-9).ceil() as i64;
        let last = (self.from.1 / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// The round number (1, 2 or 5 times a power of ten) next to `rough`.
pub fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let part = rough / power;
    power
        * if part < 1.5 {
            1.0
        } else if part < 3.5 {
            2.0
        } else if part < 7.5 {
            5.0
        } else {
            10.0
        }
}

/// What a figure is drawn for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The page on a screen of a desk.
    Wide,
    /// The page on a telephone.
    Slim,
}

impl Size {
    pub fn pick<T>(self, wide: T, slim: T) -> T {
        if self == Size::Wide { wide } else { slim }
    }
}

/// The inner rectangle of a plot and its scales. `y` grows upwards.
#[derive(Clone, Copy)]
pub struct Frame {
    pub x: Scale,
    pub y: Scale,
}

/// What stands at an axis.
#[derive(Clone, Copy)]
pub enum Axis<'a> {
    Percent(&'a str),
    Epsilon(&'a str),
    Number(&'a str),
}

impl Axis<'_> {
    fn title(&self) -> &str {
        match self {
            Axis::Percent(title) | Axis::Epsilon(title) | Axis::Number(title) => title,
        }
    }

    fn spell(&self, value: f64) -> String {
        match self {
            Axis::Percent(_) => percent_tick(value),
            Axis::Number(_) => significant(value, 4),
            Axis::Epsilon(_) => short_epsilon(significant(value, 6).parse().unwrap_or(value)),
        }
    }
}

impl Frame {
    pub fn left(&self) -> f64 {
        self.x.to.0
    }
    pub fn right(&self) -> f64 {
        self.x.to.1
    }
    pub fn top(&self) -> f64 {
        self.y.to.1
    }
    pub fn bottom(&self) -> f64 {
        self.y.to.0
    }

    /// Grid lines, tick labels and titles: what y is stands above its axis, where it reads without
    /// turning the head.
    pub fn axes(&self, x: Axis<'_>, y: Axis<'_>, ticks: (usize, usize)) -> Markup {
        html! {
            g.axes {
                @for v in self.y.ticks(ticks.1) {
                    line.base[v == 0.0].grid[v != 0.0] x1=(Px(self.left())) x2=(Px(self.right()))
                        y1=(Px(self.y.at(v))) y2=(Px(self.y.at(v))) {}
                    text.tick x=(Px(self.left() - 8.0)) y=(Px(self.y.at(v) + 4.0)) text-anchor="end" { (y.spell(v)) }
                }
                @for v in self.x.ticks(ticks.0) {
                    line.mark x1=(Px(self.x.at(v))) x2=(Px(self.x.at(v))) y1=(Px(self.bottom())) y2=(Px(self.bottom() + 5.0)) {}
                    text.tick x=(Px(self.x.at(v))) y=(Px(self.bottom() + 20.0)) text-anchor="middle" { (x.spell(v)) }
                }
                text.title x=(Px(self.left() - 32.0)) y=(Px(self.top() - 16.0)) { (y.title()) }
                text.title x=(Px(self.right())) y=(Px(self.bottom() + 40.0)) text-anchor="end" { (x.title()) }
            }
        }
    }
}

/// `M x y L x y ...` through the given points.
pub fn path(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (i, (x, y)) in points.into_iter().enumerate() {
        text.push(if i == 0 { 'M' } else { 'L' });
        Px(x).render_to(&mut text);
        text.push(' ');
        Px(y).render_to(&mut text);
    }
    text
}

/// Characters that XML cannot hold are left out; a page and a figure must open whatever a name is.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::new((0.0, 0.3), (0.0, 100.0));
        let ticks: Vec<String> = scale.ticks(6).iter().map(|t| significant(*t, 4)).collect();
        assert_eq!(ticks, ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]);
        assert_eq!(Scale::new((0.93, 0.99), (0.0, 1.0)).ticks(3).len(), 3);
        assert_eq!(scale.at(0.15), 50.0);
    }

    #[test]
    fn an_empty_domain_is_no_disaster() {
        let scale = Scale::new((0.4, 0.4), (0.0, 100.0));
        assert_eq!(scale.at(0.4), 50.0);
        assert!(!scale.ticks(4).is_empty());
    }

    #[test]
    fn paths_are_short() {
        assert_eq!(path([(1.04, 2.0), (-0.01, 3.16)]), "M1 2L0 3.2");
    }
}
