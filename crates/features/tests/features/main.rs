//! The feature engine from outside, with a state store in memory.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod brute_force;
mod datasets;
mod definitions;
mod engine;
mod equality;
mod parts;
mod plans;
mod samples;
mod window;
