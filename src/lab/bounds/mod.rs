//! What a network provably does over a whole ball of inputs.
//!
//! | module | holds |
//! |---|---|
//! | [`interval`] | an interval per value, layer by layer: cheap, and differentiable, so one can train on it |

pub mod interval;
