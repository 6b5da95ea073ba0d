//! Runs and versions in the catalog, whatever kind of model they are of.

use serde::Serialize;
use tidemill_core::{ModelName, RunId, Timestamp};
use tidemill_evaluate::Verdict;
use tidemill_store::catalog::{Run, RunState, Version};
use tidemill_store::{ArtifactHash, StoreError};

use crate::project_loop::{CycleError, ProjectLoop};

impl ProjectLoop {
    /// A run that begins now.
    pub(crate) fn new_run(&self, model: &ModelName, trigger: &str, now: Timestamp) -> Run {
        Run {
            id: RunId::new(now, self.answerer.random()),
            project: self.project.name.clone(),
            model: model.clone(),
            trigger: trigger.to_owned(),
            state: RunState::Running,
            started_at: now,
            finished_at: None,
            version: None,
            summary: "under way".to_owned(),
            detail: serde_json::Value::Null,
        }
    }

    /// Registers the version that a run made; the verdict decides whether it answers from now on.
    pub(crate) async fn add_version(
        &self,
        run: &mut Run,
        artifact: ArtifactHash,
        detail: &impl Serialize,
        verdict: &Verdict,
        actor: &str,
    ) -> Result<(), CycleError> {
        let version = Version {
            project: self.project.name.clone(),
            model: run.model.clone(),
            number: 0,
            run: run.id,
            created_at: self.clock.now(),
            artifact,
            passed: verdict.promoted,
            detail: to_json(detail)?,
        };
        let number = self.stores.catalog.add_version(&version).await?;
        run.version = Some(number);
        run.state = match verdict.promoted {
            true => RunState::Passed,
            false => RunState::Refused,
        };
        run.summary = verdict.summary();
        if verdict.promoted {
            self.let_take_over(&run.model, number, actor, &run.summary)
                .await?;
        }
        Ok(())
    }

    /// Writes down how a run ended.
    pub(crate) async fn close(
        &self,
        run: &mut Run,
        detail: &impl Serialize,
    ) -> Result<(), CycleError> {
        run.finished_at = Some(self.clock.now());
        run.detail = to_json(detail)?;
        self.stores.catalog.put_run(run).await?;
        let state = serde_json::to_value(run.state).ok();
        let state = state
            .as_ref()
            .and_then(|state| state.as_str())
            .unwrap_or("ended");
        self.metrics
            .run_ended(self.project.name.as_str(), run.model.as_str(), state);
        Ok(())
    }
}

fn to_json(detail: &impl Serialize) -> Result<serde_json::Value, CycleError> {
    serde_json::to_value(detail).map_err(|source| {
        StoreError::Backend {
            action: "encode the record of a run",
            source: source.into(),
        }
        .into()
    })
}
