//! The engine's shell: gRPC services, time, durability.
//!
//! ```text
//!  worker_service ─┐                      ┌─ engine.apply(event, now)
//!  client_service ─┼─► Handle::call ─► core thread ─┤
//!  (tokio tasks)   │   (one channel)      └─ ledger.append ... one commit for all that had arrived
//!                  └──────◄── replies leave only after that commit ──◄──┘
//! ```
//!
//! One thread owns the engine and the ledger. It takes whatever requests have piled up, applies
//! them, commits once, and only then releases the replies: what a peer has been told is on disk.

mod answer;
mod client_service;
mod core;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod kept;
mod live;
mod log;
mod metrics;
mod prepare;
mod publish;
mod server;
mod traces;
mod wire;
mod worker_service;

pub use self::core::{Core, Handle, Notice, OpenError, PRIORITIES, Recovery, Refused, Unanswered};
pub use kept::{Kept, KeptError, KeptEvaluation, kept};
pub use prepare::{PrepareError, Prepared, replan};
pub use publish::{PublishError, Published, publish};
pub use server::{Server, ServerError, ServerOptions};

/// Marks an UNAVAILABLE of a coordinator that is there, and waits for space on its disk: ask again, however often.
pub const WAITS: &str = "epsweep-waits";

/// Tasks that a worker with so many slots asks to have queued behind the running ones. How many it gets, the engine
/// decides by their length: no more than seconds of work.
pub fn prefetch(slots: u32) -> u32 {
    crate::engine::most_queued(slots)
}

/// The meaning of the worker messages; see proto/epsweep/v1/worker.proto.
pub const PROTOCOL: u32 = 2;
