//! Watching what is answered: by which version or fallback, with which scores, from which features, and whether that is as it was.
//!
//! ```text
//! decision log ─► AnswerWatch::apply ─► AnswerDay per version and day (sketches that can be merged)
//!                                          │ once a day is over
//!                                          ▼
//!                 AnswerWatch::examine ─► each question beside its own past ─► threshold from past days ─► AnswerFinding by cause
//! ```
//!
//! How far a day may be from the others is what past days were, as for what arrives (`days`, `docs/answers.md`). Features are
//! compared from day to day whichever version read them; answers within a version, and while it is new over versions.

mod examine;
mod finding;
mod lists;
mod sketch;
mod skew;
mod watch;

pub use examine::AnswersExamined;
pub use finding::{AnswerFinding, reason};
pub use lists::{ListDay, MOST_SHOWN, Shown};
pub use sketch::{AnswerDay, AnswerKind, FALLBACKS, FEATURES_MAX, ReadFeatures, Watched};
pub use skew::{SKEWED_FROM, Skew, SkewedFeature, skew};
pub use watch::{AnswerWatch, Reads, VERSIONS_MAX};
