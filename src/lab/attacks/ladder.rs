//! The epsilon grid of an evaluation, and what earlier answers say about it.

use super::ball::reaches;
use super::flight::Flight;
use super::search::{Bracket, Probe};
use epsweep::outcome::{Known, Level, Verdict};
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

    /// The first rung whose ball contains an adversarial example at `distance`, whichever the attack
    /// was at when it found it.
    ///
    /// Ascending search has tried the smaller ones, and counts what it finds where it looked for it: at `only`.
    pub fn rung(&self, distance: f64, only: Option<usize>) -> Option<usize> {
        let inside = |rung: &usize| reaches(self.norm, self.epsilons[*rung], distance);
        match only {
            Some(rung) if self.search.is_ascending() => Some(rung).filter(inside),
            _ => (0..self.epsilons.len()).find(inside),
        }
    }

    /// What a search that has ended says about its example.
    pub fn level(&self, bracket: &Bracket) -> Level {
        // One beyond the last rung is the level of those that were never broken.
        debug_assert!(bracket.broken() <= self.epsilons.len());
        Level(u16::try_from(bracket.broken() + 1).expect("an epsilon grid has at most 65,000 points"))
    }

    pub(super) fn enter(&self, flight: Flight, probe: Probe) -> Flight {
        flight.entering(probe.member, probe.rung, self.epsilons[probe.rung], 0)
    }
}
