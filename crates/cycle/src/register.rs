//! Runs and versions in the catalog, whatever kind of model they are of.

use serde::{Deserialize, Serialize};
use tidemill_core::{ModelName, RunId, Timestamp};
use tidemill_evaluate::Verdict;
use tidemill_serve::PackageError;
use tidemill_store::catalog::{Run, RunState, Version};
use tidemill_store::{ArtifactHash, StoreError};

use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// Where a run looks for a version that it registered before the process ended.
const VERSIONS_LOOKED_AT: u32 = 20;

/// What a run does, one after the other. What it has done is in the catalog, so that it goes on from there when the process has ended in the
/// middle of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reads the rows out of the events.
    #[default]
    Dataset,
    /// Fits the model.
    Fit,
    /// Examines what was fitted.
    Examine,
    /// Registers the version, and lets it take over if it passed.
    Register,
}

impl Stage {
    /// What a run in this stage does, for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Dataset => "reads what it learns from",
            Self::Fit => "fits the model",
            Self::Examine => "examines what was fitted",
            Self::Register => "registers the version",
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does now, or did last.
    pub stage: Stage,
    /// In which stages the process ended, and after the next start it went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Stage>,
    /// The packaged model, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactHash>,
}

impl Progress {
    /// What there is to register, where a run has come so far.
    pub(crate) fn made(&self, examined: Option<&Verdict>) -> Option<Made> {
        let artifact = self.artifact.as_ref();
        let artifact = artifact.filter(|_| self.stage == Stage::Register)?;
        Some(Made {
            artifact: artifact.clone(),
            verdict: examined?.clone(),
        })
    }
}

/// The record of a run, whatever kind of model it is of.
pub(crate) trait Detail: Serialize + Send {
    fn progress(&mut self) -> &mut Progress;
}

/// A run that has begun.
pub(crate) struct Begun<D> {
    pub(crate) run: Run,
    pub(crate) detail: D,
    /// What computing came to; nothing before it.
    pub(crate) made: Option<Result<Made, Stopped>>,
}

/// What computing brings: a package, and what the gate says of it.
pub(crate) struct Made {
    pub(crate) artifact: ArtifactHash,
    pub(crate) verdict: Verdict,
}

/// Why a run stops without a version.
pub(crate) enum Stopped {
    /// Nothing broke.
    TooLittle(String),
    Failed(CycleError),
}

impl From<CycleError> for Stopped {
    fn from(error: CycleError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl<D> Begun<D> {
    pub(crate) fn new(run: Run, detail: D) -> Self {
        Self {
            run,
            detail,
            made: None,
        }
    }

    /// Leaves out computing, for a reason.
    pub(crate) fn fail(&mut self, error: CycleError) {
        self.made = Some(Err(error.into()));
    }
}

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
            summary: Stage::default().sentence().to_owned(),
            detail: serde_json::Value::Null,
        }
    }

    /// Writes down that a run has come to a stage, with all that it has done so far.
    pub(crate) async fn reach(
        &self,
        run: &mut Run,
        detail: &mut impl Detail,
        stage: Stage,
    ) -> Result<(), CycleError> {
        detail.progress().stage = stage;
        stage.sentence().clone_into(&mut run.summary);
        run.detail = to_json(detail)?;
        Ok(self.stores.catalog.put_run(run).await?)
    }

    /// Stores a packaged model.
    pub(crate) async fn keep_package(
        &self,
        model: &ModelName,
        bytes: Result<Vec<u8>, PackageError>,
    ) -> Result<ArtifactHash, CycleError> {
        let bytes = bytes.map_err(|source| CycleError::Package {
            version: model.to_string(),
            source,
        })?;
        Ok(self.stores.artifacts.put(bytes).await?)
    }

    /// Registers what was made, promotes it if the gate lets it pass, and writes down how the run ended.
    pub(crate) async fn end<D: Detail>(
        &self,
        begun: Begun<D>,
        actor: &str,
    ) -> Result<Run, CycleError> {
        let Begun {
            mut run,
            mut detail,
            made,
        } = begun;
        let made = made.unwrap_or_else(|| Err(CycleError::Ended("training").into()));
        let result = match made {
            Ok(Made { artifact, verdict }) => self
                .add_version(&mut run, artifact, &mut detail, &verdict, actor)
                .await
                .map_err(Stopped::from),
            Err(stopped) => Err(stopped),
        };
        match result {
            Ok(()) => {}
            Err(Stopped::TooLittle(reason)) => {
                run.state = RunState::Skipped;
                run.summary = reason;
            }
            Err(Stopped::Failed(error)) => {
                run.state = RunState::Failed;
                run.summary = describe(&error);
                tracing::error!(model = %run.model, error = run.summary, "the run failed");
            }
        }
        self.close(&mut run, &detail).await?;
        Ok(run)
    }

    /// Registers the version that a run made; the verdict decides whether it answers from now on.
    async fn add_version(
        &self,
        run: &mut Run,
        artifact: ArtifactHash,
        detail: &mut impl Detail,
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
        let registered = match detail.progress().resumed.as_slice() {
            [] => None,
            _ => self.registered(run).await?,
        };
        let number = match registered {
            Some(number) => number,
            None => self.stores.catalog.add_version(&version).await?,
        };
        run.version = Some(number);
        run.state = match verdict.promoted {
            true => RunState::Passed,
            false => RunState::Refused,
        };
        run.summary = verdict.summary();
        if verdict.promoted && !self.has_taken_over(&run.model, number).await? {
            self.let_take_over(&run.model, number, actor, &run.summary)
                .await?;
        }
        Ok(())
    }

    /// The version that a run registered before the process ended.
    async fn registered(&self, run: &Run) -> Result<Option<u32>, CycleError> {
        let (catalog, project) = (&self.stores.catalog, &self.project.name);
        let newest = catalog.versions(project, &run.model, None, VERSIONS_LOOKED_AT);
        let mut newest = newest.await?.into_iter();
        let found = newest.find(|version| version.run == run.id);
        Ok(found.map(|version| version.number))
    }

    /// Whether a version was let take over already.
    async fn has_taken_over(&self, model: &ModelName, number: u32) -> Result<bool, CycleError> {
        let champion = self.stores.catalog.champion(&self.project.name, model);
        let newest = self.rollouts.newest(model);
        let is_rolled_out = newest.is_some_and(|rollout| rollout.version == number);
        Ok(is_rolled_out || champion.await? == Some(number))
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
