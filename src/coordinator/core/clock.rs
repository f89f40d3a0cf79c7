//! The engine's time.

use super::TICK;
use crate::engine::Millis;
use std::time::Duration;
use tokio::time::Instant;

/// Time as the engine is told it: it advances once a round, and by a second at most. When the core itself stood
/// still (a slow disk, a stopped process, a busy machine), workers could not be heard: that time is not
/// counted against their leases.
#[derive(Debug)]
pub(super) struct Clock {
    time: Duration,
    round: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { time: Duration::ZERO, round: Instant::now() }
    }

    /// Begins a round. A clock that is `held` stands still.
    pub fn advance(&mut self, held: bool) {
        let now = Instant::now();
        self.add(now - self.round, held);
        self.round = now;
    }

    fn add(&mut self, elapsed: Duration, held: bool) {
        if !held {
            self.time += elapsed.min(2 * TICK);
        }
    }

    pub fn now(&self) -> Millis {
        self.time.as_millis() as Millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_forgiven() {
        let mut clock = Clock::start();
        for _ in 0..10 {
            clock.add(TICK, false);
        }
        assert_eq!(clock.now(), 5_000);
        clock.add(Duration::from_secs(3600), false);
        assert_eq!(clock.now(), 6_000);
        clock.add(TICK, true);
        assert_eq!(clock.now(), 6_000);
    }
}
