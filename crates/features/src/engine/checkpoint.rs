//! Where the states are in the log, and which definitions they belong to.

use serde::{Deserialize, Serialize};
use tidemill_core::{Offset, Project, ProjectName, Timestamp};
use tidemill_store::{StateBatch, StateStore};

use crate::suggest::to_toml;
use crate::{FeatureError, FeatureSet};

/// The table of checkpoints, and its keys.
pub(super) const CHECKPOINTS: &str = "feature_checkpoints";
pub(super) const CURRENT: &[u8] = b"current";
pub(super) const REBUILD: &[u8] = b"rebuild";
/// The project file that the current states were made with; where it names no features, followed by those that were suggested.
pub(super) const SOURCE: &[u8] = b"source";

/// What stands under [`SOURCE`].
pub(super) fn source_of(project: &Project, set: &FeatureSet) -> String {
    if project.features.is_empty() {
        format!("{}\n{}", project.text, to_toml(set.definitions()))
    } else {
        project.text.clone()
    }
}

/// What is stored about a generation of states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) generation: u32,
    /// The hash of the definitions.
    pub(super) hash: String,
    /// The last event in the states.
    pub(super) applied: Offset,
    /// The engine's time there.
    pub(super) now: Timestamp,
    /// The last event in what does not depend on the definitions: items, timelines, what has been seen.
    pub(super) shared: Offset,
    /// Older generations that have not been deleted completely.
    #[serde(default)]
    pub(super) retired: Vec<u32>,
}

impl Checkpoint {
    /// Before the first event.
    pub(super) fn start(generation: u32, set: &FeatureSet) -> Self {
        Self {
            generation,
            hash: set.hash().to_owned(),
            applied: Offset::ZERO,
            now: Timestamp::EPOCH,
            shared: Offset::ZERO,
            retired: Vec::new(),
        }
    }
}

pub(super) fn read_checkpoint(
    project: &ProjectName,
    store: &dyn StateStore,
    key: &[u8],
) -> Result<Option<Checkpoint>, FeatureError> {
    let Some(bytes) = store.get(project, CHECKPOINTS, key)? else {
        return Ok(None);
    };
    let checkpoint = serde_json::from_slice(&bytes);
    checkpoint.map(Some).map_err(|error| {
        FeatureError::damaged("the checkpoint of the feature engine", error.to_string())
    })
}

pub(super) fn write_checkpoint(
    batch: &mut StateBatch,
    key: &[u8],
    checkpoint: &Checkpoint,
) -> Result<(), FeatureError> {
    let json = serde_json::to_vec(checkpoint)
        .map_err(|error| FeatureError::damaged("a checkpoint", error.to_string()))?;
    batch.put(CHECKPOINTS, key, json);
    Ok(())
}
