//! A run of a model that recommends: what was taken, fit, examination, registration, and promotion if the gate lets it pass.

use std::sync::Arc;

use tidemill_core::clock::Stopwatch;
use tidemill_core::project::RecommendModel;
use tidemill_core::{ModelName, Timestamp};
use tidemill_serve::recommend::{RecommendChampion, RecommendPackage};
use tidemill_store::catalog::Run;

use super::accepted::{TakenBefore, judge};
use super::divide::most_taken;
use super::examine::{Examining, RecommendExamination};
use super::{CASES_MIN, Learning, RecommendDetail, RecommendSeconds, definition_of, signals_of};
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::register::{Begun, Detail, Made, Progress, Stage, Stopped};

/// Histories whose lists prove a packaged model.
const GOLDEN: usize = 20;

/// A run of a model that recommends.
pub(crate) type RecommendRun = Begun<RecommendDetail>;

impl Detail for RecommendDetail {
    fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

/// What the working thread of a run brings back.
struct Learnt {
    /// What everybody takes.
    popular: Vec<Arc<str>>,
    examined_from: Timestamp,
    cases: usize,
    seconds: RecommendSeconds,
    /// Absent where there is too little to learn from.
    version: Option<(RecommendPackage, RecommendExamination)>,
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
        let detail = RecommendDetail {
            definition: definition_of(&declared),
            ..RecommendDetail::default()
        };
        Ok(RecommendRun::new(run, detail))
    }

    /// Reads what was taken, learns and examines: what a run that went on after a start has not done yet.
    pub(crate) async fn compute_recommender(
        self: &Arc<Self>,
        begun: &mut RecommendRun,
        lane: Lane,
    ) {
        let Begun { run, detail, made } = begun;
        *made = Some(self.work_recommender(run, detail, lane).await);
    }

    async fn work_recommender(
        self: &Arc<Self>,
        run: &mut Run,
        detail: &mut RecommendDetail,
        lane: Lane,
    ) -> Result<Made, Stopped> {
        let examined = detail.examination.as_ref().map(|found| &found.verdict);
        if let Some(made) = detail.progress.made(examined) {
            return Ok(made);
        }
        let model = self.recommender(&run.model)?.model.clone();
        let learnt = self.learn(run, &model, detail, lane).await?;
        self.note_popular(&model, learnt.popular)?;
        detail.examined_from = Some(learnt.examined_from);
        detail.cases = learnt.cases;
        detail.seconds.fit = learnt.seconds.fit;
        detail.seconds.examine = learnt.seconds.examine;
        let Some((package, examination)) = learnt.version else {
            let cases = learnt.cases;
            return Err(Stopped::TooLittle(format!(
                "there is too little to learn from yet: {cases} persons took something in the newest period, {CASES_MIN} are needed"
            )));
        };
        detail.record = Some(package.fitted.record().clone());
        let verdict = examination.verdict.clone();
        detail.examination = Some(examination);
        let artifact = self.keep_package(&run.model, package.to_bytes()).await?;
        detail.progress.artifact = Some(artifact.clone());
        self.reach(run, detail, Stage::Register).await?;
        Ok(Made { artifact, verdict })
    }

    async fn learn(
        self: &Arc<Self>,
        run: &mut Run,
        model: &RecommendModel,
        detail: &mut RecommendDetail,
        lane: Lane,
    ) -> Result<Learnt, CycleError> {
        let stopwatch = Stopwatch::start();
        if detail.snapshot.is_none() {
            let snapshot = self.stores.lake.events_snapshot(&self.project.name).await?;
            detail.snapshot = Some(snapshot);
            self.reach(run, detail, Stage::Dataset).await?;
        }
        let (log, table) = self.taken(model, detail, &lane).await?;
        let before = self.taken_before(run).await?;
        let now = run.started_at;
        let mut learning = self.prepare(model, log, (table, &lane), now).await?;
        if let Some(chosen) = before.choice(&detail.definition) {
            let signals = learning.divided.train.len();
            learning.recommender = learning.recommender.taking_over(chosen, signals);
        }
        detail.seconds.read = stopwatch.seconds();
        self.reach(run, detail, Stage::Fit).await?;
        let champion = self.recommender(&model.name)?.champion();
        let (this, declared) = (self.clone(), model.clone());
        lane.compute(move || {
            let champion = champion.as_deref();
            this.make_recommender(&declared, learning, champion, (&before, now))
        })
        .await
    }

    /// The part of a run that computes; it runs on the training threads.
    fn make_recommender(
        &self,
        model: &RecommendModel,
        learning: Learning,
        champion: Option<&RecommendChampion>,
        (before, now): (&TakenBefore, Timestamp),
    ) -> Learnt {
        let stopwatch = Stopwatch::start();
        let (log, divided) = (&learning.log, &learning.divided);
        let popular = most_taken(&divided.train);
        let mut made = Learnt {
            popular: popular
                .iter()
                .map(|item| log.items[*item as usize].clone())
                .collect(),
            examined_from: divided.examined_from,
            cases: divided.cases.len(),
            seconds: RecommendSeconds::default(),
            version: None,
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
        let segment = model.segment.as_ref().and_then(|segment| {
            let mut columns = learning.examined.columns().iter();
            columns.find(|column| column.name == segment.text).cloned()
        });
        let package = package.with_segment(segment);
        let golden = examining.golden(&package, GOLDEN);
        let package = package
            .with_golden(golden)
            .with_definitions(&learning.definition_hash);
        made.seconds.fit = stopwatch.seconds();
        let data = judge(model, log, before, now);
        let examination = examining.examine(&package, &popular, champion, data);
        made.version = Some((package, examination));
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
