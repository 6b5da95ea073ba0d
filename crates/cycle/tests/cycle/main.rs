//! The loop from outside, with the stores of one machine.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod alerts;
mod consistency;
mod datasets;
mod rollout;
mod shop;
mod value;
