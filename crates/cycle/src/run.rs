//! A run: snapshot, dataset, fit, examination, registration, and promotion if the gate lets it pass.

use std::sync::Arc;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::{Formula, Operation, PredictModel, Target};
use tidemill_core::{FeatureTable, ModelName, Timestamp};
use tidemill_evaluate::split::SplitByTime;
use tidemill_features::dataset::{Dataset, DatasetRecord, Drop, Served};
use tidemill_learn::TrainingSet;
use tidemill_serve::{Champion, Package};
use tidemill_store::catalog::Run;
use tidemill_store::lake::{EventsSnapshot, TableVersion};

use crate::accepted::{Before, judge};
use crate::datasets::BuiltDataset;
use crate::examine::{
    Candidates, Examination, examine, metric_of, minimums_of, reads_more, task_kind,
};
use crate::fit::{Order, fit, simpler, training_set};
use crate::gain::{FeatureGain, gains};
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::register::{Begun, Detail, Made, Progress, Stage, Stopped};
use crate::schedule::{definition_of, targets};

/// The newest share of the rows is examined on …
const EXAMINED_SHARE: f64 = 0.2;
/// … but not more than this: beyond it intervals hardly narrow, and training rows grow old.
const EXAMINED_ROWS_MAX: f64 = 3_000.0;

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
    /// How far it has come.
    #[serde(default)]
    pub progress: Progress,
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
pub(crate) type PredictRun = Begun<RunDetail>;

impl Detail for RunDetail {
    fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

/// The rows of a run, divided.
struct Rows {
    dataset: Dataset,
    /// For fitting and calibrating.
    known: TrainingSet,
    examined: TrainingSet,
    /// Where those stand in the dataset.
    examined_places: Vec<usize>,
    parts: Parts,
}

/// The version that answers, as a challenger is compared with it.
struct Against<'a> {
    champion: Option<(String, &'a Package)>,
    /// What it reads of the examined rows, where it reads features that the challenger does not.
    features: Option<&'a FeatureTable>,
    /// Why the one that there is cannot be asked.
    not_compared: Option<&'a str>,
}

/// What the examination of a package brings.
struct Examined {
    /// The package; a simpler one where that passed instead.
    package: Package,
    examination: Examination,
    refused: Option<Examination>,
    gains: Vec<FeatureGain>,
    /// How long it took, and how long it then took to find out how much each feature moves the answers.
    seconds: f64,
    explained: f64,
}

impl ProjectLoop {
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
        Ok(PredictRun::new(run, RunDetail::default()))
    }

    /// Writes down what a run is asked, so that another definition sets off another run, and the same one does not.
    pub(crate) fn note_definition(&self, model: &ModelName) -> Result<(), CycleError> {
        let definition = definition_of(self.engine().set(), &self.slot(model)?.model);
        let mut state = self.model_state(model)?;
        state.definition = Some(definition);
        self.put_model_state(model, &state)
    }

    /// Keeps the rows, fits and examines: what a run that went on after a start has not done yet. A run that has its rows gets no others.
    pub(crate) async fn compute(
        self: &Arc<Self>,
        begun: &mut PredictRun,
        built: Option<BuiltDataset>,
        lane: Lane,
    ) {
        let Begun { run, detail, made } = begun;
        *made = Some(self.work(run, detail, built, lane).await);
    }

    async fn work(
        self: &Arc<Self>,
        run: &mut Run,
        detail: &mut RunDetail,
        built: Option<BuiltDataset>,
        lane: Lane,
    ) -> Result<Made, Stopped> {
        let examined = detail.examination.as_ref().map(|found| &found.verdict);
        if let Some(made) = detail.progress.made(examined) {
            return Ok(made);
        }
        let dataset = match built {
            Some(built) => self.keep_rows(run, detail, built).await?,
            None => self.kept_rows(run, detail).await?,
        };
        let rows = self.divided(&run.model, dataset, &lane).await?;
        detail.parts = Some(rows.parts);
        let fitted = match &detail.progress.artifact {
            Some(artifact) => self.read_package(artifact, &run.model).await?,
            None => {
                let stopwatch = Stopwatch::start();
                let package = self.fit_rows(&run.model, &rows, &lane).await?;
                detail.seconds.fit = stopwatch.seconds();
                let kept = self.keep_package(&run.model, package.to_bytes()).await?;
                detail.progress.artifact = Some(kept);
                self.reach(run, detail, Stage::Examine).await?;
                package
            }
        };
        let found = self.examine_rows(&run.model, rows, fitted, &lane).await?;
        if found.refused.is_some() {
            // a simpler one passed in its place
            let simpler = found.package.to_bytes();
            detail.progress.artifact = Some(self.keep_package(&run.model, simpler).await?);
        }
        self.set_fallback(&run.model, &found.package)?;
        detail.gains = found.gains;
        detail.refused = found.refused;
        detail.seconds.examine = found.seconds;
        detail.seconds.explain = found.explained;
        let verdict = found.examination.verdict.clone();
        detail.examination = Some(found.examination);
        self.reach(run, detail, Stage::Register).await?;
        let made = detail.progress.made(Some(&verdict));
        made.ok_or_else(|| CycleError::Ended("training").into())
    }

    /// Keeps the rows that were built for a run, if there are enough of them.
    async fn keep_rows(
        self: &Arc<Self>,
        run: &mut Run,
        detail: &mut RunDetail,
        built: BuiltDataset,
    ) -> Result<Dataset, Stopped> {
        detail.snapshot = built.dataset.record.events;
        detail.dataset = Some(built.dataset.record.clone());
        detail.seconds.dataset = built.seconds;
        let wanted = self.slot(&run.model)?.model.training.min_rows;
        if (built.dataset.rows() as u64) < wanted {
            return Err(Stopped::TooLittle(too_little(&built.dataset, wanted)));
        }
        let (kept, dataset) = self.keep_dataset(&run.model, Some(run.id), built).await?;
        detail.dataset_version = Some(kept.version);
        self.reach(run, detail, Stage::Fit).await?;
        Ok(dataset)
    }

    /// The rows that a run kept before the process ended.
    async fn kept_rows(
        self: &Arc<Self>,
        run: &Run,
        detail: &RunDetail,
    ) -> Result<Dataset, CycleError> {
        const NONE: CycleError = CycleError::Ended("reading what it learns from");
        let version = detail.dataset_version.ok_or(NONE)?;
        let (kept, batches) = self.dataset_rows(&run.model, version).await?;
        let batches: Vec<_> = batches.try_collect().await?;
        Ok(Dataset::from_batches(&batches, kept.note.record)?)
    }

    /// What answers where no version does, as the newest run found it.
    fn set_fallback(&self, model: &ModelName, package: &Package) -> Result<(), CycleError> {
        let mut state = self.model_state(model)?;
        state.fallback = Some(package.fallback.clone());
        self.put_model_state(model, &state)?;
        self.slot(model)?.set_fallback(package.fallback.clone());
        Ok(())
    }

    /// Does a part of a run on the training threads.
    async fn on_lane<T: Send + 'static>(
        self: &Arc<Self>,
        lane: &Lane,
        work: impl FnOnce(&Self, usize) -> Result<T, Stopped> + Send + 'static,
    ) -> Result<T, Stopped> {
        let (this, threads) = (self.clone(), lane.threads());
        lane.compute(move || work(&this, threads)).await?
    }

    async fn divided(
        self: &Arc<Self>,
        model: &ModelName,
        dataset: Dataset,
        lane: &Lane,
    ) -> Result<Arc<Rows>, Stopped> {
        let model = model.clone();
        self.on_lane(lane, move |this, _| {
            let slot = this.slot(&model)?;
            let (known, examined, parts) = divide(&slot.model, &dataset, task_kind(&slot.task))?;
            Ok(Arc::new(Rows {
                known: training_set(&dataset, &known),
                examined: training_set(&dataset, &examined),
                examined_places: examined,
                parts,
                dataset,
            }))
        })
        .await
    }

    async fn fit_rows(
        self: &Arc<Self>,
        model: &ModelName,
        rows: &Arc<Rows>,
        lane: &Lane,
    ) -> Result<Package, Stopped> {
        let (model, rows) = (model.clone(), rows.clone());
        self.on_lane(lane, move |this, threads| {
            let slot = this.slot(&model)?;
            let counts = this.count_columns(&slot.model, &rows.dataset);
            let order = Order {
                project: &this.project.name,
                model: &model,
                task: &slot.task,
                training: &slot.model.training,
                counts: &counts,
                definition_hash: &rows.dataset.record.definition_hash,
                threads,
            };
            Ok(fit(&order, &rows.known)?)
        })
        .await
    }

    async fn examine_rows(
        self: &Arc<Self>,
        model: &ModelName,
        rows: Arc<Rows>,
        package: Package,
        lane: &Lane,
    ) -> Result<Examined, Stopped> {
        let slot = self.slot(model)?;
        let before = self.before(&slot.model, &rows.dataset.record).await?;
        let champion = slot.champion();
        let own = match &champion {
            Some(champion) => self.read_for_champion(champion, &rows, lane).await?,
            None => None,
        };
        let not_compared = match &champion {
            Some(_) => None,
            None => self.not_compared(model).await?,
        };
        let model = model.clone();
        self.on_lane(lane, move |this, _| {
            let champion = champion.as_ref().map(|champion| {
                let called = format!("{model}@{}", champion.number);
                (called, &champion.package)
            });
            let champion = Against {
                champion,
                features: own.as_ref(),
                not_compared: not_compared.as_deref(),
            };
            this.examine_package(&rows, package, (champion, &before))
        })
        .await
    }

    /// Why the champion that the catalog names answers nobody, and cannot be asked about the examined rows either; nothing where there is none.
    async fn not_compared(&self, model: &ModelName) -> Result<Option<String>, CycleError> {
        let number = self.stores.catalog.champion(&self.project.name, model);
        let Some(number) = number.await? else {
            return Ok(None);
        };
        let why = match self.load(model, number).await {
            Ok(_) => "it was not loaded when this run began".to_owned(),
            Err(error) => error.to_string(),
        };
        Ok(Some(format!(
            "{model}@{number} answers nobody now and could not be compared: {why}"
        )))
    }

    /// What the champion reads of the examined rows, where it reads features that the model does not have any more: without them it would
    /// look worse than it is. From another pass over the same events.
    async fn read_for_champion(
        &self,
        champion: &Champion,
        rows: &Rows,
        lane: &Lane,
    ) -> Result<Option<FeatureTable>, CycleError> {
        let dataset = &rows.dataset;
        let snapshot = dataset.record.events;
        let snapshot = snapshot.filter(|_| reads_more(&champion.package, &dataset.features));
        let Some(snapshot) = snapshot else {
            return Ok(None);
        };
        let served = rows.examined_places.iter().map(|&place| Served {
            person: dataset.entities[place].clone(),
            moment: dataset.moments[place],
            offset: dataset.offsets[place],
        });
        let lake = &self.stores.lake;
        let events = lake.event_table(&self.project.name, snapshot).await?;
        let read = self.read_again(&champion.features, served.collect(), events, lane);
        Ok(Some(read.await?))
    }

    /// Examines what was fitted, and where it is refused the simpler model in it.
    fn examine_package(
        &self,
        rows: &Rows,
        mut package: Package,
        (against, before): (Against<'_>, &Before),
    ) -> Result<Examined, Stopped> {
        let stopwatch = Stopwatch::start();
        let slot = self.slot(&package.model)?;
        let data = judge(&slot.model, &rows.dataset, before);
        let examine = |challenger: &Package| {
            examine(&Candidates {
                model: &slot.model,
                challenger,
                champion: against.champion.clone(),
                champion_features: against.features,
                not_compared: against.not_compared,
                rows: &rows.examined,
                record: &rows.dataset.record,
                data: &data,
                resamples: self.options.resamples,
            })
        };
        let mut examination = examine(&package)?;
        let mut refused = None;
        // a model that is not clearly better than regression does not serve; regression may, if it passes itself
        if !examination.verdict.promoted
            && let Some(simpler) = simpler(&package, &rows.known)
        {
            let second = examine(&simpler)?;
            if second.verdict.promoted {
                refused = Some(std::mem::replace(&mut examination, second));
                package = simpler;
            }
        }
        let examined = stopwatch.seconds();
        let gains = gains(&package, &rows.examined);
        Ok(Examined {
            package,
            examination,
            refused,
            gains,
            seconds: examined,
            explained: stopwatch.seconds() - examined,
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
