//! Recommendations: from a person, a session or an item to a list of items, with reasons and a logged decision.
//!
//! ```text
//! history ─► candidates ─► may be shown? ─► worth more? ─► unlike one another, now and then at random ─► list
//!            (package)     (catalogue,      (boost)        (choose)
//!                           filter, seen)
//! ```

mod answer;
mod ask;
mod batch;
mod catalogue;
mod choose;
mod fresh;
mod list;
mod package;
mod shown;
mod slot;
mod trial;

pub use answer::{RankRequest, RecommendRequest, Recommendation, RecommendedItem, SimilarRequest};
pub(crate) use ask::OwnAsk;
pub use batch::{BatchPage, BatchRequest, PersonList};
pub use catalogue::Catalogue;
pub use choose::{Chosen, Rules, choose};
pub use package::{GoldenList, RecommendPackage, SignalOf};
pub use shown::ShownLately;
pub use slot::{CaughtUp, RecommendChampion, RecommendSlot, Rulebook};
