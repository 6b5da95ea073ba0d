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

mod examine;
mod expect;
mod finding;
mod measures;
mod sketch;
mod watch;

pub use crate::days::{
    BECOMES_USUAL, DAYS_MIN, FALSE_ALARMS, Family, History, Judged, Known, KnownValues, Measure,
    Numbers, Position, PropertyDay, SKETCH_DAYS, Statistic, Surprises, Track, UNSEEN_DAYS_MAX,
    USER_ID, VALUE_BYTES_MAX, VALUES_MAX, VALUES_MIN, ValueType, WINDOWS_MAX, WINDOWS_MIN, Window,
};
pub use examine::{Examined, Rules, TRACKS_MAX};
pub use finding::{DataFinding, FINDINGS_MAX};
pub use sketch::{EventDay, PROPERTIES_MAX};
pub use watch::{DataWatch, EVENTS_MAX};
