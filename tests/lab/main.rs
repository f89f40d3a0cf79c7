//! The lab, end to end on small data, and against PyTorch.

#[path = "../../src/lab/mod.rs"]
#[allow(dead_code)] // the worker uses what these tests do not
mod lab;

mod attacks;
mod golden;
mod mnist;
mod setting;
mod training;
