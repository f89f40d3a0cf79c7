//! epsweep traces the accuracy-robustness trade-off of neural networks.
//!
//! One YAML file describes a *sweep*: a grid of training runs and a grid of attacks and epsilons.
//! A gRPC coordinator leases its tasks to worker processes; what they find is appended to a ledger
//! and aggregated into robustness curves and frontiers.
//!
//! ```text
//!            spec ──► plan ──► engine ◄──► ledger ──► frontier ──► report
//!          (YAML)   (tasks)  (who, when)  (SQLite)  (statistics)  (what people read)
//!                                ▲                         
//!                           coordinator ◄── gRPC ──► worker ──► lab (libtorch)
//!                                    (transport: TLS, tokens, limits)
//! ```
//!
//! Three rules keep the rooms apart, and tests/house holds them:
//! `spec`, `plan`, `engine`, `frontier`, `measure` and `outcome` are pure (no clock, file, socket or tensor);
//! `lab` is the only room that imports `tch`, and only `worker` calls it (both are compiled into the
//! program epsweep-worker alone, so that `epsweep` never loads libtorch);
//! nothing imports `cli`.

pub mod artifacts;
pub mod blocking;
pub mod cli;
pub mod coordinator;
pub mod data;
pub mod engine;
pub mod frontier;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod launch;
pub mod ledger;
pub mod measure;
pub mod outcome;
pub mod plan;
pub mod program;
pub mod proto;
pub mod report;
pub mod spec;
pub mod telemetry;
pub mod transport;
pub mod trust;
pub mod witness;
