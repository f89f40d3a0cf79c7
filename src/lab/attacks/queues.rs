//! Flights by what they wait for, first come first served.

use super::flight::{Flight, Need, Stage};
use std::collections::VecDeque;

/// The kinds of batches. What decides a level is computed exactly, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Whether an iterate is adversarial, for good: confirmations and last iterates.
    Verdicts,
    /// Logits of the search.
    Logits,
    /// Gradients of the search.
    Gradients,
    /// Clean images, with a gradient.
    Origins,
}

/// In the order in which full batches take precedence: verdicts free slots.
const TURNS: [Turn; 4] = [Turn::Verdicts, Turn::Logits, Turn::Gradients, Turn::Origins];

/// The flights that wait.
#[derive(Default)]
pub(super) struct Queues {
    waiting: [VecDeque<Flight>; 4],
    /// The search computes in another precision than verdicts, so that they share no batch.
    pub apart: bool,
    slopes: bool,
}

impl Queues {
    /// Empty; `slopes` says whether clean images are asked for a gradient.
    pub fn new(slopes: bool) -> Queues {
        Queues { slopes, ..Queues::default() }
    }

    /// Queues a flight, by its stage and what its attack `need`s.
    pub fn push(&mut self, flight: Flight, need: Need) {
        let turn = match (flight.stage, need) {
            (Stage::Origin, _) if self.slopes => Turn::Origins,
            (Stage::Origin | Stage::Confirm, _) | (_, Need::Verdict) => Turn::Verdicts,
            (Stage::Climb, Need::Logits) => Turn::Logits,
            (Stage::Climb, Need::Gradient) => Turn::Gradients,
        };
        let turn = match turn {
            Turn::Origins if !self.apart => Turn::Gradients,
            Turn::Logits if !self.apart => Turn::Verdicts,
            turn => turn,
        };
        self.waiting[turn as usize].push_back(flight);
    }

    /// The next batch of at most `rows`: of a queue that can fill it, else of the longest.
    pub fn take(&mut self, rows: usize) -> Option<(Turn, Vec<Flight>)> {
        let count = |turn: Turn| self.waiting[turn as usize].len();
        let full = TURNS.into_iter().find(|&turn| count(turn) >= rows);
        // Of equally long ones the first.
        let turn = full.or_else(|| TURNS.into_iter().rev().max_by_key(|&turn| count(turn)))?;
        let queue = &mut self.waiting[turn as usize];
        let batch: Vec<Flight> = queue.drain(..rows.min(queue.len())).collect();
        (!batch.is_empty()).then_some((turn, batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(stage: Stage) -> Flight {
        Flight::at_origin(0, 0).to(stage)
    }

    #[test]
    fn full_batches_go_first_and_else_the_longest_queue() {
        let mut queues = Queues::default();
        for _ in 0..3 {
            queues.push(flight(Stage::Climb), Need::Gradient);
        }
        queues.push(flight(Stage::Climb), Need::Logits);
        queues.push(flight(Stage::Confirm), Need::Gradient);
        let mut next = |rows| queues.take(rows).map(|(turn, batch)| (turn, batch.len()));
        assert_eq!(next(2), Some((Turn::Verdicts, 2)), "full, and it frees slots");
        assert_eq!(next(4), Some((Turn::Gradients, 3)));
        assert_eq!(next(4), None);
    }

    #[test]
    fn what_decides_a_level_never_shares_a_batch_with_a_search_in_another_precision() {
        let mut queues = Queues { apart: true, ..Queues::new(true) };
        queues.push(flight(Stage::Origin), Need::Verdict);
        queues.push(flight(Stage::Climb), Need::Logits);
        queues.push(flight(Stage::Climb), Need::Gradient);
        queues.push(flight(Stage::Climb), Need::Verdict);
        queues.push(flight(Stage::Confirm), Need::Gradient);
        let order: Vec<_> = std::iter::from_fn(|| queues.take(8)).map(|(turn, batch)| (turn, batch.len())).collect();
        assert_eq!(order, [(Turn::Verdicts, 2), (Turn::Logits, 1), (Turn::Gradients, 1), (Turn::Origins, 1)]);
    }
}
