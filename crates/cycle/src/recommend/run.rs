//! A run of a model that recommends: what was taken, fit, examination, registration, and promotion if the gate lets it pass.

use std::sync::Arc;

use tidemill_core::clock::Stopwatch;
use tidemill_core::project::RecommendModel;
use tidemill_core::{ModelName, Timestamp};
use tidemill_serve::recommend::{RecommendChampion, RecommendPackage};
use tidemill_store::catalog::{Run, RunState};

use super::accepted::{TakenBefore, judge};
use super::divide::most_taken;
use super::examine::{Examining, RecommendExamination};
use super::{CASES_MIN, Learning, RecommendDetail, RecommendSeconds, definition_of, signals_of};
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// Histories whose lists prove a packaged model.
const GOLDEN: usize = 20;

/// A run of a model that recommends.
pub(crate) struct RecommendRun {
    run: Run,
    declared: RecommendModel,
    detail: RecommendDetail,
    /// What computing came to; nothing before it.
    made: Option<Result<Made, CycleError>>,
}

impl RecommendRun {
    /// Leaves out computing, for a reason.
    pub(crate) fn fail(&mut self, error: CycleError) {
        self.made = Some(Err(error));
    }
}

/// What the working thread of a run brings back.
struct Made {
    package: Option<RecommendPackage>,
    popular: Vec<Arc<str>>,
    divided_from: Timestamp,
    cases: usize,
    examination: Option<RecommendExamination>,
    seconds: RecommendSeconds,
}

impl ProjectLoop {
    /// Begins a run. The caller holds the lock of runs.
    pub(crate) async fn begin_recommender(
        &self,
        model: &ModelName,
        trigger: &str,
        now: Timestamp,
    ) -> Result<RecommendRun, CycleError> {
        let run = self.new_run(model, trigger, now);
        self.stores.catalog.put_run(&run).await?;
        let declared = self.recommender(model)?.model.clone();
        let seen = self.engine().seen();
        let count = |event: &String| seen.events.get(event).map_or(0, |event| event.count);
        let mut state = self.model_state(model)?;
        state.last_run = Some(now);
        state.last_targets = declared.signals.keys().map(count).sum();
        state.definition = Some(definition_of(&declared));
        self.put_model_state(model, &state)?;
        Ok(RecommendRun {
            run,
            detail: RecommendDetail {
                definition: definition_of(&declared),
                ..RecommendDetail::default()
            },
            declared,
            made: None,
        })
    }

    /// Reads what was taken, learns and examines.
    pub(crate) async fn compute_recommender(
        self: &Arc<Self>,
        begun: &mut RecommendRun,
        lane: Lane,
    ) {
        let RecommendRun {
            declared,
            detail,
            made,
            ..
        } = begun;
        *made = Some(self.learn(declared, detail, lane).await);
    }

    async fn learn(
        self: &Arc<Self>,
        model: &RecommendModel,
        detail: &mut RecommendDetail,
        lane: Lane,
    ) -> Result<Made, CycleError> {
        let stopwatch = Stopwatch::start();
        let (log, table) = self.taken(model, detail).await?;
        let before = self.taken_before(&model.name).await?;
        let mut learning = self.prepare(model, log, (table, &lane)).await?;
        if let Some(chosen) = before.choice(&detail.definition) {
            let signals = learning.divided.train.len();
            learning.recommender = learning.recommender.taking_over(chosen, signals);
        }
        detail.seconds.read = stopwatch.seconds();
        let champion = self.recommender(&model.name)?.champion();
        let (this, declared) = (self.clone(), model.clone());
        tokio::task::spawn_blocking(move || {
            lane.install(|| {
                this.make_recommender(&declared, learning, champion.as_deref(), &before)
            })
        })
        .await
        .map_err(|_| CycleError::Ended("training"))
    }

    /// Registers what was learnt, promotes it if the gate lets it pass, and writes down how the run ended.
    pub(crate) async fn end_recommender(
        &self,
        computed: RecommendRun,
        actor: &str,
    ) -> Result<Run, CycleError> {
        let RecommendRun {
            mut run,
            declared,
            mut detail,
            made,
        } = computed;
        let made = made.unwrap_or(Err(CycleError::Ended("training")));
        let result = match made {
            Ok(made) => {
                self.register_recommender(&declared, &mut run, &mut detail, (made, actor))
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            run.state = RunState::Failed;
            run.summary = describe(&error);
            tracing::error!(model = %run.model, error = run.summary, "the run failed");
        }
        self.close(&mut run, &detail).await?;
        Ok(run)
    }

    async fn register_recommender(
        &self,
        model: &RecommendModel,
        run: &mut Run,
        detail: &mut RecommendDetail,
        (made, actor): (Made, &str),
    ) -> Result<(), CycleError> {
        let Made {
            package,
            popular,
            divided_from,
            cases,
            examination,
            seconds,
        } = made;
        self.note_popular(model, popular)?;
        detail.examined_from = Some(divided_from);
        detail.cases = cases;
        detail.seconds.fit = seconds.fit;
        detail.seconds.examine = seconds.examine;
        let (Some(package), Some(examination)) = (package, examination) else {
            run.state = RunState::Skipped;
            run.summary = format!(
                "there is too little to learn from yet: {cases} persons took something in the newest period, {CASES_MIN} are needed"
            );
            return Ok(());
        };
        detail.record = Some(package.fitted.record().clone());
        detail.examination = Some(examination.clone());
        let bytes = package.to_bytes().map_err(|source| CycleError::Package {
            version: model.name.to_string(),
            source,
        })?;
        let artifact = self.stores.artifacts.put(bytes).await?;
        self.add_version(run, artifact, detail, &examination.verdict, actor)
            .await
    }

    /// The part of a run that computes; it runs on the training threads.
    fn make_recommender(
        &self,
        model: &RecommendModel,
        learning: Learning,
        champion: Option<&RecommendChampion>,
        before: &TakenBefore,
    ) -> Made {
        let stopwatch = Stopwatch::start();
        let (log, divided) = (&learning.log, &learning.divided);
        let popular = most_taken(&divided.train);
        let mut made = Made {
            package: None,
            popular: popular
                .iter()
                .map(|item| log.items[*item as usize].clone())
                .collect(),
            divided_from: divided.examined_from,
            cases: divided.cases.len(),
            examination: None,
            seconds: RecommendSeconds::default(),
        };
        if divided.cases.len() < CASES_MIN {
            return made;
        }
        let fitted =
            learning
                .recommender
                .fit_with(&divided.train, learning.holdout, &learning.background);
        let used = &fitted.record().sources;
        for named in model.sources.iter().flatten().map(|named| &named.name.text) {
            if used.iter().all(|source| source.parameters.name() != named) {
                tracing::warn!(model = %model.name, source = named, "a source that the project file names says nothing about this data: it is left out");
            }
        }
        let examining = Examining {
            model,
            log,
            cases: &divided.cases,
            persons: &learning.examined,
            resamples: self.options.resamples,
        };
        let package = RecommendPackage::new(
            (self.project.name.clone(), model.name.clone()),
            log.items.clone(),
            signals_of(model),
            fitted,
            popular.clone(),
            divided.examined_from,
        );
        let golden = examining.golden(&package, GOLDEN);
        let package = package
            .with_golden(golden)
            .with_definitions(&learning.definition_hash);
        made.seconds.fit = stopwatch.seconds();
        let data = judge(model, log, before, self.clock.now());
        made.examination = Some(examining.examine(&package, &popular, champion, data));
        made.package = Some(package);
        made.seconds.examine = stopwatch.seconds() - made.seconds.fit;
        made
    }

    fn note_popular(
        &self,
        model: &RecommendModel,
        popular: Vec<Arc<str>>,
    ) -> Result<(), CycleError> {
        let mut state = self.model_state(&model.name)?;
        state.popular = popular.iter().map(ToString::to_string).collect();
        self.put_model_state(&model.name, &state)?;
        self.recommender(&model.name)?.set_popular(popular);
        Ok(())
    }
}
