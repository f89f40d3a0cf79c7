//! The science, on libtorch: the only room that imports `tch`.
//!
//! ```text
//!   TrainQuestion ──► training ──► checkpoints (safetensors bytes)
//!                        │ uses              │
//!                     models, attacks::ball  ▼
//!   EvaluateQuestion ──────────────────► attacks ──► one outcome::Level per test example
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`data`] | images and labels as tensors |
//! | [`device`] | GPUs: opening their half of libtorch, how they compute |
//! | [`streams`] | counter-based random numbers, keyed by what they are for |
//! | [`models`] | architectures, their initial weights and forward pass |
//! | [`weights`] | checkpoints as safetensors bytes |
//! | [`files`] | weights and modules that others have made |
//! | [`training`] | methods, optimizers, schedules, exact resume |
//! | [`bounds`] | what a network provably does over a ball |
//! | [`mod@certify`] | proofs that no adversarial example exists: bounds, smoothing |
//! | [`measures`] | what a network is like beside how it withstands attacks |
//! | [`attacks`] | threat-model geometry, the attacks, and the engine that keeps batches full |
//! | [`audit`] | what a checkpoint says about given images: the second opinion on witnesses |
//!
//! Inputs are NCHW, 32-bit floats in `[0,1]`; networks return logits. Everything runs without a graph
//! unless a function asks for one, and no libtorch error or panic leaves [`train`] or [`evaluate`].

pub mod attacks;
pub mod audit;
pub mod bounds;
pub mod certify;
pub mod data;
pub mod device;
mod error;
pub mod files;
pub mod measures;
pub mod models;
mod process;
pub mod streams;
pub mod training;
pub mod weights;

pub use attacks::{EvaluateRequest, evaluate};
pub use certify::{CertifyRequest, certify};
pub use data::{Images, LabData, RawImages};
pub use error::LabError;
pub use files::Given;
pub use measures::{MeasureRequest, measure};
pub use process::use_one_thread;
pub use tch::Device;
pub use training::resume::{INTERVAL as TRAINING_INTERVAL, Place as TrainingPlace, reached as training_reached};
pub use training::{Checkpoint, EpochReport, TrainRequest, train};

/// How whoever asked follows a task and calls it off.
///
/// All methods run on the thread that computes, so they should return at once.
pub trait Watch {
    /// An epoch has ended. A resumed run reports only the epochs it finishes itself.
    fn epoch(&mut self, report: &EpochReport);
    /// `done` of `total` examples of an evaluation have their final level.
    fn examples(&mut self, _done: usize, _total: usize) {}
    /// Asked before every batch; true ends the task with [`LabError::Stopped`].
    fn stop(&self) -> bool;
}

/// Work done: one forward (backward) is one example passing through the network once.
///
/// Counts what this attempt computed, so a resumed run counts less than an uninterrupted one.
/// Rows that only fill up a batch are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passes {
    pub forwards: u64,
    pub backwards: u64,
    /// Examples trained on (once per epoch), or test examples evaluated.
    pub examples: u64,
}

impl Passes {
    fn forward(&mut self, examples: i64) {
        self.forwards += examples as u64;
    }

    /// A forward pass and the backward pass through it.
    fn gradient(&mut self, examples: i64) {
        self.forwards += examples as u64;
        self.backwards += examples as u64;
    }
}
