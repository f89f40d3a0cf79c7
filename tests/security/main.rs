//! What docs/security.md promises, against a coordinator of this process: its real listener, core and
//! ledger. The workers here compute nothing: they answer by the hash of the question, so that a sweep
//! takes a second, needs no libtorch, and still gives files that can be compared byte by byte.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a panic is how a test fails; floods say how large they were

mod floods;
mod harness;
mod lies;
mod proofs;
mod renewal;
