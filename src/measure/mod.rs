//! Measures: what workers answer to a measure question, and what the answers amount to. Pure.
//!
//! ```text
//!  lab: samples ─► moments ─► uncertainty::Unit ─► MeasureAnswer ─► ledger ─► Whole ─► report
//! ```
//!
//! A measure is taken of *units*: test examples where each has a domain of its own, classes
//! otherwise. A task answers for some units, and answers of the same measure of one checkpoint are
//! joined in the order of their units.

pub mod moments;
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
}

impl MeasureAnswer {
    /// Checks that it can be the answer to `question`: what peers send is not believed unseen.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, question: &MeasureQuestion) -> Result<(), String> {
        match (self, &question.measure) {
            (MeasureAnswer::Uncertainty(answer), Measure::Uncertainty(_)) => answer.check(question.units),
        }
    }
}

/// All that is known of one measure of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    Uncertainty(uncertainty::Answer),
}

impl Measured {
    /// Joins the answers of all tasks, in the order of their units; `None` where there are none.
    pub fn join(answers: Vec<MeasureAnswer>) -> Option<Measured> {
        let mut whole: Option<uncertainty::Answer> = None;
        for MeasureAnswer::Uncertainty(answer) in answers {
            match &mut whole {
                Some(whole) => whole.append(answer),
                None => whole = Some(answer),
            }
        }
        whole.map(Measured::Uncertainty)
    }
}
