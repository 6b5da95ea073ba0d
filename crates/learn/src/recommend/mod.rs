//! Recommendations: which items a history of items asks for.
//!
//! [`Interactions`] hold what people did, one history per person or session. A *source* learns from them and scores items
//! for a [`Query`]: the [`ItemGraph`] (what goes with what), [`SessionNeighbours`] (what came next in sessions like
//! this one), [`Embeddings`] (a factor model trained with a softmax), [`Spectrum`] (a low-pass filter), [`Popular`] (over all) and
//! [`PopularIn`] (among people of a kind), and [`Content`] for what is new. A [`Blend`] weighs them by what they were worth on a validation part, a [`Ranker`] puts the best in order by
//! all that is known of items and people ([`Background`]), and a [`Recommender`] is all of it with defaults: hold a part back, fit, weigh, fit
//! again on everything.
//!
//! Items are dense numbers here ([`ItemIndex`]); whoever calls keeps the table of names. Nothing reads a clock: ages come
//! from the times in the data. The same data and seed give the same bytes.

mod accumulator;
mod any_source;
mod background;
mod blend;
mod choice;
pub mod conformance;
mod content;
mod embeddings;
mod examination;
mod holdout;
mod interactions;
mod item_graph;
mod live_links;
mod pinned;
mod popular;
mod popular_in;
mod query;
mod ranker;
mod recommender;
mod repeats;
mod sessions;
mod spectral;
mod vectors;

pub use accumulator::Accumulator;
pub use any_source::{FittedSource, SourceParameters};
pub use background::Background;
pub use blend::{Blend, BlendWeights, Candidates, Scratch, length_class};
pub use content::{Content, Description};
pub use embeddings::{EmbeddingModel, Embeddings};
pub use holdout::{Case, Holdout, Question, ShownList};
pub use interactions::{Interactions, InteractionsBuilder, Segment, Signal};
pub use item_graph::{Graph, ItemGraph};
pub use live_links::LiveLinks;
pub use pinned::{Pinned, UnknownSource};
pub use popular::{Popular, Popularity};
pub use popular_in::{PopularIn, SegmentPopularity};
pub use query::{Fixed, FreshScores, Query, Source};
pub use ranker::{FittedRanker, ListTrees, Ranker, RankerRecord};
pub use recommender::{Recommendations, Recommender, Record, SourceRecord};
pub use repeats::Repeats;
pub use sessions::{SessionMemory, SessionNeighbours};
pub use spectral::{Spectral, Spectrum};

/// An item by its place in the caller's table of names.
pub type ItemIndex = u32;
