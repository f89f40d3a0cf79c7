//! The epsilon grid of an evaluation, and what earlier answers say about it.

use super::flight::Flight;
use super::search::{Bracket, Probe};
use epsweep::outcome::{Known, Verdict};
use epsweep::spec::{Norm, Search};

/// The epsilons of a question, how they are searched, and what earlier answers say about them.
pub struct Ladder<'a> {
    pub norm: Norm,
    pub epsilons: &'a [f64],
    pub search: Search,
    pub known: &'a [Known],
}

impl Ladder<'_> {
    /// What all earlier answers together say about `example` at `epsilon`.
    pub fn verdict(&self, example: usize, epsilon: f64) -> Verdict {
        let mut verdict = Verdict::Open;
        for known in self.known {
            match known.verdict(self.search, example, epsilon) {
                Verdict::Broken => return Verdict::Broken,
                Verdict::Withstood => verdict = Verdict::Withstood,
                Verdict::Open => {}
            }
        }
        verdict
    }

    /// The bracket that earlier answers leave, from one about which nothing is known.
    ///
    /// A failure at exactly one epsilon is a fact about it alone, and saves every search the dearest
    /// part of its work. Only ascending search also takes over breaks: which break another
    /// search finds depends on where it looked before, and its answer shall not.
    pub fn bracket(&self, example: usize, blank: &Bracket) -> Bracket {
        let mut bracket = blank.clone();
        for (rung, &epsilon) in self.epsilons.iter().enumerate() {
            match self.verdict(example, epsilon) {
                Verdict::Broken if self.search.is_ascending() => bracket.broken_before(rung),
                Verdict::Withstood => bracket.withstood_before(rung),
                Verdict::Broken | Verdict::Open => {}
            }
        }
        bracket
    }

    pub(super) fn enter(&self, flight: Flight, probe: Probe) -> Flight {
        flight.entering(probe.member, probe.rung, self.epsilons[probe.rung], 0)
    }
}
