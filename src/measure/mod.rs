//! Measures: what workers answer to a measure question, and what the answers amount to. Pure.
//!
//! ```text
//!  lab: samples ─► moments ─► uncertainty::Unit ─► MeasureAnswer ─► ledger ─► Whole ─► report
//! ```
//!
//! A measure is taken of *units*: test examples where each has a domain of its own, classes
//! otherwise; class regions are one unit. A task answers for some units, and answers of the same measure of one checkpoint are
//! joined in the order of their units.

pub mod moments;
pub mod regions;
pub mod uncertainty;

pub use moments::GROUPS;

use crate::plan::question::MeasureQuestion;
use crate::spec::Measure;
use serde::{Deserialize, Serialize};

/// The answer to a [`MeasureQuestion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureAnswer {
    Uncertainty(uncertainty::Answer),
    Regions(regions::Answer),
}

impl MeasureAnswer {
    /// Checks that it can be the answer to `question`: what peers send is not believed unseen.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, question: &MeasureQuestion) -> Result<(), String> {
        match (self, &question.measure) {
            (MeasureAnswer::Uncertainty(answer), Measure::Uncertainty(_)) => answer.check(question.units),
            (MeasureAnswer::Regions(answer), Measure::Regions(asked)) => answer.check(asked.points),
            _ => Err("the answer is to another measure".into()),
        }
    }
}

/// All that is known of one measure of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    Uncertainty(uncertainty::Answer),
    Regions(regions::Answer),
}

impl Measured {
    /// Joins the answers of all tasks, in the order of their units; `None` where there are none.
    pub fn join(answers: Vec<MeasureAnswer>) -> Option<Measured> {
        let mut whole: Option<Measured> = None;
        for answer in answers {
            match (&mut whole, answer) {
                (Some(Measured::Uncertainty(whole)), MeasureAnswer::Uncertainty(answer)) => whole.append(answer),
                (_, MeasureAnswer::Uncertainty(answer)) => whole = Some(Measured::Uncertainty(answer)),
                // One task answers for all of a checkpoint's maps.
                (_, MeasureAnswer::Regions(answer)) => whole = Some(Measured::Regions(answer)),
            }
        }
        whole
    }
}
