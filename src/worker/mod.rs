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
//!
//! All that is in [`shell`], which knows no libtorch; what stands here are the program's options, its devices, and the lab
//! as the shell's slots use it.

mod audit;
pub mod cli;
mod compute;
mod data;
mod device;
mod limit;
mod shell;
