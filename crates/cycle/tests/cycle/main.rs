//! The loop from outside, with the stores of one machine.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod alerts;
mod answers;
mod consistency;
mod consume;
mod data;
mod datasets;
mod gate;
mod library;
mod list_rollout;
mod proofs;
#[path = "../../../monitor/tests/support/shop.rs"]
mod real_shop;
mod records;
mod resume;
mod rollout;
mod shop;
mod side_by_side;
#[path = "../support/spoilt.rs"]
mod spoilt;
mod value;
