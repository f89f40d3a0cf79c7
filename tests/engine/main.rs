//! Random schedules for the engine, and the rules of the house. Neither needs libtorch.
//!
//! A schedule drives a small world (three workers, a network that loses, repeats, delays and
//! reorders, a coordinator that crashes) through faults; then the faults end, and every sweep that
//! is still wanted must come to its end. `EPSWEEP_SCHEDULES=100000` runs as many schedules, `EPSWEEP_STEPS=1000` makes each
//! so long, `EPSWEEP_SEED=1` draws others.

mod deploy;
mod house;
mod laws;
mod peers;
mod schedules;
mod sights;
mod steps;
mod sweeps;
mod world;
