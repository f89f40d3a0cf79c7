//! The programs as users start them: real processes, real sweeps on the embedded digits.

mod bad_input;
mod distributed;
mod harness;
mod logs;
mod resume;
