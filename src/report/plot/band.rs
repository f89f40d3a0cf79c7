//! What is certified and what is broken, and the band between them that nobody knows.

use super::colour_class;
use super::curves::{DASHES, frame, mean_path, small_axes};
use super::scale::{Frame, Px, path};
use crate::report::study::Study;
use maud::{Markup, html};

/// One small plot per coloured configuration; empty without a deterministic certificate.
pub fn bands(study: &Study) -> Vec<(usize, Markup)> {
    let certified = |c: usize| proved(study, c).iter().any(|line| !line.1.is_empty());
    let coloured = study.plotted().filter(|(_, config, _)| config.colour.is_some());
    coloured.filter(|(_, _, c)| certified(*c)).map(|(k, config, c)| (k, panel(study, config.colour, c))).collect()
}

/// Means over the trials of a candidate: certified accuracy at every position of the grid, clean
/// included, for each deterministic certificate.
fn proved(study: &Study, c: usize) -> Vec<(usize, Vec<(f64, f64)>)> {
    let candidate = study.candidate(c);
    let sure = study.results.certificates.iter().enumerate().filter(|(_, certificate)| certificate.deterministic);
    let line = |certificate: usize| -> Vec<(f64, f64)> {
        let mine = study.certified.iter().filter(|curve| {
            let trial = &study.results.trials[curve.trial];
            curve.certificate == certificate
                && trial.config == candidate.config
                && trial.checkpoints[curve.checkpoint].epoch == candidate.epoch
        });
        let mine: Vec<_> = mine.collect();
        let Some(first) = mine.first() else { return Vec::new() };
        let mean = |at: usize| mine.iter().map(|curve| curve.points[at].accuracy()).sum::<f64>() / mine.len() as f64;
        first.points.iter().enumerate().map(|(at, point)| (point.epsilon, mean(at))).collect()
    };
    sure.map(|(certificate, _)| (certificate, line(certificate))).collect()
}

fn panel(study: &Study, colour: Option<usize>, c: usize) -> Markup {
    let frame = frame(study, (40.0, 252.0), (150.0, 14.0));
    let lines = proved(study, c);
    html! {
        svg.plot.small viewBox="0 0 260 178" role="img" aria-label="Certified and broken accuracy over epsilon" {
            (small_axes(&frame))
            path.unknown.(colour_class(colour)) d=(between(study, &frame, c, &best(&lines))) {}
            @for (certificate, line) in &lines {
                path.attack stroke-dasharray=(DASHES[(certificate + 1) % DASHES.len()])
                    d=(path(line.iter().map(|(e, v)| (frame.x.at(*e), frame.y.at(*v))))) {
                    title { (study.results.certificates[*certificate].name) }
                }
            }
            g.curve.(colour_class(colour)) {
                path.line d=(mean_path(study, &frame, c, None)) { title { "worst case over all attacks" } }
            }
            line.mark x1=(Px(frame.left())) x2=(Px(frame.left())) y1=(Px(frame.top())) y2=(Px(frame.bottom())) {}
        }
    }
}

/// The highest of the certified lines at every epsilon.
fn best(lines: &[(usize, Vec<(f64, f64)>)]) -> Vec<(f64, f64)> {
    let longest = lines.iter().map(|(_, line)| line).max_by_key(|line| line.len()).cloned().unwrap_or_default();
    let highest = |at: usize| lines.iter().filter_map(|(_, line)| line.get(at)).map(|(_, v)| *v).fold(0.0, f64::max);
    longest.iter().enumerate().map(|(at, (e, _))| (*e, highest(at))).collect()
}

/// The area between the broken curve above and the certified one below.
fn between(study: &Study, frame: &Frame, c: usize, certified: &[(f64, f64)]) -> String {
    let above = mean_path(study, frame, c, None);
    if above.is_empty() || certified.is_empty() {
        return String::new();
    }
    let below = path(certified.iter().rev().map(|(e, v)| (frame.x.at(*e), frame.y.at(*v))));
    above + "L" + below.trim_start_matches('M') + "Z"
}
