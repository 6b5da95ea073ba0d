//! Comparisons of people who were treated differently: who gets what, how large the difference is and how sure that is whenever one
//! looks, and whether the comparison can be trusted at all.
//!
//! - [`assign`](tidemill_core::assign): who is in which arm, by a published hash.
//! - [`compare`](self::compare): differences of means and ratios between arms, with less variance where something was known before.
//! - [`sequence`](self::sequence): intervals that hold however often one looks.
//! - [`sample_ratio`](self::sample_ratio): whether the arms are as large as they were meant to be.
//! - [`rate`](self::rate): whether something happens more often than it may.
//! - [`off_policy`](self::off_policy): what another policy would have earned, from the log of the present one.

pub mod compare;
pub mod off_policy;
pub mod rate;
pub mod sample_ratio;
pub mod sequence;

pub use compare::{Arm, Comparison, compare};
pub use off_policy::{Logged, OffPolicy, off_policy};
pub use rate::{is_rate_above, rate_evidence};
pub use sample_ratio::SampleRatio;
pub use sequence::Sequence;
pub use tidemill_core::assign::{Variations, bucket};
