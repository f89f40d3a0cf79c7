//! The worker but for what it computes: leases, answers, and a coordinator that comes and goes.
//!
//! Whoever starts it says what its slots do ([`Compute`]), and over what it speaks (`Credentials::over`). All waiting is on
//! tokio's clock. So the same code runs on libtorch, and in a simulation without it (`tests/simulation`).

mod answers;
mod asking;
mod cache;
mod error;
mod fetch;
mod handin;
mod held;
mod link;
mod metrics;
mod post;
mod run;
mod slots;
mod traces;
mod training;

pub use error::WorkerError;
pub use fetch::chain;
pub use link::LinkError;
pub use run::{Options, run};
pub use slots::{Answer, Compute, Computing, Job, NoAnswer, Packed, Shared, Trained, Work};
