//! The real shells in a simulated world: coordinator and workers, with their gRPC, their files and their ledger, over
//! turmoil's network and in simulated time. One seed, one history.
//!
//! ```text
//!   world.rs   hosts, links, what is done to them      schedules.rs  faults drawn from a seed
//!   site.rs    what a host starts                      scenarios.rs  faults by name
//!   bench.rs   what slots compute: hashes, slowly      laws.rs       what must hold in the end
//!   net.rs     connections, as the shells take them  clock.rs      what time the system says it is
//! ```
//!
//! Each host has a runtime of one thread whose clock is stopped and moved on by the simulation; when it crashes, all that was
//! running there is gone, and what lies in its folder stays. `EPSWEEP_SCHEDULES=1000` runs as many random
//! schedules, `EPSWEEP_SEED=7` begins with that seed (with `EPSWEEP_SCHEDULES=1`, runs that one again), and `EPSWEEP_STORY=1` tells what happens.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a panic is how a test fails

mod bench;
mod clock;
mod laws;
mod net;
mod scenarios;
mod schedules;
mod site;
mod world;
// The worker as it is, but for libtorch.
#[path = "../../src/worker/shell/mod.rs"]
#[allow(dead_code, unused_imports)]
mod shell;
