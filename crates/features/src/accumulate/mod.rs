//! Accumulators: what is remembered of an entity's events so that its features can be read at any later moment.
//!
//! ```text
//! EntityState = one Accumulator per declared aggregate + events stamped in the future, which wait
//! Accumulator = tiles of [`Cell`]s for windows | one Cell since the beginning | a decaying number
//! ```
//!
//! Everything here is a pure function of the sequence of updates and merges, so the same sequence gives the same bits
//! wherever it runs: live, in a rebuild, in a dataset. That is the whole of "online equals offline".

pub(crate) mod cell;
mod state;
mod tiles;

pub use cell::{Cell, DISTINCT_EXACT_BELOW, Place, TOP_PER_CELL_MAX};
pub(crate) use state::in_words;
pub use state::{Accumulator, AggregatePlan, EntityState, Extracted, PENDING_MAX, StatePlan, Step};
pub use tiles::{Tile, Tiles, Windows, hop};
