//! Trajectories: accuracies, spreads and distances over the epochs of training, one row of small
//! plots per configuration. Thin lines are single networks, the thick one their mean.

use super::colour_class;
use super::curves::DASHES;
use super::scale::{Frame, Px, Scale, path};
use crate::measure::uncertainty::Means;
use crate::report::format::{short_epsilon, significant};
use crate::report::study::Study;
use crate::report::trajectory::{Stop, stops};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Robust accuracy is drawn at so many epsilons.
const EPSILONS: usize = 3;
/// Pixels of one small plot.
pub const PANEL: (f64, f64) = (260.0, 190.0);

/// What is drawn over the epochs: one small plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Accuracy,
    Momentum,
    Product,
    Length,
}

impl Kind {
    pub fn title(self) -> &'static str {
        match self {
            Kind::Accuracy => "Accuracy",
            Kind::Momentum => "dp, spread of the relative slope",
            Kind::Product => "Product, bound and 1/2",
            Kind::Length => "dx, and where half are broken",
        }
    }
}

type Value = Box<dyn Fn(&Stop) -> Option<f64>>;

/// A line: its name, whether it is the thick one, and its value at a checkpoint.
struct Series {
    name: String,
    dash: Option<usize>,
    value: Value,
}

fn line(name: &str, dash: Option<usize>, value: impl Fn(&Stop) -> Option<f64> + 'static) -> Series {
    Series { name: name.into(), dash, value: Box::new(value) }
}

/// The runs of one configuration, and its position among the study's.
pub struct Trajectory {
    pub config: usize,
    /// One per trial, each by epoch.
    runs: Vec<Vec<Stop>>,
}

/// All that the rows of plots share.
pub struct Trajectories<'a> {
    study: &'a Study<'a>,
    pub rows: Vec<Trajectory>,
    pub kinds: Vec<Kind>,
    epochs: Vec<u32>,
    epsilons: Vec<usize>,
    /// Position of the measure that is drawn.
    measure: Option<usize>,
}

impl<'a> Trajectories<'a> {
    /// The coloured configurations with two epochs or more; `None` where there is none.
    pub fn new(study: &'a Study<'a>) -> Option<Trajectories<'a>> {
        let mut rows = Vec::new();
        for (k, config) in study.configs.iter().enumerate().filter(|(_, config)| config.colour.is_some()) {
            let trials = study.order.iter().map(|&t| &study.results.trials[t]);
            let mine = trials.filter(|trial| trial.config == config.config && !trial.checkpoints.is_empty());
            let runs: Vec<Vec<Stop>> = mine.map(|trial| stops(study, trial)).collect();
            if runs.iter().any(|run| run.len() > 1) {
                rows.push(Trajectory { config: k, runs });
            }
        }
        let all = || rows.iter().flat_map(|row| row.runs.iter().flatten());
        let epochs: BTreeSet<u32> = all().map(|stop| stop.epoch).collect();
        let measure = all().flat_map(|stop| stop.measured.iter().map(|(at, _)| *at)).min();
        let kinds = match measure {
            Some(_) => vec![Kind::Accuracy, Kind::Momentum, Kind::Product, Kind::Length],
            None => vec![Kind::Accuracy, Kind::Length],
        };
        let epsilons = chosen(study);
        (!rows.is_empty()).then(|| Trajectories {
            study,
            kinds,
            epochs: epochs.into_iter().collect(),
            epsilons,
            measure,
            rows,
        })
    }

    /// The name of the measure that is drawn.
    pub fn measure(&self) -> Option<&'a str> {
        self.measure.map(|at| self.study.results.measures[at].name.as_str())
    }

    pub fn epochs(&self) -> &[u32] {
        &self.epochs
    }

    /// Names of the lines of a kind, with their dashes.
    pub fn key(&self, kind: Kind) -> Vec<(String, Option<&'static str>)> {
        self.series(kind).into_iter().map(|series| (series.name, series.dash.map(dash))).collect()
    }

    fn series(&self, kind: Kind) -> Vec<Series> {
        let measure = self.measure;
        let measured = move |name, dash, of: fn(&Means) -> f64| {
            let found = move |stop: &Stop| stop.measured.iter().find(|(at, _)| Some(*at) == measure)?.1;
            line(name, dash, move |stop| found(stop).map(|means| of(&means)))
        };
        match kind {
            Kind::Accuracy => {
                let mut series = vec![line("clean", None, |stop| stop.summary.clean.map(|c| c.accuracy()))];
                for (dash, &at) in self.epsilons.iter().enumerate() {
                    let epsilon = short_epsilon(self.study.results.positive_epsilons()[at]);
                    let value = move |stop: &Stop| stop.robust.get(at).copied();
                    series.push(line(&format!("robust at {epsilon}"), Some(dash), value));
                }
                series
            }
            Kind::Momentum => vec![measured("dp", None, |m| m.dp.value)],
            Kind::Product => {
                vec![measured("product", None, |m| m.product.value), measured("bound |C|", Some(1), |m| m.bound.value)]
            }
            Kind::Length => {
                let half = |stop: &Stop| stop.summary.median_break.filter(|value| value.is_finite());
                let mut series = vec![line("half broken from", Some(1), half)];
                if self.measure.is_some() {
                    series.insert(0, measured("dx", None, |m| m.dx.value));
                }
                series
            }
        }
    }

    /// Scales that all configurations share, so that rows can be compared.
    fn frame(&self, kind: Kind) -> Frame {
        let series = self.series(kind);
        let stops = || self.rows.iter().flat_map(|row| row.runs.iter().flatten());
        let values = || series.iter().flat_map(|s| stops().filter_map(|stop| (s.value)(stop)));
        let largest = values().fold(0.0, f64::max);
        let least = values().filter(|value| *value > 0.0).fold(0.5, f64::min);
        let y = match kind {
            Kind::Accuracy => (0.0, 1.0),
            // Products and bounds lie decades below 1/2 where a loss is nearly constant.
            Kind::Product => (least.log10().floor(), largest.log10().ceil().max(0.0)),
            _ if largest > 0.0 => (0.0, 1.04 * largest),
            _ => (0.0, 1.0),
        };
        let ends = (self.place(self.epochs[0]), self.place(self.epochs[self.epochs.len() - 1]));
        Frame { x: Scale::new(ends, (44.0, PANEL.0 - 10.0)), y: Scale::new(y, (PANEL.1 - 28.0, 14.0)) }
    }

    /// Where an epoch stands: by ratios where they span much.
    fn place(&self, epoch: u32) -> f64 {
        let (first, last) = (self.epochs[0], self.epochs[self.epochs.len() - 1]);
        if first >= 1 && last >= 8 * first { f64::from(epoch.max(1)).ln() } else { epoch.into() }
    }

    /// One small plot: the content of an SVG of the size [`PANEL`].
    pub fn panel(&self, row: &Trajectory, kind: Kind) -> Markup {
        let frame = self.frame(kind);
        let colour = colour_class(self.study.configs[row.config].colour);
        html! {
            (self.axes(&frame, kind))
            @for series in self.series(kind) {
                @for run in row.runs.iter().filter(|_| row.runs.len() > 1) {
                    g.run.(colour) { path.line stroke-opacity="0.3" stroke-dasharray=[series.dash.map(dash)] d=(self.line(&frame, kind, run, &series)) {} }
                }
                g.curve.(colour) {
                    path.line stroke-dasharray=[series.dash.map(dash)] d=(self.mean(&frame, kind, row, &series)) { title { (series.name) } }
                }
            }
        }
    }

    fn axes(&self, frame: &Frame, kind: Kind) -> Markup {
        let spell = |v: f64| match kind {
            Kind::Accuracy => format!("{:.0}%", 100.0 * v),
            Kind::Product if v < -2.5 => format!("1e{v:.0}"),
            Kind::Product => significant(10f64.powf(v), 2),
            _ => significant(v, 3),
        };
        html! {
            g.axes {
                @for v in frame.y.ticks(4).into_iter().filter(|v| kind != Kind::Product || v.fract() == 0.0) {
                    line.base[v == 0.0].grid[v != 0.0] x1=(Px(frame.left())) x2=(Px(frame.right())) y1=(Px(frame.y.at(v))) y2=(Px(frame.y.at(v))) {}
                    text.tick x=(Px(frame.left() - 6.0)) y=(Px(frame.y.at(v) + 4.0)) text-anchor="end" {
                        (spell(v))
                    }
                }
                @for epoch in self.ticks(frame) {
                    text.tick x=(Px(frame.x.at(self.place(epoch)))) y=(Px(frame.bottom() + 18.0)) text-anchor="middle" { (epoch) }
                }
            }
            @if kind == Kind::Product {
                line.now x1=(Px(frame.left())) x2=(Px(frame.right())) y1=(Px(height(frame, kind, 0.5))) y2=(Px(height(frame, kind, 0.5))) { title { "1/2" } }
            }
        }
    }

    /// Epochs with room for their number: the last, and from the first on.
    fn ticks(&self, frame: &Frame) -> Vec<u32> {
        let at = |epoch: u32| frame.x.at(self.place(epoch));
        let last = self.epochs[self.epochs.len() - 1];
        let mut shown: Vec<u32> = Vec::new();
        for &epoch in &self.epochs {
            let free = shown.last().is_none_or(|&before| at(epoch) - at(before) > 26.0);
            if epoch == last || free && at(last) - at(epoch) > 26.0 {
                shown.push(epoch);
            }
        }
        shown
    }

    fn line(&self, frame: &Frame, kind: Kind, run: &[Stop], series: &Series) -> String {
        let points = run.iter().filter_map(|stop| Some((stop.epoch, drawable(kind, (series.value)(stop)?)?)));
        path(points.map(|(epoch, value)| (frame.x.at(self.place(epoch)), height(frame, kind, value))))
    }

    /// The mean over the runs that have a value; a line through the epochs at which all have one.
    fn mean(&self, frame: &Frame, kind: Kind, row: &Trajectory, series: &Series) -> String {
        let at = |epoch: u32| {
            let values: Vec<f64> = row
                .runs
                .iter()
                .filter_map(|run| run.iter().find(|stop| stop.epoch == epoch).and_then(|stop| (series.value)(stop)))
                .collect();
            (values.len() == row.runs.len()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let points = self.epochs.iter().filter_map(|&epoch| Some((epoch, drawable(kind, at(epoch)?)?)));
        path(points.map(|(epoch, value)| (frame.x.at(self.place(epoch)), height(frame, kind, value))))
    }
}

/// Where a value stands: by its logarithm in the plot of products.
fn height(frame: &Frame, kind: Kind, value: f64) -> f64 {
    frame.y.at(if kind == Kind::Product { value.log10() } else { value })
}

/// A logarithm has no place for 0.
fn drawable(kind: Kind, value: f64) -> Option<f64> {
    (kind != Kind::Product || value > 0.0).then_some(value)
}

fn dash(at: usize) -> &'static str {
    DASHES[(at + 1) % DASHES.len()]
}

/// The focus of the page, and epsilons around it, spread over the grid.
fn chosen(study: &Study) -> Vec<usize> {
    let count = study.results.positive_epsilons().len();
    if count <= EPSILONS {
        return (0..count).collect();
    }
    let zeros = study.results.epsilons.len() - count;
    let focus = study.focus.saturating_sub(zeros);
    let around = BTreeSet::from([focus / 2, focus, (focus + count - 1).div_ceil(2)]);
    around.into_iter().filter(|&at| at < count).collect()
}
