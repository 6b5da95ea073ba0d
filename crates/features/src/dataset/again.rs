//! Rows that were served, read again offline at the same places of the log: whether training sees what serving saw.

use std::sync::Arc;

use futures::TryStreamExt;
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureTable, Offset, Timestamp};
use tidemill_store::EventTable;

use super::asked::Asked;
use super::{ReplayOptions, assemble, cause, replay};
use crate::{FeatureError, ModelFeatures};

/// Where somebody's features were read online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Whose.
    pub person: PersonKey,
    /// The moment that was asked for.
    pub moment: Timestamp,
    /// The last event that had been applied.
    pub offset: Offset,
}

/// The features of somebody at each of these places, in their order, as a dataset would have them.
///
/// # Errors
/// When the events cannot be read or are not in the order of the log, or memory and disk do not suffice.
pub async fn read_again(
    features: &ModelFeatures,
    served: &[Served],
    events: Arc<dyn EventTable>,
    options: &ReplayOptions,
) -> Result<FeatureTable, FeatureError> {
    let mut order: Vec<usize> = (0..served.len()).collect();
    order.sort_by_key(|&place| served[place].offset);
    let sorted = order.iter().map(|&place| served[place].clone()).collect();
    let asked = Arc::new(Asked::served(features, sorted));
    let plan = replay::plan(&asked, &events, options.partitions)?;
    let rows = replay::rows(&plan, options)?.try_collect::<Vec<_>>().await;
    let table = assemble::served(&asked, &rows.map_err(cause)?)?;
    let mut back = vec![0; order.len()];
    for (row, place) in order.into_iter().enumerate() {
        back[place] = row;
    }
    Ok(table.take(&back))
}
