//! What a plan is made of, in words that another machine understands.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};
use tidemill_core::project::{Problem, ProjectError};
use tidemill_core::{ModelName, Project, Timestamp};
use tidemill_store::EventTable;

use crate::dataset::DatasetRequest;
use crate::dataset::asked::Asked;
use crate::{FeatureError, FeatureSet};

/// The rows that are wanted, so that the plan that reads them can be made anywhere: see [`ReplayCodec`](super::ReplayCodec).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecipe {
    /// The text of the project file, with the feature definitions.
    pub project: String,
    /// The models whose rows are read, at most [`REQUESTS_MAX`](crate::dataset::REQUESTS_MAX).
    pub models: Vec<RecipeModel>,
    /// The time up to which everything that happened is in the events.
    pub known_until: Timestamp,
}

/// A model of a [`PlanRecipe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeModel {
    /// Its name in the project file.
    pub name: ModelName,
    /// Observations before this moment are left out.
    pub from: Option<Timestamp>,
}

impl PlanRecipe {
    /// The plan over these events, in that many partitions.
    ///
    /// # Errors
    /// When the project file has errors or lacks a model.
    pub fn plan(
        &self,
        events: &Arc<dyn EventTable>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>, FeatureError> {
        Ok(super::plan(&Arc::new(self.asked()?), events, partitions)?)
    }

    /// What it asks for, compiled.
    pub(super) fn asked(&self) -> Result<Asked, FeatureError> {
        let project = Project::parse(&self.project)?;
        let set = FeatureSet::compile(&project, &project.features)?;
        let request = |wanted: &RecipeModel| {
            let model = project.models.get(&wanted.name);
            let model = model.ok_or_else(|| ProjectError {
                problems: vec![Problem {
                    line: 0,
                    place: format!("models.{}", wanted.name),
                    message: "the project file has no such model".to_owned(),
                    hint: None,
                }],
            })?;
            let features = set.select(model)?;
            let from = wanted.from;
            Ok(DatasetRequest {
                model,
                features,
                from,
            })
        };
        let requests: Vec<DatasetRequest<'_>> = self
            .models
            .iter()
            .map(request)
            .collect::<Result<_, FeatureError>>()?;
        let mut asked = Asked::new(&set, &requests, self.known_until)?;
        asked.recipe = Some(self.clone());
        Ok(asked)
    }
}
