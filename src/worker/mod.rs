//! A worker: takes leases, runs them on libtorch, hands in answers, and outlives its coordinator.
//!
//! ```text
//!   link ── Acquire ──► fetch (checkpoint into the cache) ──► slot thread: lab ──► deliver
//!     └──── Heartbeat: renews what is held, hears what is revoked      (upload, Commits or Fail)
//! ```
//!
//! One asynchronous thread speaks gRPC; each slot is a thread of its own that computes with one
//! libtorch thread. A coordinator that cannot be reached is waited for, with backoff, while the
//! slots go on. What is finished lies on disk until it is handed in, if need be by the next process.

mod answers;
mod asking;
mod audit;
mod cache;
pub mod cli;
mod device;
mod error;
mod fetch;
mod handin;
mod limit;
mod link;
mod metrics;
mod post;
mod run;
mod slots;
mod traces;
mod training;

pub use error::WorkerError;
pub use link::LinkError;
pub use run::{Options, run};
