//! The feature engine from outside, with a state store in memory.

mod definitions;
mod engine;
mod equality;
mod memory;
