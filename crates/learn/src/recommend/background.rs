//! What is known beside what was taken.

use tidemill_core::feature::FeatureTable;

use super::content::Description;

/// What is known of the items and the people beside their signals. All of it may be empty.
///
/// Nothing may look into the future: what is held back is answered from `items_then` and `described_then`, as things stood when that began,
/// and from the features that its people had at the moment of the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// The attributes of the items when what is held back began, a row per item in the order of their numbers.
    pub items_then: FeatureTable,
    /// The same columns as they are at the end of the data.
    pub items: FeatureTable,
    /// The words of the items when what is held back began.
    pub described_then: Vec<Description>,
    /// And at the end of the data.
    pub described: Vec<Description>,
    /// The features of the persons whom the cases are about, a row per case of the [`Holdout`](super::Holdout), and then one for each of
    /// its lists that were shown.
    pub persons: FeatureTable,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            items_then: FeatureTable::new(Vec::new()),
            items: FeatureTable::new(Vec::new()),
            described_then: Vec::new(),
            described: Vec::new(),
            persons: FeatureTable::new(Vec::new()),
        }
    }
}
