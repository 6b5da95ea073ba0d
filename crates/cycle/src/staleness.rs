//! Staleness: versions that served score the observations of later periods, which they cannot have seen, by their age at that moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tidemill_core::{ModelName, Timestamp};
use tidemill_evaluate::staleness::{AgeBand, BANDS_FROM_DAYS, band_of, loses_from_days};
use tidemill_evaluate::{Bootstrap, Metric, Rows, ScoresView};
use tidemill_features::dataset::Dataset;
use tidemill_serve::Package;

use crate::examine::{metric_of, task_kind};
use crate::fit::entity_hash;
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::recommend::METRIC_NAME;

/// The newest curve, by model.
const STALENESS: &str = "staleness";
/// So many versions that served are looked at, the newest.
const VERSIONS_MAX: usize = 24;
/// So many pairs of a version and a row are scored for each band; evenly spread where there are more.
const PAIRS_MAX: usize = 1_000;
/// A band with fewer says nothing.
const PAIRS_MIN: usize = 30;
/// Resamples of the intervals.
const RESAMPLES: usize = 200;
/// How far back the champions of a model are looked at.
const CHAMPIONS_MAX: u32 = 200;

/// How much the versions of a model lose as they grow old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staleness {
    /// The model.
    pub model: ModelName,
    /// When it was measured.
    pub measured_at: Timestamp,
    /// The metric.
    pub metric: String,
    /// Versions that were looked at: those that served.
    pub versions: usize,
    /// Of these, those that read features which the newest dataset does not have.
    pub left_out: usize,
    /// Ages from young to old; those without enough rows have no value.
    pub bands: Vec<AgeBand>,
    /// From how many days on versions are certainly worse than younger ones.
    pub loses_from_days: Option<u32>,
    /// What it comes to.
    pub sentence: String,
}

/// A version that served.
struct Served {
    number: u32,
    since: Timestamp,
    package: Package,
}

/// A version and a row that it cannot have seen.
#[derive(Clone, Copy)]
struct Pair {
    version: usize,
    row: usize,
}

impl ProjectLoop {
    /// Measures how much the versions of a model lose as they grow old, and keeps the curve.
    ///
    /// # Errors
    /// When there is no such model, none of its versions has served, there is no dataset with rows, or a store fails.
    pub async fn measure_staleness(
        self: &Arc<Self>,
        model: &ModelName,
    ) -> Result<Staleness, CycleError> {
        let (this, model) = (self.clone(), model.clone());
        let measure = async move {
            if this.is_recommender(&model) {
                return this.age_of_lists(&model).await;
            }
            let rows = Arc::new(this.newest_rows(&model).await?);
            let lane = this.training.lanes(1).free().await?;
            this.age_of_answers(&model, rows, &lane).await
        };
        self.beside(measure).await
    }

    /// Measures it of a model that recommends.
    pub(crate) async fn age_of_lists(&self, model: &ModelName) -> Result<Staleness, CycleError> {
        let measured = self.staleness_of_lists(model).await?;
        let place = (STALENESS, model.as_str());
        self.keep(place, &measured, "encode a staleness curve")?;
        Ok(measured)
    }

    /// Measures it of a model that predicts, on the rows of its newest dataset.
    pub(crate) async fn age_of_answers(
        &self,
        model: &ModelName,
        rows: Arc<Dataset>,
        lane: &Lane,
    ) -> Result<Staleness, CycleError> {
        let measured = self.staleness_of_answers(model, rows, lane).await?;
        let place = (STALENESS, model.as_str());
        self.keep(place, &measured, "encode a staleness curve")?;
        Ok(measured)
    }

    /// The newest curve of a model.
    ///
    /// # Errors
    /// When there is no such model, or the entry is damaged.
    pub fn staleness(&self, model: &ModelName) -> Result<Option<Staleness>, CycleError> {
        self.check_model(model)?;
        let place = (STALENESS, model.as_str());
        self.kept(place, || format!("the staleness of {model}"))
    }

    async fn staleness_of_answers(
        &self,
        model: &ModelName,
        dataset: Arc<Dataset>,
        lane: &Lane,
    ) -> Result<Staleness, CycleError> {
        let slot = self.slot(model)?;
        let metric = metric_of(&slot.model, &slot.task)?;
        let numbers = self.served(model).await?;
        let (mut served, looked_at) = (Vec::new(), numbers.len());
        for number in numbers {
            let since = self.version(model, number).await?.created_at;
            let package = self.package(model, number).await?;
            let columns = &package.columns;
            let is_known = |name: &str| dataset.features.index_of(name).is_some();
            if package.task == slot.task && columns.iter().all(|column| is_known(&column.name)) {
                served.push(Served {
                    number,
                    since,
                    package,
                });
            }
        }
        served.sort_by_key(|version| (version.since, version.number));
        let left_out = looked_at - served.len();
        let bands = lane.compute(move || curve(&served, &dataset, metric));
        let bands = bands.await??;
        Ok(self.told(
            model,
            metric.name(),
            metric.label(),
            (looked_at, left_out),
            bands,
        ))
    }

    /// Of lists only those can be judged that were shown, so that a version is only seen as old as it became while it served.
    async fn staleness_of_lists(&self, model: &ModelName) -> Result<Staleness, CycleError> {
        let mut since: BTreeMap<u32, Timestamp> = BTreeMap::new();
        for number in self.served(model).await? {
            since.insert(number, self.version(model, number).await?.created_at);
        }
        let mut bands: Vec<(Mean, BTreeSet<u32>)> = Vec::new();
        bands.resize_with(BANDS_FROM_DAYS.len(), Default::default);
        self.joiner.visit(model, Timestamp::EPOCH, |outcome| {
            let list = outcome.list.as_ref().and_then(|list| list.ndcg);
            let version = outcome
                .version
                .and_then(|one| Some((one, *since.get(&one)?)));
            if let (Some(ndcg), Some((number, since))) = (list, version) {
                let (mean, versions) = &mut bands[band_of(outcome.moment.since(since).days())];
                mean.add(ndcg);
                versions.insert(number);
            }
            ControlFlow::Continue(())
        })?;
        let bands = bands
            .into_iter()
            .enumerate()
            .map(|(place, (mean, versions))| {
                let enough = mean.count >= PAIRS_MIN;
                AgeBand {
                    rows: mean.count,
                    versions: versions.len(),
                    value: enough.then(|| mean.value()),
                    interval: enough.then(|| mean.interval()),
                    ..AgeBand::empty(place)
                }
            });
        let bands = bands.collect();
        Ok(self.told(
            model,
            METRIC_NAME,
            "NDCG@10 of shown lists",
            (since.len(), 0),
            bands,
        ))
    }

    fn told(
        &self,
        model: &ModelName,
        metric: &str,
        label: &str,
        (versions, left_out): (usize, usize),
        bands: Vec<AgeBand>,
    ) -> Staleness {
        let loses_from_days = loses_from_days(&bands);
        Staleness {
            model: model.clone(),
            measured_at: self.clock.now(),
            metric: metric.to_owned(),
            versions,
            left_out,
            sentence: sentence(label, &bands, loses_from_days),
            bands,
            loses_from_days,
        }
    }

    /// The rows of the newest dataset.
    pub(crate) async fn newest_rows(&self, model: &ModelName) -> Result<Dataset, CycleError> {
        let newest = self.datasets(model, None, 1).await?;
        let Some(newest) = newest.first() else {
            let why = format!("{model} has no dataset yet: `tidemill train {model}` makes one");
            return Err(CycleError::NotAllowed(why));
        };
        let (kept, rows) = self.dataset_rows(model, newest.version).await?;
        let batches: Vec<_> = rows.try_collect().await?;
        Ok(Dataset::from_batches(&batches, kept.note.record)?)
    }

    /// The versions that ever answered, the newest first.
    pub(crate) async fn served(&self, model: &ModelName) -> Result<Vec<u32>, CycleError> {
        let catalog = &self.stores.catalog;
        let champions = catalog.champions(&self.project.name, model, CHAMPIONS_MAX);
        let numbers: BTreeSet<u32> = champions
            .await?
            .into_iter()
            .filter_map(|(_, number)| number)
            .collect();
        if numbers.is_empty() {
            let why = format!("no version of {model} has answered yet");
            return Err(CycleError::NotAllowed(why));
        }
        Ok(numbers.into_iter().rev().take(VERSIONS_MAX).collect())
    }
}

fn curve(served: &[Served], dataset: &Dataset, metric: Metric) -> Result<Vec<AgeBand>, CycleError> {
    let mut scores: HashMap<(usize, usize), Vec<f64>> = HashMap::new();
    let places: Vec<Vec<usize>> = served
        .iter()
        .map(|version| {
            let columns = version.package.columns.iter();
            columns
                .filter_map(|column| dataset.features.index_of(&column.name))
                .collect()
        })
        .collect();
    let mut score = |version: usize, row: usize| {
        let scored = scores.entry((version, row)).or_insert_with(|| {
            let value = |place: &usize| dataset.features.value(row, *place);
            let features: Vec<_> = places[version].iter().map(value).collect();
            served[version].package.scores(&features)
        });
        scored.clone()
    };
    let bootstrap = Bootstrap {
        resamples: RESAMPLES,
        ..Bootstrap::default()
    };
    let mut bands = Vec::new();
    for (place, pairs) in pairs(served, &dataset.moments).into_iter().enumerate() {
        let mut band = AgeBand::empty(place);
        let step = pairs.len().div_ceil(PAIRS_MAX).max(1);
        let pairs: Vec<Pair> = pairs.into_iter().step_by(step).collect();
        band.rows = pairs.len();
        let versions: BTreeSet<usize> = pairs.iter().map(|pair| pair.version).collect();
        band.versions = versions.len();
        if let (Some(version), true) = (served.first(), pairs.len() >= PAIRS_MIN) {
            let (mut aged, mut young) = (Vec::new(), Vec::new());
            for pair in &pairs {
                aged.extend(score(pair.version, pair.row));
                let moment = dataset.moments[pair.row];
                let youngest = served.partition_point(|version| version.since <= moment);
                young.extend(score(youngest.saturating_sub(1), pair.row));
            }
            let kind = task_kind(&version.package.task);
            let of = |of: fn(&Dataset, usize) -> f64| -> Vec<f64> {
                pairs.iter().map(|pair| of(dataset, pair.row)).collect()
            };
            let (targets, weights) = (
                of(|set, row| set.targets[row]),
                of(|set, row| set.weights[row]),
            );
            let entities = pairs.iter().map(|pair| dataset.entities[pair.row].as_str());
            let entities: Vec<u64> = entities.map(entity_hash).collect();
            let rows = Rows::new(kind, &targets, &weights, &entities)?;
            let (aged, young) = (
                ScoresView::new(kind.width(), &aged)?,
                ScoresView::new(kind.width(), &young)?,
            );
            band.measure(&rows, metric, &aged, &young, &bootstrap)?;
        }
        bands.push(band);
    }
    Ok(bands)
}

/// The pairs of each band. A version has seen nothing of what was observed after it was made.
fn pairs(served: &[Served], moments: &[Timestamp]) -> Vec<Vec<Pair>> {
    let mut bands: Vec<Vec<Pair>> = vec![Vec::new(); BANDS_FROM_DAYS.len()];
    for (row, moment) in moments.iter().enumerate() {
        for (version, made) in served.iter().enumerate() {
            if made.since <= *moment {
                bands[band_of(moment.since(made.since).days())].push(Pair { version, row });
            }
        }
    }
    bands
}

/// A mean of numbers that come one by one.
#[derive(Debug, Default)]
struct Mean {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn value(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// 95 %, as if by the normal distribution.
    fn interval(&self) -> (f64, f64) {
        let (count, mean) = (self.count.max(1) as f64, self.value());
        let variance = (self.squares / count - mean * mean).max(0.0);
        let half = 1.96 * (variance / count).sqrt();
        (mean - half, mean + half)
    }
}

fn sentence(label: &str, bands: &[AgeBand], loses_from_days: Option<u32>) -> String {
    let compared: Vec<&AgeBand> = bands.iter().filter(|band| band.loss.is_some()).collect();
    let measured = bands.iter().filter(|band| band.value.is_some()).count();
    match (loses_from_days, compared.last()) {
        (Some(days), _) => {
            let band = bands.iter().find(|band| band.from_days == days);
            let loss = band.and_then(|band| band.loss).unwrap_or(0.0);
            format!(
                "from {days} days on versions are certainly worse than younger ones: they lose {loss:.3} of {label}"
            )
        }
        (None, Some(oldest)) => format!(
            "no age is known at which versions are certainly worse than younger ones; at {} days and more the loss is {:.3} of {label}",
            oldest.from_days,
            oldest.loss.unwrap_or(0.0)
        ),
        (None, None) if measured > 0 => format!(
            "{label} was measured at {measured} ages; lists cannot be compared with those of versions that did not show any"
        ),
        (None, None) => "there are too few later observations to say anything yet".to_owned(),
    }
}
