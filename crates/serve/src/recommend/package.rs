//! A trained recommender as it is stored.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::{ModelName, ProjectName, Timestamp};
use tidemill_learn::recommend::{ItemIndex, Query, Recommendations, Signal};

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

/// A history and what the trainer's model recommended for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenList {
    /// What was taken, oldest first.
    pub history: Vec<Signal>,
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
    /// What everybody takes, best first: the answer where nothing else is known.
    pub popular: Vec<ItemIndex>,
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
        histories: impl Iterator<Item = Vec<Signal>>,
    ) -> Self {
        let mut package = Self {
            format: FORMAT,
            project,
            model,
            items,
            signals,
            fitted,
            popular,
            learnt_until,
            golden: Vec::new(),
        };
        let golden = histories.map(|history| GoldenList {
            items: package.best(&history),
            history,
        });
        package.golden = golden.collect();
        package
    }

    /// What it recommends for a history.
    fn best(&self, history: &[Signal]) -> Vec<ItemIndex> {
        const GOLDEN_ITEMS: usize = 10;
        let mut scratch = self.fitted.scratch();
        let ranked = self
            .fitted
            .recommend(&Query::new(history), GOLDEN_ITEMS, &mut scratch);
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
            let found = package.best(&golden.history);
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
