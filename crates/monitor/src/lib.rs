//! Stage 6 of the loop: what happened after the answers, how good they were, and the numbers that operators
//! watch.
//!
//! [`OutcomeJoiner`] joins decisions with the events that follow them, with the same target code that labels
//! training rows. [`quality`] turns joined outcomes into live quality. [`DataWatch`] keeps what arrives day by day and says what
//! differs, [`AnswerWatch`] what is answered. [`Metrics`] is what `/metrics` shows. This
//! crate is *not* where anything is decided about versions: that is the cycle.

pub mod alerts;
pub mod answers;
pub mod data;
mod days;
pub mod list_quality;
pub mod metrics;
pub mod outcomes;
pub mod quality;
pub mod traffic;

pub use alerts::AlertBook;
pub use answers::AnswerWatch;
pub use data::DataWatch;
pub use list_quality::{ListQuality, list_quality};
pub use metrics::Metrics;
pub use outcomes::{MonitorError, OutcomeJoiner};
pub use quality::{EstimatedQuality, LiveQuality, live_quality};
