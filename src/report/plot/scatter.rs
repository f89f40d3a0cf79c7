//! One point per trial: a figure of the uncertainty relation against robust accuracy.

use super::scale::{Axis, Frame, Px, Scale};
use super::{clean, colour_class};
use crate::report::correlations::Cloud;
use crate::report::format::{percent, significant};
use crate::report::study::Study;
use maud::{Markup, html};

/// `figure` is a position in [`crate::report::correlations::Point::figures`], `name` what it is called.
pub fn scatter(study: &Study, cloud: &Cloud, figure: usize, name: &str, epsilon: usize) -> Markup {
    let (width, height) = (880.0, 460.0);
    let values = || cloud.points.iter().map(|point| point.figures[figure]);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let pad = 0.06 * (high - low).max(1e-9 * high.abs());
    let frame = Frame {
        x: Scale::new((low - pad, high + pad), (58.0, width - 16.0)),
        y: Scale::new((0.0, 1.0), (height - 56.0, 44.0)),
    };
    let title = format!("{name} →");
    html! {
        svg.plot.trails viewBox={ "0 0 " (width) " " (height) } role="img" aria-label={ (name) " against robust accuracy" } {
            (frame.axes(Axis::Number(&title), Axis::Percent("↑ Robust accuracy"), (6, 6)))
            @for point in &cloud.points {
                @let config = &study.configs[point.config];
                @let (x, y) = (point.figures[figure], point.robust[epsilon]);
                g.pt.(colour_class(config.colour)) data-k=(point.config) transform={ "translate(" (Px(frame.x.at(x))) " " (Px(frame.y.at(y))) ")" } {
                    circle.hit r="10" {}
                    circle.dot r="4.5" {}
                    title { (clean(&config.label)) ", seed " (point.seed) ", epoch " (point.epoch) ": " (name) " " (significant(x, 4)) ", robust " (percent(y)) }
                }
            }
        }
    }
}
