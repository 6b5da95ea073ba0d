//! The routes from outside, on the real embedded stores: every test builds a world of two projects in a folder of its
//! own and talks to the router as the server does.

#![allow(
    clippy::unwrap_used,
    reason = "what fails here fails the test that it serves"
)]

mod access;
mod administration;
mod answers;
mod datasets;
mod events;
mod operation;
mod world;
