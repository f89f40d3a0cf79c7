//! Statistics over outcomes: what a sweep's levels say, and how surely.
//!
//! ```text
//!  Results ──► curves    robust accuracy over epsilon, per checkpoint and attack   (Clopper-Pearson)
//!     │          └─────► summary   one line per checkpoint: clean accuracy, area, median break
//!     ├──────► certified  what is proved, and whether an attack contradicts it
//!     └──────► bootstrap  configurations over seeds and test examples together     (95 %, 1000 draws)
//!                 ├────► pareto       who is dominated, in the estimate and in every draw
//!                 ├────► hypervolume  one number per frontier, and how the sweep made it grow
//!                 └────► compare      pairs of configurations on the same examples, corrected (adjust)
//!             correlation  how two measurements of the same trials go together
//! ```
//!
//! Pure: no clock, no file, no socket. Random draws come from ChaCha streams keyed by content, so
//! that the same results give the same numbers everywhere and in any order of trials.

pub mod adjust;
pub mod bootstrap;
pub mod certified;
pub mod compare;
pub mod correlation;
pub mod curves;
mod draws;
mod groups;
pub mod hypervolume;
pub mod intervals;
pub mod order;
pub mod pareto;
mod posterior;
pub mod results;
pub mod summary;

#[cfg(test)]
mod calibration;
#[cfg(test)]
pub mod synthetic;

pub use bootstrap::{Candidate, Frontier, FrontierPoint, IntervalKind, Settings};
pub use curves::{Curve, CurvePoint};
pub use intervals::{Estimate, Interval};
pub use results::Results;
pub use summary::Summary;

/// Level of every interval in this room, as a fraction.
pub const CONFIDENCE: f64 = 0.95;
