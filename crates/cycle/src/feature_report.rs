//! What each feature is like, what it costs, and what it is good for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureColumn, ModelName, Timestamp};
use tidemill_features::dataset::{ColumnStatistics, DatasetRecord};
use tidemill_features::{ColumnSources, Engine, SeenEvents};

use crate::project_loop::{CycleError, ProjectLoop};

/// The stored entities of each kind that are looked at.
const SAMPLE_MAX: usize = 200;
/// The persons for whom reading is timed.
const TIMED_MAX: usize = 50;

/// All features of a project, or those of a model.
#[derive(Debug, Clone, Serialize)]
pub struct FeatureReport {
    /// The hash of the definitions.
    pub definition_hash: String,
    /// How many stored persons were looked at for what features cost.
    pub persons: usize,
    /// What is stored of one of them, in bytes, on average.
    pub person_bytes: Option<f64>,
    /// The features, in the order of the definitions.
    pub features: Vec<ReportedFeature>,
    /// Those that nothing uses.
    pub unused: Vec<UnusedFeature>,
}

/// One feature.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedFeature {
    /// What it is.
    #[serde(flatten)]
    pub column: FeatureColumn,
    /// What its values are like in the newest dataset that has it.
    pub values: Option<Values>,
    /// When the newest event happened that it reads.
    pub newest_event: Option<Timestamp>,
    /// How long ago that is, in seconds.
    pub age_seconds: Option<f64>,
    /// The mean bytes of the state that it is read from, which the windows of one definition share.
    pub state_bytes: Option<f64>,
    /// How long it takes to read it alone, in microseconds, on average.
    pub read_us: Option<f64>,
    /// The models that read it.
    pub models: Vec<FeatureUse>,
}

/// What the values of a feature are like in a dataset.
#[derive(Debug, Clone, Serialize)]
pub struct Values {
    /// The dataset, like `will_return@3`.
    pub dataset: String,
    /// Its rows.
    pub rows: u64,
    /// Missing values, quantiles, categories.
    #[serde(flatten)]
    pub statistics: ColumnStatistics,
}

/// A model that reads a feature.
#[derive(Debug, Clone, Serialize)]
pub struct FeatureUse {
    /// The model.
    pub model: ModelName,
    /// Its champion.
    pub version: Option<u32>,
    /// How much the feature moves the champion's answers; absent without one, and where it was trained without the
    /// feature or before gains were kept.
    pub gain: Option<f64>,
}

/// A feature that could go.
#[derive(Debug, Clone, Serialize)]
pub struct UnusedFeature {
    /// The feature.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

/// What is known of a model's features.
struct OfModel {
    model: ModelName,
    /// The features that it reads now.
    reads: Vec<String>,
    champion: Option<u32>,
    gains: HashMap<String, f64>,
    /// Its newest dataset.
    dataset: Option<(String, DatasetRecord)>,
}

impl ProjectLoop {
    /// What each feature is like, what it costs and what it is good for: of all, or of those that one model reads.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub async fn feature_report(
        self: &Arc<Self>,
        only: Option<&ModelName>,
    ) -> Result<FeatureReport, CycleError> {
        let mut models = Vec::new();
        for model in self.project.models.keys() {
            if only.is_none_or(|only| only == model) {
                models.push(self.of_model(model).await?);
            }
        }
        if let (Some(only), true) = (only, models.is_empty()) {
            return Err(CycleError::UnknownModel(only.to_string()));
        }
        // costs are looked at where states are stored
        self.commit()?;
        let (this, only) = (self.clone(), only.is_some());
        tokio::task::spawn_blocking(move || this.report(&models, only))
            .await
            .map_err(|_| CycleError::Ended("looking at features"))?
    }

    async fn of_model(&self, model: &ModelName) -> Result<OfModel, CycleError> {
        let selected = self.engine().set().select(&self.slot(model)?.model)?;
        let newest = self.datasets(model, None, 1).await?.into_iter().next();
        let catalog = &self.stores.catalog;
        let champion = catalog.champion(&self.project.name, model).await?;
        let mut gains = HashMap::new();
        if let Some(number) = champion {
            let detail = self.run_detail(model, number).await?.unwrap_or_default();
            gains.extend(detail.gains.into_iter().map(|gain| (gain.name, gain.gain)));
        }
        Ok(OfModel {
            model: model.clone(),
            reads: selected.names(),
            champion,
            gains,
            dataset: newest.map(|kept| (format!("{model}@{}", kept.version.0), kept.note.record)),
        })
    }

    fn report(&self, models: &[OfModel], only: bool) -> Result<FeatureReport, CycleError> {
        let (engine, now) = (self.engine(), self.clock.now());
        let set = engine.set();
        let costs = engine.state_costs(SAMPLE_MAX)?;
        let timed = &costs.persons[..costs.persons.len().min(TIMED_MAX)];
        let (seen, sources) = (engine.seen(), set.sources());
        let values = values(models);
        let mut features = Vec::new();
        for (place, column) in set.columns().iter().enumerate() {
            let uses = uses(models, &column.name);
            if only && uses.is_empty() {
                continue;
            }
            let newest_event = newest_event(&sources[place], &seen);
            features.push(ReportedFeature {
                column: column.clone(),
                values: values.get(column.name.as_str()).cloned(),
                newest_event,
                age_seconds: newest_event.map(|event| now.since(event).micros() as f64 / 1e6),
                state_bytes: costs.bytes[place],
                read_us: read_us(&engine, timed, &column.name, now)?,
                models: uses,
            });
        }
        Ok(FeatureReport {
            definition_hash: set.hash().to_owned(),
            persons: costs.persons.len(),
            person_bytes: costs.person_bytes,
            unused: features.iter().filter_map(unused).collect(),
            features,
        })
    }
}

/// Each feature in the newest dataset that has it.
fn values(models: &[OfModel]) -> BTreeMap<&str, Values> {
    let mut datasets: Vec<&(String, DatasetRecord)> =
        models.iter().filter_map(|of| of.dataset.as_ref()).collect();
    datasets.sort_by_key(|(_, record)| record.known_until);
    let mut values = BTreeMap::new();
    for (dataset, record) in datasets {
        for statistics in &record.columns {
            let found = Values {
                dataset: dataset.clone(),
                rows: record.rows,
                statistics: statistics.clone(),
            };
            values.insert(statistics.name.as_str(), found);
        }
    }
    values
}

fn uses(models: &[OfModel], name: &str) -> Vec<FeatureUse> {
    let reading = models
        .iter()
        .filter(|of| of.reads.iter().any(|read| read == name));
    let of = |of: &OfModel| FeatureUse {
        model: of.model.clone(),
        version: of.champion,
        gain: of.gains.get(name).copied(),
    };
    reading.map(of).collect()
}

fn newest_event(sources: &ColumnSources, seen: &SeenEvents) -> Option<Timestamp> {
    let read = seen.events.iter().filter(|(name, _)| {
        sources.events.contains(*name) || (sources.all_events && !name.starts_with('$'))
    });
    read.map(|(_, event)| event.last).max()
}

/// How long it takes to read a feature of one person, on average.
fn read_us(
    engine: &Engine,
    persons: &[PersonKey],
    name: &str,
    now: Timestamp,
) -> Result<Option<f64>, CycleError> {
    let features = engine.set().select_columns(&[name])?;
    let read = || {
        persons
            .iter()
            .try_for_each(|person| engine.read(person, now, &features).map(drop))
    };
    // the first time they may come from the disk
    read()?;
    let stopwatch = Stopwatch::start();
    read()?;
    let micros = stopwatch.micros() as f64;
    Ok((!persons.is_empty()).then(|| micros / persons.len() as f64))
}

fn unused(feature: &ReportedFeature) -> Option<UnusedFeature> {
    let moves_nothing = |of: &FeatureUse| of.gain == Some(0.0);
    let why = if feature.models.is_empty() {
        "no model reads it"
    } else if feature.models.iter().all(moves_nothing) {
        "it moves no answer of a champion"
    } else {
        return None;
    };
    Some(UnusedFeature {
        name: feature.column.name.clone(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use tidemill_core::feature::{FeatureType, Unit};

    use super::*;

    fn used_by(gains: &[Option<f64>]) -> Option<&'static str> {
        let of = |gain: &Option<f64>| FeatureUse {
            model: "m".parse().expect("a name"),
            version: gain.map(|_| 1),
            gain: *gain,
        };
        let feature = ReportedFeature {
            column: FeatureColumn {
                name: "user.x".to_owned(),
                feature_type: FeatureType::Number,
                label: "x".to_owned(),
                unit: Unit::Plain,
            },
            values: None,
            newest_event: None,
            age_seconds: None,
            state_bytes: None,
            read_us: None,
            models: gains.iter().map(of).collect(),
        };
        unused(&feature).map(|unused| unused.why)
    }

    #[test]
    fn what_nothing_uses_is_named() {
        assert_eq!(used_by(&[]), Some("no model reads it"));
        let moves_nothing = Some("it moves no answer of a champion");
        assert_eq!(used_by(&[Some(0.0), Some(0.0)]), moves_nothing);
        assert_eq!(used_by(&[Some(0.0), Some(0.1)]), None);
        // what is not known is not held against it
        assert_eq!(used_by(&[None]), None);
        assert_eq!(used_by(&[Some(0.0), None]), None);
    }
}
