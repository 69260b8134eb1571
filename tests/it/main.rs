//! One binary for everything that looks at the house as a whole.
//!
//! In: the workspace's own files, the services `cargo xtask test` starts, the built binaries.
//! Out: pass or fail. Never here: tests of one room; they live in their room.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests may stop the test"
)]

mod bad_input;
mod faults;
mod frames;
mod house;
mod journey;
mod rig;
mod story;
mod tidy;
