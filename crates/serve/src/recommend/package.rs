//! A trained recommender as it is stored.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::{FeatureColumn, FeatureValue, ModelName, ProjectName, Timestamp};
use tidemill_learn::recommend::{FittedRanker, ItemIndex, Query, Recommendations, Signal};

use crate::package::PackageError;

/// The stored format that this version of the code writes and reads.
const FORMAT: u32 = 1;

/// An event that says what people like, and how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalOf {
    /// The event.
    pub event: String,
    /// Its weight.
    pub weight: f32,
}

/// A question and what the trainer's model recommended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenList {
    /// What was taken, oldest first.
    pub history: Vec<Signal>,
    /// When it was asked, in seconds.
    #[serde(default)]
    pub now: i64,
    /// The features of the person.
    #[serde(default)]
    pub person: Vec<FeatureValue>,
    /// The items in their order.
    pub items: Vec<ItemIndex>,
}

/// A trained recommender. Its artifact is MessagePack (format 1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecommendPackage {
    /// [`FORMAT`].
    pub format: u32,
    /// The project.
    pub project: ProjectName,
    /// The model.
    pub model: ModelName,
    /// The items by their numbers.
    pub items: Vec<Arc<str>>,
    /// What it reads of a history.
    pub signals: Vec<SignalOf>,
    /// The fitted model.
    pub fitted: Recommendations,
    /// The feature that people are divided by; absent where they are not.
    #[serde(default)]
    pub segment: Option<FeatureColumn>,
    /// What everybody takes, best first: the answer where nothing else is known.
    pub popular: Vec<ItemIndex>,
    /// The definitions of the features that it reads of people; empty where it reads none.
    #[serde(default)]
    pub definition_hash: String,
    /// Events up to here were learnt from.
    pub learnt_until: Timestamp,
    /// Proof against damage and drift between trainer and server.
    pub golden: Vec<GoldenList>,
}

impl RecommendPackage {
    /// A package of the newest format.
    pub fn new(
        (project, model): (ProjectName, ModelName),
        items: Vec<Arc<str>>,
        signals: Vec<SignalOf>,
        fitted: Recommendations,
        popular: Vec<ItemIndex>,
        learnt_until: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT,
            project,
            model,
            items,
            signals,
            fitted,
            segment: None,
            popular,
            definition_hash: String::new(),
            learnt_until,
            golden: Vec::new(),
        }
    }

    /// With the definitions of the features that it reads.
    #[must_use]
    pub fn with_definitions(mut self, hash: &str) -> Self {
        hash.clone_into(&mut self.definition_hash);
        self
    }

    /// With the feature that people are divided by.
    #[must_use]
    pub fn with_segment(mut self, segment: Option<FeatureColumn>) -> Self {
        self.segment = segment;
        self
    }

    /// With questions that it answers now: it must answer them so for ever.
    #[must_use]
    pub fn with_golden(mut self, questions: Vec<GoldenList>) -> Self {
        let golden = questions.into_iter().map(|question| GoldenList {
            items: self.best(&question),
            ..question
        });
        self.golden = golden.collect();
        self
    }

    /// The features of people that it reads: those of the ranker, and the one that they are divided by.
    pub fn person_features(&self) -> Vec<FeatureColumn> {
        let ranked = self.ranked_features().iter();
        let segment = self.segment.iter();
        let further =
            segment.filter(|_| self.segment_place() == Some(self.ranked_features().len()));
        ranked.chain(further).cloned().collect()
    }

    fn ranked_features(&self) -> &[FeatureColumn] {
        let ranker = self.fitted.ranker();
        ranker.map_or(&[], FittedRanker::person_features)
    }

    /// Where the person's segment is among these features.
    fn segment_place(&self) -> Option<usize> {
        let segment = self.segment.as_ref()?;
        let ranked = self.ranked_features();
        let place = ranked.iter().position(|column| column.name == segment.name);
        Some(place.unwrap_or(ranked.len()))
    }

    /// A question about somebody with these [features](Self::person_features); without any where nothing is known of them.
    pub fn query<'q>(
        &self,
        history: &'q [Signal],
        now: i64,
        person: &'q [FeatureValue],
    ) -> Query<'q> {
        let segment = self.segment_place().and_then(|place| person.get(place));
        let ranked = self.ranked_features().len().min(person.len());
        Query {
            now,
            segment: match segment {
                Some(FeatureValue::Category(text)) => Some(text),
                _ => None,
            },
            person: &person[..ranked],
            ..Query::new(history)
        }
    }

    /// What it recommends to a golden question.
    fn best(&self, golden: &GoldenList) -> Vec<ItemIndex> {
        const GOLDEN_ITEMS: usize = 10;
        let mut scratch = self.fitted.scratch();
        let query = self.query(&golden.history, golden.now, &golden.person);
        let ranked = self.fitted.recommend(&query, GOLDEN_ITEMS, &mut scratch);
        ranked.into_iter().map(|(item, _)| item).collect()
    }

    /// The bytes of the artifact; the same package gives the same bytes.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PackageError> {
        rmp_serde::to_vec_named(self).map_err(|error| PackageError::Damaged(error.to_string()))
    }

    /// Reads an artifact and proves that it answers every golden history as the trainer did.
    ///
    /// # Errors
    /// When it is unreadable, newer, or answers otherwise.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackageError> {
        let package: Self = rmp_serde::from_slice(bytes)
            .map_err(|error| PackageError::Damaged(error.to_string()))?;
        if package.format > FORMAT {
            return Err(PackageError::Newer {
                found: package.format,
            });
        }
        for (row, golden) in package.golden.iter().enumerate() {
            let found = package.best(golden);
            if found != golden.items {
                let numbers = |items: &[ItemIndex]| items.iter().copied().map(f64::from).collect();
                return Err(PackageError::Golden {
                    row,
                    expected: numbers(&golden.items),
                    found: numbers(&found),
                });
            }
        }
        Ok(package)
    }

    /// The numbers of the items.
    pub fn index(&self) -> HashMap<Arc<str>, ItemIndex> {
        self.items.iter().cloned().zip(0..).collect()
    }
}
