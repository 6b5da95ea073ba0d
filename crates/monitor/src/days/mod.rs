//! Days of anything that is watched: sketches that can be merged, what was measured on past days, and how surprising a day is beside them.
//!
//! [`data`](crate::data) watches what arrives with them, [`answers`](crate::answers) what is answered.

mod calibrate;
mod exceeded;
mod follow;
mod history;
mod judge;
pub(crate) mod property;
mod statistic;

use tidemill_features::codec::DecodeError;

pub use calibrate::{DAYS_MIN, FALSE_ALARMS, Surprises};
pub use follow::{Known, Position, SKETCH_DAYS, UNSEEN_DAYS_MAX};
pub use history::{
    BECOMES_USUAL, History, Judged, KnownValues, Track, WINDOWS_MAX, WINDOWS_MIN, Window,
};
pub use property::{Numbers, PropertyDay, VALUE_BYTES_MAX, VALUES_MAX, ValueType};
pub use statistic::{Family, Measure, Statistic, USER_ID, VALUES_MIN};

pub(crate) use exceeded::{Exceeded, FACTOR_MIN, Hint, by_cause, noticed, renamed, unit};
pub(crate) use follow::{Days, Full, Sketched, Tables};
pub(crate) use judge::{Day, Question, Rate, compared_values, learn_values, shifts, stays};
pub(crate) use statistic::{
    mean_count, of_log_odds, of_probabilities, of_values, proportion, volume,
};

/// What is said of bytes in a form that this version does not know.
pub(crate) const NEWER: DecodeError =
    DecodeError("it was written by a newer version: upgrade tidemill");
