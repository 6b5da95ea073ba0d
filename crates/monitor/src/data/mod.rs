//! Watching what arrives: how much, how complete, with which values, and whether that is as it was.
//!
//! ```text
//! log ─► DataWatch::apply ─► EventDay per event and day (sketches that can be merged)
//!                               │ once a day is over
//!                               ▼
//!        DataWatch::examine ─► each question beside its own past ─► score ─► threshold from past days ─► DataFinding by cause
//! ```
//!
//! Nothing here knows a fixed threshold for what is strange: how far a day may be from the others is what past days were (`docs/data.md`).

mod calibrate;
mod examine;
mod expect;
mod finding;
mod history;
mod sketch;
mod statistic;
mod watch;

pub use calibrate::{DAYS_MIN, FALSE_ALARMS, Surprises};
pub use examine::{Examined, Rules};
pub use finding::{DataFinding, FINDINGS_MAX};
pub use history::{
    BECOMES_USUAL, History, Judged, KnownValues, Track, WINDOWS_MAX, WINDOWS_MIN, Window,
};
pub use sketch::{
    EventDay, Numbers, PROPERTIES_MAX, PropertyDay, VALUE_BYTES_MAX, VALUES_MAX, ValueType,
};
pub use statistic::{Family, Measure, Statistic, USER_ID, VALUES_MIN};
pub use watch::{DataWatch, EVENTS_MAX, Known, Position, SKETCH_DAYS, UNSEEN_DAYS_MAX};
