//! Accumulators: what is remembered of an entity's events so that its features can be read at any later moment.
//!
//! ```text
//! EntityState = one Accumulator per declared aggregate + the session + pairs + events stamped in the future, which wait
//! Accumulator = tiles of [`Cell`]s for windows | one Cell since the beginning, or of the newest | a decaying number | an attribute
//! ```
//!
//! Everything here is a pure function of the sequence of updates and merges, so the same sequence gives the same bits
//! wherever it runs: live, in a rebuild, in a dataset. That is the whole of "online equals offline".
//!
//! `docs/features.md` has the table of all operations with the size of their state and their error.

mod cell;
mod distinct;
mod latest;
mod parts;
mod quantile;
mod reading;
mod spread;
mod state;
mod tiles;
mod top;

pub use cell::{Cell, Place};
pub(crate) use distinct::hash_text;
pub use distinct::{DISTINCT_EXACT_BELOW, Distinct};
pub use latest::Latest;
pub use parts::{PARTNERS_MAX, PairPlan, Part};
pub use quantile::{QUANTILE_BINS_MAX, QUANTILE_EXACT_BELOW, Sketch};
pub use spread::Spread;
pub(crate) use state::in_words;
pub use state::{Accumulator, AggregatePlan, EntityState, Extracted, PENDING_MAX, StatePlan, Step};
pub use tiles::{Tile, Tiles, Windows, hop};
pub use top::{TOP_PER_CELL_MAX, Top};
