//! The programs as users start them: real processes, real sweeps on the embedded digits.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a panic is how a test fails

mod artifacts;
mod bad_input;
mod chaos;
mod data;
mod devices;
mod distributed;
mod faults;
mod given;
mod harness;
mod hosts;
mod kubernetes;
mod launch;
mod logs;
mod measures;
mod metrics;
mod resume;
mod s3;
mod secured;
mod slurm;
mod steering;
mod traces;
mod witnesses;
