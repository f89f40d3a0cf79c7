//! Witnesses: the adversarial examples themselves, as files that anybody can check.
//!
//! | module | holds |
//! |---|---|
//! | [`file`](WitnessFile) | one file per evaluation task: gzipped safetensors, equal content in equal bytes |
//! | [`audit`] | what an audit reports |
//! | [`check`] | what can be verified about a witness without the network |
//! | [`npy`] | arrays that `numpy.load` reads |
//!
//! The worker writes them, the coordinator keeps them by their hash, `epsweep audit` checks them and
//! `epsweep witnesses` exports them. No libtorch here.

pub mod audit;
pub mod check;
mod file;
pub mod npy;

pub use file::{WitnessError, WitnessFile};

/// One verified adversarial example.
#[derive(Debug, Clone, PartialEq)]
pub struct Witness {
    /// Position in the test set.
    pub index: u32,
    /// The true class.
    pub label: i64,
    /// What the network says.
    pub predicted: i64,
    /// Position in the grid of positive epsilons, from 1: broken from `epsilons[level - 1]` on.
    pub level: u16,
    /// That epsilon: the radius of the ball that it is claimed to lie in.
    pub epsilon: f64,
    /// From the clean image, in the question's norm, computed in 64 bits.
    pub distance: f64,
    /// Which attack of the cascade found it.
    pub member: u32,
    /// CHW, in `[0,1]`.
    pub pixels: Vec<f32>,
}
