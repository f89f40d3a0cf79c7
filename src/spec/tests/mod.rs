//! The whole way from text to sweep: what files mean, what is refused and how, the examples.

mod errors;
mod examples;
mod grids;
mod meaning;

use super::{Sweep, Warning, parse_with_warnings};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use std::path::Path;

fn outcome(text: &str) -> Result<(Sweep, Vec<Warning>), super::SpecError> {
    parse_with_warnings(text, "sweep.yaml", Path::new("/base"))
}

/// The sweep of a valid file without warnings.
#[track_caller]
fn sweep(text: &str) -> Sweep {
    match outcome(text) {
        Ok((sweep, warnings)) => {
            assert!(warnings.is_empty(), "{}", render(&warnings[0]));
            sweep
        }
        Err(error) => panic!("{}", render(&error)),
    }
}

/// What a person sees when `text` is refused.
#[track_caller]
fn refusal(text: &str) -> String {
    match outcome(text) {
        Ok(_) => panic!("must be refused:\n{text}"),
        Err(error) => render(&error),
    }
}

fn render(diagnostic: &dyn Diagnostic) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(110);
    handler.render_report(&mut text, diagnostic).expect("every place lies in the text");
    text
}

/// A valid file around the given `trial` (without `epochs`), other top-level lines and `evaluate`.
fn around(trial: &str, rest: &str, evaluate: &str) -> String {
    format!("dataset: digits\ntrial: {{epochs: 3, {trial}}}\n{rest}\nevaluate: {{{evaluate}}}\n")
}

/// A valid file with the given lines between `trial` and `evaluate`.
fn with(rest: &str) -> String {
    around("model: mlp, method: natural", rest, "epsilons: [0, 0.1]")
}
