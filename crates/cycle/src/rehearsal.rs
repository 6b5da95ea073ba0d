//! The rehearsal: the whole way from kept rows to an answer, on a small scale and heard by nobody. It proves that the same rows make
//! the same model byte for byte, that a model learns something from them, and that what was packaged answers people.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::{ModelName, Timestamp};
use tidemill_evaluate::{Metric, Rows, ScoresView, TaskKind};
use tidemill_features::dataset::Dataset;
use tidemill_learn::TrainingSet;
use tidemill_serve::{Champion, Package};

use crate::examine::task_kind;
use crate::fit::{Order, fit, training_set};
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};

/// The newest rehearsal, by model.
const REHEARSALS: &str = "rehearsals";
/// So many rows are learnt from, evenly spread over the newest dataset.
const ROWS_MAX: usize = 400;
/// So many people are asked about.
const PEOPLE_MAX: usize = 20;
/// How much effort the fits take: the path is what is rehearsed, not the quality.
const BUDGET: f64 = 0.1;

/// How a rehearsal went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The model.
    pub model: ModelName,
    /// When.
    pub at: Timestamp,
    /// Rows that were learnt from, twice.
    pub rows: usize,
    /// Whether both fits made the same bytes.
    pub is_reproducible: bool,
    /// The metric by which it is told whether something was learnt.
    pub metric: Metric,
    /// The metric of the fitted model on the rows that it was fitted on.
    pub fitted: Option<f64>,
    /// The metric of the plain answer on them.
    pub constant: Option<f64>,
    /// Whether the model fits its own rows better than the plain answer does.
    pub learns: bool,
    /// People whom the packaged model was asked about.
    pub asked: usize,
    /// Of these, those who got an answer of it.
    pub answered: usize,
    /// How long it took, in seconds of real time.
    pub seconds: f64,
}

impl Rehearsal {
    /// Whether the model went all the way to people: its package was read back and answered each of them.
    pub fn is_served(&self) -> bool {
        self.asked > 0 && self.answered == self.asked
    }
}

impl ProjectLoop {
    /// Rehearses a model, and keeps how it went.
    ///
    /// # Errors
    /// When there is no such model, it recommends, there are no rows yet, or a store fails.
    pub async fn rehearse(self: &Arc<Self>, model: &ModelName) -> Result<Rehearsal, CycleError> {
        if self.is_recommender(model) {
            let why = "models that recommend have no dataset that a rehearsal could learn from";
            return Err(CycleError::NotAllowed(why.to_owned()));
        }
        let (this, model) = (self.clone(), model.clone());
        let play = async move {
            let rows = this.newest_rows(&model).await?;
            let lane = this.training.lanes(1).free().await?;
            this.rehearse_on(&model, &rows, &lane).await
        };
        self.beside(play).await
    }

    /// Rehearses a model that predicts on the rows of its newest dataset.
    pub(crate) async fn rehearse_on(
        self: &Arc<Self>,
        model: &ModelName,
        dataset: &Dataset,
        lane: &Lane,
    ) -> Result<Rehearsal, CycleError> {
        let step = dataset.rows().div_ceil(ROWS_MAX).max(1);
        let rows: Vec<usize> = (0..dataset.rows()).step_by(step).collect();
        let rows = training_set(dataset, &rows);
        if rows.rows() == 0 {
            let why = format!("the newest dataset of {model} has no rows");
            return Err(CycleError::NotAllowed(why));
        }
        let hash = dataset.record.definition_hash.clone();
        let (this, model, threads) = (self.clone(), model.clone(), lane.threads());
        let played = lane.compute(move || this.play_through(&model, &rows, &hash, threads));
        let played = played.await??;
        let place = (REHEARSALS, played.model.as_str());
        self.keep(place, &played, "encode a rehearsal")?;
        Ok(played)
    }

    /// The newest rehearsal of a model.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub fn last_rehearsal(&self, model: &ModelName) -> Result<Option<Rehearsal>, CycleError> {
        let place = (REHEARSALS, model.as_str());
        self.kept(place, || format!("the rehearsal of {model}"))
    }

    fn play_through(
        &self,
        model: &ModelName,
        rows: &TrainingSet,
        definition_hash: &str,
        threads: usize,
    ) -> Result<Rehearsal, CycleError> {
        let stopwatch = Stopwatch::start();
        let slot = self.slot(model)?;
        let mut training = slot.model.training.clone();
        training.budget = Some(BUDGET);
        let order = Order {
            project: &self.project.name,
            model,
            task: &slot.task,
            training: &training,
            counts: &[],
            definition_hash,
            threads,
        };
        let failed = |source| CycleError::Package {
            version: format!("the rehearsal of {model}"),
            source,
        };
        let bytes = fit(&order, rows)?.to_bytes().map_err(failed)?;
        let again = fit(&order, rows)?.to_bytes().map_err(failed)?;
        // reading it proves that it answers its golden rows as it was trained to
        let package = Package::from_bytes(&bytes).map_err(failed)?;
        let (metric, fitted, constant) = learnt(&package, rows)?;
        let (asked, answered) = self.ask_rehearsed(model, package)?;
        let better = |fitted: f64, constant: f64| metric.improvement(fitted, constant) > 0.0;
        Ok(Rehearsal {
            model: model.clone(),
            at: self.clock.now(),
            rows: rows.rows(),
            is_reproducible: bytes == again,
            metric,
            fitted,
            constant,
            learns: fitted
                .zip(constant)
                .is_some_and(|(one, other)| better(one, other)),
            asked,
            answered,
            seconds: stopwatch.seconds(),
        })
    }

    /// Asks a package about people whom the model was asked about lately, on a slot that nobody hears.
    fn ask_rehearsed(
        &self,
        model: &ModelName,
        package: Package,
    ) -> Result<(usize, usize), CycleError> {
        let engine = self.engine();
        let names: Vec<&str> = package
            .columns
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let Ok(features) = engine.set().select_columns(&names) else {
            return Ok((0, 0)); // the features have changed since the dataset was built
        };
        let number = u32::MAX;
        let slot = self.slot(model)?.apart();
        slot.set_champion(Some(Arc::new(Champion {
            number,
            package,
            features,
            engine,
        })));
        let people: Vec<_> = self
            .asked_about(model)?
            .into_iter()
            .take(PEOPLE_MAX)
            .collect();
        let is_answered = |person: &&_| {
            let answer = self.answerer.rehearse(&slot, person);
            answer.is_ok_and(|answer| {
                answer.version == Some(number) && answer.answer.score.is_finite()
            })
        };
        let answered = people.iter().filter(is_answered).count();
        Ok((people.len(), answered))
    }
}

/// The metric of a package on the rows that it was fitted on, and that of the plain answer.
fn learnt(
    package: &Package,
    rows: &TrainingSet,
) -> Result<(Metric, Option<f64>, Option<f64>), CycleError> {
    let kind = task_kind(&package.task);
    let metric = match kind {
        TaskKind::Regression => Metric::Rmse,
        TaskKind::Binary | TaskKind::Multiclass { .. } => Metric::LogLoss,
    };
    let joined = Rows::new(kind, &rows.targets, &rows.weights, &rows.entities)?;
    let measure = |scores: &[f64]| metric.compute(&joined, &ScoresView::new(kind.width(), scores)?);
    let fitted = measure(package.fitted.predict(&rows.features).values())?;
    let constant = package.baselines.iter().find(|one| one.name == "constant");
    let constant = match constant {
        Some(constant) => measure(constant.fitted.predict(&rows.features).values())?,
        None => None,
    };
    Ok((metric, fitted, constant))
}
