//! The lab, end to end on small data, and against PyTorch.

mod attacks;
mod golden;
mod mnist;
mod setting;
mod training;
