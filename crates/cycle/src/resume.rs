//! After a start: runs that were under way when the process ended go on at the stage that they had not finished.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tidemill_core::ModelName;
use tidemill_store::catalog::{Run, RunState};

use crate::datasets::BuiltDataset;
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::recommend::{self, RecommendDetail, RecommendRun};
use crate::register::{Begun, Detail, Stage};
use crate::run::PredictRun;
use crate::schedule::definition_of;

/// How many runs are looked through for those that are under way.
const RUNS_LOOKED_AT: u32 = 100;
/// In one stage a run goes on so often. When the process ends in it once more, the stage may be why.
const RESUMED_MAX: usize = 2;

impl ProjectLoop {
    /// The runs that were under way when the process ended.
    pub(crate) async fn broken_runs(&self) -> Result<Vec<Run>, CycleError> {
        let catalog = &self.stores.catalog;
        let runs = catalog.runs(&self.project.name, None, None, RUNS_LOOKED_AT);
        let mut broken = runs.await?;
        broken.retain(|run| run.state == RunState::Running);
        broken.reverse();
        Ok(broken)
    }

    /// Lets the runs go on that were under way when the process ended, the oldest first.
    pub(crate) async fn resume_runs(self: &Arc<Self>) -> Result<Vec<Run>, CycleError> {
        if self.broken.lock().is_empty() {
            return Ok(Vec::new());
        }
        let this = self.clone();
        self.beside(async move {
            let _one_at_a_time = this.running.lock().await;
            this.catch_up().await?;
            this.land(true).await?;
            let mut ended = Vec::new();
            // one that a failing store keeps from its end is still there for the next time
            loop {
                let next = this.broken.lock().first().cloned();
                let Some(run) = next else {
                    break;
                };
                ended.push(this.go_on_with(run).await?);
                this.broken.lock().remove(0);
            }
            Ok(ended)
        })
        .await
    }

    async fn go_on_with(self: &Arc<Self>, run: Run) -> Result<Run, CycleError> {
        let lane = self.training.lanes(1).free().await?;
        if self.is_recommender(&run.model) {
            let asked = recommend::definition_of(&self.recommender(&run.model)?.model);
            let mut begun: RecommendRun = go_on(run, |detail: &RecommendDetail| {
                detail.definition.is_empty() || detail.definition == asked
            });
            if self.goes_on(&mut begun).await? {
                self.compute_recommender(&mut begun, lane).await;
            }
            return self.end(begun, SYSTEM).await;
        }
        let asked = self.asked_now(&run.model)?;
        let mut begun: PredictRun = go_on(run, |_| asked);
        if self.goes_on(&mut begun).await? {
            match self.rows_again(&mut begun, &lane).await {
                Ok(built) => self.compute(&mut begun, built, lane).await,
                Err(error) => begun.fail(error),
            }
        }
        self.end(begun, SYSTEM).await
    }

    /// Whether a model is asked what its newest run was asked.
    fn asked_now(&self, model: &ModelName) -> Result<bool, CycleError> {
        if self.check_model(model).is_err() || self.is_switching_over() {
            return Ok(false);
        }
        let now = definition_of(self.engine().set(), &self.slot(model)?.model);
        let asked = self.model_state(model)?.definition;
        Ok(asked.is_none_or(|asked| asked == now))
    }

    /// Whether a run goes on; writes down that it does.
    async fn goes_on<D: Detail>(&self, begun: &mut Begun<D>) -> Result<bool, CycleError> {
        let Begun { run, detail, made } = begun;
        if made.is_some() {
            return Ok(false);
        }
        let stage = detail.progress().stage;
        tracing::info!(model = %run.model, id = %run.id, ?stage, "a run goes on after a start");
        self.reach(run, detail, stage).await?;
        Ok(true)
    }

    /// The rows of a run that has none yet: from the events that it saw then, as of its beginning.
    async fn rows_again(
        self: &Arc<Self>,
        begun: &mut PredictRun,
        lane: &Lane,
    ) -> Result<Option<BuiltDataset>, CycleError> {
        if begun.detail.progress.stage > Stage::Dataset {
            return Ok(None);
        }
        let snapshot = match begun.detail.snapshot {
            Some(snapshot) => snapshot,
            None => self.stores.lake.events_snapshot(&self.project.name).await?,
        };
        begun.detail.snapshot = Some(snapshot);
        let models = [begun.run.model.clone()];
        let upto = (snapshot, begun.run.started_at);
        let rows = self.rows(&models, upto, lane).await?.into_iter().next();
        rows.ok_or(CycleError::Ended("building")).map(Some)
    }
}

/// A run as it stood when the process ended, to go on from there; one that must not go on has failed.
fn go_on<D: Detail + DeserializeOwned + Default>(
    run: Run,
    is_asked_the_same: impl FnOnce(&D) -> bool,
) -> Begun<D> {
    let mut detail: D = serde_json::from_value(run.detail.clone()).unwrap_or_default();
    let is_asked_the_same = is_asked_the_same(&detail);
    let progress = detail.progress();
    let stage = progress.stage;
    let before = progress.resumed.iter().filter(|one| **one == stage).count();
    progress.resumed.push(stage);
    let mut begun = Begun::new(run, detail);
    if !is_asked_the_same {
        let reason =
            "the process ended during this run, and what the model is asked has changed since";
        begun.fail(CycleError::NotAllowed(reason.to_owned()));
    } else if before >= RESUMED_MAX {
        let reason = format!(
            "the process ended {} times while this run was in the stage '{}': look in the log for why (memory, the disk); its schedule tries again",
            before + 1,
            stage.sentence()
        );
        begun.fail(CycleError::NotAllowed(reason));
    }
    begun
}
