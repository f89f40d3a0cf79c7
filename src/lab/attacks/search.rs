//! Which epsilon to attack next, and with which attack, for one example. Pure.
//!
//! ```text
//!   e_1   e_2   e_3   e_4   e_5   e_6   e_7        rungs of the grid, from 0
//!          f           f     ?     x     x         f: an attack failed,  x: broken from here on
//!                            └ edge: the rung just below the break
//! ```
//!
//! An adversarial example at one epsilon is one at every larger epsilon, so a success settles
//! everything above it. A failure settles nothing but its own epsilon. Whatever the order, a level is
//! final only when every attack of the cascade has failed *at the edge itself*.
//!
//! A failing attack runs to its last step and a successful one stops at its first adversarial
//! iterate, so failures are an order of magnitude dearer. Bisection therefore does not halve: it probes
//! high in the open interval, where success is likely and leaves little. The later attacks of a
//! cascade, dearer still, only ever try the edge, and take longer strides down while they win.
//!
//! Where a *scout* goes first, an attack of a single pass, it tries the rungs from below until it succeeds,
//! and leaves an upper end near the break. A cascade that it leads is then at least as strong as the
//! scout alone at every epsilon, even where stronger attacks happen to fail.

use epsweep::spec::Search;
use std::collections::BTreeSet;

/// What to try next: a member of the cascade at a position of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub member: usize,
    pub rung: usize,
}

/// What is known about one example over the grid.
#[derive(Debug, Clone)]
pub struct Bracket {
    search: Search,
    rungs: usize,
    /// The first rung that is broken; the number of rungs if none is.
    broken: usize,
    members: Vec<Member>,
    /// The first member costs a single pass: it is tried on every rung from below.
    scout: bool,
    /// Rungs at which the whole cascade failed in an earlier evaluation.
    before: BTreeSet<usize>,
    /// All members have failed on all rungs below this one.
    floor: usize,
    /// The member that had the last success.
    winner: Option<usize>,
    /// How far below the break the winner tries next.
    stride: usize,
}

#[derive(Debug, Clone, Default)]
struct Member {
    /// Rungs at which it failed.
    failed: BTreeSet<usize>,
    /// Rungs at which it was when it succeeded.
    broke: BTreeSet<usize>,
    /// It looked for the nearest adversarial example and is done: what it found, it found for every
    /// rung, and on all rungs below the break it has failed.
    exhausted: bool,
}

impl Bracket {
    pub fn new(search: Search, rungs: usize, members: usize) -> Bracket {
        let members = vec![Member::default(); members];
        let before = BTreeSet::new();
        Bracket { search, rungs, broken: rungs, members, scout: false, before, floor: 0, winner: None, stride: 1 }
    }

    /// Whether the first member is a scout.
    pub fn scouted(self, scout: bool) -> Bracket {
        Bracket { scout, ..self }
    }

    /// The first broken rung; the number of rungs if none is.
    pub fn broken(&self) -> usize {
        self.broken
    }

    /// `probe` has found an adversarial example, and it has been verified for `rung`.
    pub fn broke(&mut self, probe: Probe, rung: usize) {
        self.broken = self.broken.min(rung);
        self.members[probe.member].broke.insert(probe.rung);
        self.stride = if self.winner == Some(probe.member) { self.stride * 2 } else { 1 };
        self.winner = Some(probe.member);
    }

    /// `probe` failed.
    pub fn withstood(&mut self, probe: Probe) {
        self.members[probe.member].failed.insert(probe.rung);
        (self.winner, self.stride) = (None, 1);
    }

    /// The member has run to its end, and will find no nearer adversarial example.
    pub fn exhausted(&mut self, member: usize) {
        self.members[member].exhausted = true;
        (self.winner, self.stride) = (None, 1);
    }

    /// The whole cascade was tried at `rung` before, and failed. It will not be tried there again, but
    /// the search takes the same way as if it were: what is found does not depend on what was known.
    pub fn withstood_before(&mut self, rung: usize) {
        self.before.insert(rung);
    }

    /// `rung` was broken before.
    pub fn broken_before(&mut self, rung: usize) {
        self.broken = self.broken.min(rung);
    }

    /// What to try next; `None` when the first broken rung is final.
    pub fn next(&mut self) -> Option<Probe> {
        loop {
            let probe = self.propose()?;
            if !self.before.contains(&probe.rung) {
                return Some(probe);
            }
            self.withstood(probe);
        }
    }

    fn propose(&mut self) -> Option<Probe> {
        match self.search {
            Search::Ascending => {
                while self.floor < self.broken && self.untried(self.floor).is_none() {
                    self.floor += 1;
                }
                self.at(self.floor)
            }
            // All that another search could try, and what it found would count here too.
            Search::Exhaustive => (0..self.rungs).rev().find_map(|rung| self.open(rung)),
            Search::Bisect => self.close_in(),
        }
    }

    /// The first member that has still to be tried at `rung`, below the break.
    fn at(&self, rung: usize) -> Option<Probe> {
        (rung < self.broken).then(|| self.open(rung)).flatten()
    }

    fn open(&self, rung: usize) -> Option<Probe> {
        Some(Probe { member: self.untried(rung)?, rung })
    }

    fn untried(&self, rung: usize) -> Option<usize> {
        (0..self.members.len()).find(|&member| self.is_open(member, rung))
    }

    fn is_open(&self, member: usize, rung: usize) -> bool {
        let member = &self.members[member];
        !member.exhausted && !member.failed.contains(&rung) && !member.broke.contains(&rung)
    }

    fn close_in(&self) -> Option<Probe> {
        let edge = self.broken.checked_sub(1)?;
        let scouting = (0..self.broken).find(|&rung| self.scout && self.is_open(0, rung));
        if let Some(rung) = scouting {
            return Some(Probe { member: 0, rung });
        }
        let open = |&member: &usize| self.lowest_open(member) <= edge && !self.members[member].exhausted;
        let member = self.winner.filter(open).or_else(|| self.untried(edge))?;
        let lowest = self.lowest_open(member);
        let rung = if member == 0 && !self.scout {
            lowest + high_in(edge - lowest)
        } else {
            (edge + 1).saturating_sub(self.stride).max(lowest)
        };
        Some(Probe { member, rung })
    }

    /// Above the highest rung below the break at which the member failed.
    fn lowest_open(&self, member: usize) -> usize {
        self.members[member].failed.range(..self.broken).next_back().map_or(0, |&failed| failed + 1)
    }
}

/// A position in `0..=top`, at four fifths of it: where a failure costs eight times what a success
/// does, no other share needs less on average when every level is as likely as any other.
fn high_in(top: usize) -> usize {
    let positions = top + 1;
    (positions * 4).div_ceil(5) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a whole search against attacks that succeed where `breaks(member, rung)` says.
    /// Returns the bracket and the probes.
    fn play(
        search: Search,
        rungs: usize,
        members: usize,
        breaks: impl Fn(usize, usize) -> bool,
    ) -> (usize, Vec<Probe>) {
        play_on(Bracket::new(search, rungs, members), breaks)
    }

    fn play_on(mut bracket: Bracket, breaks: impl Fn(usize, usize) -> bool) -> (usize, Vec<Probe>) {
        let mut probes = Vec::new();
        while let Some(probe) = bracket.next() {
            assert!(!probes.contains(&probe), "{probe:?} twice");
            probes.push(probe);
            match breaks(probe.member, probe.rung) {
                true => bracket.broke(probe, probe.rung),
                false => bracket.withstood(probe),
            }
        }
        (bracket.broken(), probes)
    }

    #[test]
    fn every_search_finds_the_break_of_well_behaved_attacks_and_certifies_its_edge() {
        for rungs in [1usize, 2, 3, 5, 16, 40] {
            for weak in 0..=rungs {
                for strong in 0..=weak {
                    for search in [Search::Ascending, Search::Bisect, Search::Exhaustive] {
                        let breaks = |member, rung| rung >= [weak, strong][member];
                        let (found, probes) = play(search, rungs, 2, breaks);
                        assert_eq!(found, strong, "{search:?} of {rungs}: {weak} {strong}");
                        let edge = |member| found == 0 || probes.contains(&Probe { member, rung: found - 1 });
                        assert!(edge(0) && edge(1), "{search:?} of {rungs}: {weak} {strong}: {probes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn attacks_that_succeed_at_random_still_leave_a_certified_edge() {
        for seed in 0..500u64 {
            let breaks = |member: usize, rung: usize| {
                let hash = (seed * 31 + member as u64 * 7 + rung as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
                hash % 16 < rung as u64
            };
            for search in [Search::Ascending, Search::Bisect, Search::Exhaustive] {
                let (found, probes) = play(search, 16, 3, breaks);
                for member in 0..3 {
                    assert!(found == 0 || probes.contains(&Probe { member, rung: found - 1 }));
                    let below = (0..found).all(|rung| probes.contains(&Probe { member, rung }));
                    assert!(search == Search::Bisect || below, "{search:?} skipped a rung below its level");
                }
            }
        }
    }

    #[test]
    fn closing_in_fails_seldom() {
        let failures = |level: usize| {
            let (_, probes) = play(Search::Bisect, 16, 1, |_, rung| rung >= level);
            probes.iter().filter(|probe| probe.rung < level).count()
        };
        let all: Vec<usize> = (0..=16).map(failures).collect();
        assert!(all.iter().sum::<usize>() <= 24 && all.iter().max() <= Some(&4), "{all:?}");
        // Later members fail once, at the edge.
        let (_, probes) = play(Search::Bisect, 16, 2, |_, rung| rung >= 9);
        assert_eq!(probes.iter().filter(|probe| probe.member == 1).count(), 1);
        // Where the first is blind, the second strides down.
        let (found, probes) = play(Search::Bisect, 100, 2, |member, rung| member == 1 && rung >= 3);
        assert!(found == 3 && probes.len() < 30, "{}", probes.len());
    }

    #[test]
    fn a_cascade_finds_whatever_its_scout_finds() {
        for seed in 0..500u64 {
            // The scout is luckier than the others at a few rungs, none of them at the others' edge.
            let hash = |member: usize, rung: usize| {
                (seed * 31 + member as u64 * 7 + rung as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
            };
            let breaks =
                |member: usize, rung: usize| hash(member, rung) % 16 < if member == 0 { 2 } else { rung as u64 };
            for search in [Search::Ascending, Search::Bisect, Search::Exhaustive] {
                let (found, probes) = play_on(Bracket::new(search, 16, 3).scouted(true), breaks);
                let scout = (0..16).find(|&rung| breaks(0, rung)).unwrap_or(16);
                assert!(found <= scout, "{search:?}: the scout breaks {scout}, the cascade {found}");
                assert!((1..3).all(|member| found == 0 || probes.contains(&Probe { member, rung: found - 1 })));
            }
        }
        // One pass a rung for the scout, and one failure for each of the others.
        let bracket = Bracket::new(Search::Bisect, 16, 3).scouted(true);
        let (found, probes) = play_on(bracket, |member, rung| rung >= [9, 8, 8][member]);
        assert_eq!((found, probes.len()), (8, 10 + 2 + 1));
    }

    #[test]
    fn what_was_tried_before_is_not_tried_again() {
        let mut bracket = Bracket::new(Search::Bisect, 10, 1);
        bracket.withstood_before(7);
        assert_eq!(bracket.next(), Some(Probe { member: 0, rung: 9 }), "failed at 7 without being asked again");
        bracket.broke(Probe { member: 0, rung: 9 }, 8);
        assert_eq!(bracket.next(), None);
        // A nearer example opens what lies below.
        bracket.broke(Probe { member: 0, rung: 7 }, 4);
        assert_eq!(bracket.next(), Some(Probe { member: 0, rung: 3 }));
        bracket.exhausted(0);
        assert_eq!((bracket.next(), bracket.broken()), (None, 4));
    }
}
