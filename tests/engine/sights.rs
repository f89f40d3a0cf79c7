//! What there was to see in a world.

/// What happened in a world, so that a test that sees nothing is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sights {
    pub events: u64,
    /// Second leases of a task that was out.
    pub copies: u64,
    /// Leases that were taken from a worker that had not begun.
    pub taken_over: u64,
    /// Events at which some worker was set aside.
    pub set_aside: u64,
    /// Sweeps that paused themselves.
    pub halted: u64,
}

impl Sights {
    pub fn add(&mut self, other: Sights) {
        self.events += other.events;
        self.copies += other.copies;
        self.taken_over += other.taken_over;
        self.set_aside += other.set_aside;
        self.halted += other.halted;
    }
}
