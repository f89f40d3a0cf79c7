//! The lab, end to end on small data, and against PyTorch.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a panic is how a test fails

#[path = "../../src/lab/mod.rs"]
#[allow(dead_code, unused_imports)] // the worker uses what these tests do not
mod lab;
// For its unit tests: what it does as a program is tested by tests/cli.
#[path = "../../src/worker/mod.rs"]
#[allow(dead_code, unused_imports)]
mod worker;

mod attacks;
mod cascade;
mod certify;
mod given;
mod golden;
mod golden_autoattack;
mod golden_methods;
mod golden_norms;
mod mnist;
mod models;
mod options;
mod regions;
mod setting;
mod shapes;
mod training;
mod uncertainty;
mod warm;
mod witnesses;
