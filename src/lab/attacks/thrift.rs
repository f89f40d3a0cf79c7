//! Giving up climbs that are hopeless, for `autoattack: {effort: thrifty}`.
//!
//! Almost all of a cascade's passes are spent failing: eight of nine targets are far from any boundary, and
//! show it within a few steps. A thrifty evaluation looks at each climb a few times, and gives it up when it
//! has come less of its way than any climb had that later succeeded. The shares below were chosen on
//! three networks and leave room by a factor of two or more; docs/attacks.md has the figures. It is not the
//! published attack, and the full one remains the default.

/// A look at a climb.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// After this share of the climb's steps.
    pub after: f64,
    /// It is given up when its best value is above this. The value is the margin `z_y - max z_i`, over that
    /// of the climb's first iterate; for attacks that look for the nearest adversarial example the
    /// distance of the nearest one, over the epsilon that has to be reached.
    pub above: f32,
}

/// APGD towards one class.
pub static TOWARDS_ONE_CLASS: [Check; 4] = [
    Check { after: 0.2, above: 0.7 },
    Check { after: 0.4, above: 0.45 },
    Check { after: 0.6, above: 0.2 },
    Check { after: 0.8, above: 0.05 },
];
/// FAB towards one class.
pub static TOWARDS_THE_BOUNDARY: [Check; 3] =
    [Check { after: 0.2, above: 1.6 }, Check { after: 0.3, above: 1.4 }, Check { after: 0.5, above: 1.2 }];
/// Square.
pub static AT_RANDOM: [Check; 2] = [Check { after: 0.2, above: 0.4 }, Check { after: 0.4, above: 0.1 }];

/// How far a climb has come; one per slot.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    first: f32,
    best: f32,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { first: f32::INFINITY, best: f32::INFINITY }
    }
}

impl Progress {
    /// Takes note of the value after `step` steps.
    pub fn note(&mut self, step: u32, value: f32) {
        if step == 0 {
            *self = Progress { first: value, best: value };
        }
        self.best = self.best.min(value);
    }

    /// Whether a climb of `steps` steps is to be given up after `step` of them; its values are measured
    /// in `unit`, or in its own first value.
    pub fn hopeless(&self, checks: &[Check], step: u32, steps: u32, unit: Option<f64>) -> bool {
        let unit = unit.map_or(self.first, |unit| unit as f32);
        let due = |check: &&Check| (check.after * f64::from(steps)) as u32 == step;
        checks.iter().find(due).is_some_and(|check| self.best > check.above * unit)
    }
}
