//! A run: snapshot, dataset, fit, examination, registration, and promotion if the gate lets it pass.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::{Formula, Operation, PredictModel, Target};
use tidemill_core::{ModelName, Timestamp};
use tidemill_evaluate::split::SplitByTime;
use tidemill_features::dataset::{Dataset, DatasetRecord, Drop};
use tidemill_serve::Package;
use tidemill_store::StoreError;
use tidemill_store::catalog::{Run, RunState};
use tidemill_store::lake::{EventsSnapshot, TableVersion};

use crate::accepted::{Before, judge};
use crate::datasets::BuiltDataset;
use crate::examine::{Candidates, Examination, examine, metric_of, minimums_of, task_kind};
use crate::fit::{Order, fit, simpler, training_set};
use crate::gain::{FeatureGain, gains};
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::schedule::{definition_of, targets};

/// The newest share of the rows is examined on …
const EXAMINED_SHARE: f64 = 0.2;
/// … but not more than this: beyond it intervals hardly narrow, and training rows grow old.
const EXAMINED_ROWS_MAX: f64 = 3_000.0;
/// How many runs are looked through for broken ones after a start.
const RUNS_LOOKED_AT: u32 = 100;

/// Everything about a run that a person may want to see later.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunDetail {
    /// Which events it saw.
    pub snapshot: Option<EventsSnapshot>,
    /// How its rows came about, with every dropped one and the reason.
    pub dataset: Option<DatasetRecord>,
    /// Where the rows are in the lake.
    pub dataset_version: Option<TableVersion>,
    /// How the rows were divided.
    pub parts: Option<Parts>,
    /// How much each feature moves the version's answers, the strongest first.
    #[serde(default)]
    pub gains: Vec<FeatureGain>,
    /// What the examination of the version found.
    pub examination: Option<Examination>,
    /// Where the version is a regression: why the richer model was refused.
    pub refused: Option<Examination>,
    /// How long each stage took.
    pub seconds: Seconds,
}

/// How the rows of a dataset were divided in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Rows for fitting and calibrating.
    pub known: usize,
    /// Rows left out because their horizon reaches into the examined period.
    pub gap: usize,
    /// Rows that were examined on.
    pub examined: usize,
    /// When the examined period begins.
    pub examined_from: Timestamp,
}

/// How long each stage of a run took, in seconds of real time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Building the rows; shared by the models of one pass.
    pub dataset: f64,
    /// Fitting the model and its baselines.
    pub fit: f64,
    /// Examining.
    pub examine: f64,
    /// Finding out how much each feature moves the answers.
    #[serde(default)]
    pub explain: f64,
}

/// A run of a model that predicts.
pub(crate) struct PredictRun {
    pub(crate) run: Run,
    detail: RunDetail,
    /// What computing came to; nothing before it.
    made: Option<Result<Made, Stopped>>,
}

impl PredictRun {
    /// Leaves out computing, for a reason.
    pub(crate) fn fail(&mut self, error: CycleError) {
        self.made = Some(Err(Stopped::Failed(error)));
    }
}

/// What the working thread of a run brings back.
struct Made {
    package: Package,
    examination: Examination,
    refused: Option<Examination>,
    parts: Parts,
    gains: Vec<FeatureGain>,
    seconds: Seconds,
}

/// Why a run stops without a version although nothing broke.
enum Stopped {
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

impl ProjectLoop {
    /// Runs that were under way when the process ended are written down as failed; their schedule tries again.
    pub(crate) async fn finish_broken_runs(&self) -> Result<(), CycleError> {
        for mut run in self
            .stores
            .catalog
            .runs(&self.project.name, None, None, RUNS_LOOKED_AT)
            .await?
        {
            if run.state == RunState::Running {
                run.state = RunState::Failed;
                run.finished_at = Some(self.clock.now());
                run.summary = "the process ended during this run".to_owned();
                self.stores.catalog.put_run(&run).await?;
                let mut state = self.model_state(&run.model)?;
                state.last_run = None;
                self.put_model_state(&run.model, &state)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn begin(
        &self,
        model: &ModelName,
        trigger: &str,
        now: Timestamp,
    ) -> Result<PredictRun, CycleError> {
        let run = self.new_run(model, trigger, now);
        self.stores.catalog.put_run(&run).await?;
        let mut state = self.model_state(model)?;
        state.last_run = Some(now);
        state.last_targets = targets(&self.slot(model)?.model, &state, now);
        self.put_model_state(model, &state)?;
        self.note_definition(model)?;
        Ok(PredictRun {
            run,
            detail: RunDetail::default(),
            made: None,
        })
    }

    /// Writes down what a run is asked, so that another definition sets off another run, and the same one does not.
    pub(crate) fn note_definition(&self, model: &ModelName) -> Result<(), CycleError> {
        let definition = definition_of(self.engine().set(), &self.slot(model)?.model);
        let mut state = self.model_state(model)?;
        state.definition = Some(definition);
        self.put_model_state(model, &state)
    }

    /// Keeps the rows, fits and examines.
    pub(crate) async fn compute(
        self: &Arc<Self>,
        begun: &mut PredictRun,
        built: BuiltDataset,
        lane: Lane,
    ) {
        let PredictRun { run, detail, made } = begun;
        *made = Some(self.work(run, detail, built, lane).await);
    }

    async fn work(
        self: &Arc<Self>,
        run: &Run,
        detail: &mut RunDetail,
        built: BuiltDataset,
        lane: Lane,
    ) -> Result<Made, Stopped> {
        detail.snapshot = built.dataset.record.events;
        detail.dataset = Some(built.dataset.record.clone());
        detail.seconds.dataset = built.seconds;
        let model = run.model.clone();
        let wanted = self.slot(&model)?.model.training.min_rows;
        if (built.dataset.rows() as u64) < wanted {
            return Err(Stopped::TooLittle(too_little(&built.dataset, wanted)));
        }
        let declared = &self.slot(&model)?.model;
        let before = self.before(declared, &built.dataset.record).await?;
        let kept = self.keep_dataset(&model, Some(run.id), &built).await?;
        let dataset = built.dataset;
        detail.dataset_version = Some(kept.version);

        let champion = self
            .slot(&model)?
            .champion()
            .map(|champion| (format!("{model}@{}", champion.number), champion));
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            lane.install(|| {
                let champion = champion
                    .as_ref()
                    .map(|(called, champion)| (called.clone(), &champion.package));
                this.make(&model, &dataset, (champion, &before), lane.threads())
            })
        })
        .await
        .map_err(|_| CycleError::Ended("training"))?
    }

    /// The part of a run that computes; it runs on the training threads.
    fn make(
        &self,
        model: &ModelName,
        dataset: &Dataset,
        (champion, before): (Option<(String, &Package)>, &Before),
        threads: usize,
    ) -> Result<Made, Stopped> {
        let slot = self.slot(model)?;
        let (known, examined, parts) = divide(&slot.model, dataset, task_kind(&slot.task))?;
        let stopwatch = Stopwatch::start();
        let counts = self.count_columns(&slot.model, dataset);
        let order = Order {
            project: &self.project.name,
            model,
            task: &slot.task,
            training: &slot.model.training,
            counts: &counts,
            definition_hash: &dataset.record.definition_hash,
            threads,
        };
        let known = training_set(dataset, &known);
        let mut package = fit(&order, &known)?;
        let fitted = stopwatch.seconds();
        let rows = training_set(dataset, &examined);
        let data = judge(&slot.model, dataset, before);
        let examine = |challenger: &Package| {
            examine(&Candidates {
                model: &slot.model,
                challenger,
                champion: champion.clone(),
                rows: &rows,
                record: &dataset.record,
                data: &data,
                resamples: self.options.resamples,
            })
        };
        let mut examination = examine(&package)?;
        let mut refused = None;
        // a model that is not clearly better than regression does not serve; regression may, if it passes itself
        if !examination.verdict.promoted
            && let Some(simpler) = simpler(&package, &known)
        {
            let second = examine(&simpler)?;
            if second.verdict.promoted {
                refused = Some(std::mem::replace(&mut examination, second));
                package = simpler;
            }
        }
        let examine = stopwatch.seconds() - fitted;
        let gains = gains(&package, &rows);
        let explain = stopwatch.seconds() - fitted - examine;
        Ok(Made {
            package,
            refused,
            examination,
            parts,
            gains,
            seconds: Seconds {
                dataset: 0.0,
                fit: fitted,
                examine,
                explain,
            },
        })
    }

    /// The columns that count the events that the target is about: frequency, for the recency/frequency rule.
    fn count_columns(&self, model: &PredictModel, dataset: &Dataset) -> Vec<String> {
        let about: Vec<&str> = match &model.target {
            Target::Event { event, .. }
            | Target::NoEvent { event, .. }
            | Target::Sum { event, .. } => vec![event],
            Target::Next { events, .. } => events.iter().map(String::as_str).collect(),
        };
        let engine = self.engine();
        let counting =
            engine
                .set()
                .definitions()
                .iter()
                .filter(|definition| match &definition.formula {
                    Formula::Aggregate(aggregate) => {
                        let counts = matches!(
                            aggregate.operation,
                            Operation::Count | Operation::Decayed { .. }
                        );
                        counts
                            && aggregate
                                .events
                                .iter()
                                .any(|event| about.contains(&event.as_str()))
                    }
                    Formula::Expression(_) | Formula::Ratio(_) => false,
                });
        let prefixes: Vec<String> = counting
            .map(|definition| format!("{}.{}", definition.entity.as_str(), definition.name))
            .collect();
        let is_count = |name: &str| {
            prefixes.iter().any(|prefix| {
                let rest = name.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
            })
        };
        let columns = dataset.features.columns().iter();
        columns
            .map(|column| column.name.clone())
            .filter(|name| is_count(name))
            .collect()
    }

    /// Registers what was made, promotes it if the gate lets it pass, and writes down how the run ended.
    pub(crate) async fn end(&self, computed: PredictRun, actor: &str) -> Result<Run, CycleError> {
        let PredictRun {
            mut run,
            mut detail,
            made,
        } = computed;
        let made = made.unwrap_or_else(|| Err(CycleError::Ended("training").into()));
        let result = match made {
            Ok(made) => self.register(&mut run, &mut detail, made, actor).await,
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

    /// Stores the version with its examination; the gate's verdict decides whether it answers from now on.
    async fn register(
        &self,
        run: &mut Run,
        detail: &mut RunDetail,
        made: Made,
        actor: &str,
    ) -> Result<(), Stopped> {
        let Made {
            package,
            examination,
            refused,
            parts,
            gains,
            seconds,
        } = made;
        detail.parts = Some(parts);
        detail.gains = gains;
        detail.seconds = Seconds {
            dataset: detail.seconds.dataset,
            ..seconds
        };
        detail.examination = Some(examination.clone());
        detail.refused = refused;
        let model = &run.model;
        let bytes = package.to_bytes().map_err(|source| CycleError::Package {
            version: model.to_string(),
            source,
        })?;
        let artifact = self.stores.artifacts.put(bytes).await?;
        let mut state = self.model_state(model)?;
        state.fallback = Some(package.fallback.clone());
        self.put_model_state(model, &state)?;
        self.slot(model)?.set_fallback(package.fallback.clone());
        self.add_version(run, artifact, detail, &examination.verdict, actor)
            .await?;
        Ok(())
    }

    /// Finds what a project file asks of evaluation that there is not.
    pub(crate) fn check_models(&self) -> Result<(), CycleError> {
        for slot in self.registry.slots() {
            metric_of(&slot.model, &slot.task)?;
            minimums_of(&slot.model, &slot.task)?;
        }
        Ok(())
    }
}

/// Cuts the rows in time: what was certain before the examined period began, and the examined period.
fn divide(
    model: &PredictModel,
    dataset: &Dataset,
    task: tidemill_evaluate::TaskKind,
) -> Result<(Vec<usize>, Vec<usize>, Parts), Stopped> {
    let rows = dataset.rows() as f64;
    let examined = EXAMINED_SHARE.min(EXAMINED_ROWS_MAX / rows);
    let moments: Vec<i64> = dataset
        .moments
        .iter()
        .map(|moment| moment.micros())
        .collect();
    let cut = SplitByTime {
        train: 1.0 - examined,
        validation: 0.0,
        ..SplitByTime::default()
    };
    let split = cut
        .split(
            &moments,
            model.target.within().micros(),
            task,
            &dataset.targets,
        )
        .map_err(|error| {
            Stopped::TooLittle(format!("there is too little to learn from yet: {error}"))
        })?;
    let parts = Parts {
        known: split.train.len(),
        gap: split.gap,
        examined: split.test.len(),
        examined_from: Timestamp::from_micros(split.test_from),
    };
    Ok((split.train, split.test, parts))
}

fn too_little(dataset: &Dataset, wanted: u64) -> String {
    let censored = dataset
        .record
        .dropped
        .get(&Drop::Censored)
        .copied()
        .unwrap_or(0);
    format!(
        "there is too little to learn from yet: {} observations have a certain outcome and {wanted} are needed \
         (training.min_rows); the horizon of {censored} more has not passed",
        dataset.rows()
    )
}

/// An error with everything that caused it, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // transparent errors repeat their source
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
