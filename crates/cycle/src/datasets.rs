//! Datasets: built from the lake, kept in the lake with their record, and built again from it.

use std::sync::Arc;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::{PredictModel, Project};
use tidemill_core::{FeatureTable, ModelName, RunId, Timestamp};
use tidemill_features::dataset::{
    Dataset, DatasetDiff, DatasetRecord, DatasetRequest, DriftRows, ReplayOptions, Served,
    read_again, replay,
};
use tidemill_features::{FeatureSet, ModelFeatures, suggest};
use tidemill_store::lake::{EventsSnapshot, RecordBatches, StoredDataset, TableVersion};
use tidemill_store::{ArtifactHash, EventTable, StoreError};

use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// What is noted down in the lake with a dataset's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetNote {
    /// When it was written.
    pub created_at: Timestamp,
    /// The run that it was built for; absent where a person asked for it.
    #[serde(default)]
    pub run: Option<RunId>,
    /// How it came about.
    pub record: DatasetRecord,
    /// The plan that read its rows, with what each operator did: rows, time, memory that was not enough. Absent for datasets from
    /// before plans were kept.
    #[serde(default)]
    pub plan: Option<String>,
}

/// A dataset, and the plan that read its rows with what was measured.
#[derive(Debug, Clone)]
pub struct BuiltDataset {
    /// The rows and their record.
    pub dataset: Dataset,
    /// The plan. It served all models of the same pass.
    pub plan: Arc<str>,
    /// How long that pass took, in seconds of real time.
    pub seconds: f64,
}

/// A dataset as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptDataset {
    /// Its version.
    pub version: TableVersion,
    /// Whether its rows are there still; the record always is.
    pub has_rows: bool,
    /// What was noted down with it.
    #[serde(flatten)]
    pub note: DatasetNote,
}

impl KeptDataset {
    /// Whether it has the very rows of another one, bit for bit.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.note.record, &other.note.record);
        !ours.digest.is_empty() && ours.digest == theirs.digest
    }
}

/// What a person asks for.
impl ProjectLoop {
    /// Builds the dataset that a run would learn from now, and keeps it.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub async fn build_dataset(
        self: &Arc<Self>,
        model: &ModelName,
    ) -> Result<KeptDataset, CycleError> {
        self.slot(model)?;
        let (this, model) = (self.clone(), model.clone());
        let build = async move {
            let _one_at_a_time = this.running.lock().await;
            this.catch_up().await?;
            this.land(true).await?;
            this.follow_definitions().await?;
            let now = this.clock.now();
            let lane = this.training.lanes(1).free().await?;
            let models = std::slice::from_ref(&model);
            let snapshot = this.stores.lake.events_snapshot(&this.project.name).await?;
            let datasets = this.rows(models, (snapshot, now), &lane).await?;
            let built = datasets.into_iter().next();
            let built = built.ok_or(CycleError::Ended("building"))?;
            Ok(this.keep_dataset(&model, None, built).await?.0)
        };
        self.beside(build).await
    }

    /// Builds a dataset again from its record, and keeps it under a new version.
    ///
    /// # Errors
    /// When there is no such dataset, its record does not say enough, or a store fails.
    pub async fn build_dataset_again(
        self: &Arc<Self>,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<KeptDataset, CycleError> {
        let before = self.dataset(model, version).await?;
        let (this, model) = (self.clone(), model.clone());
        let build = async move {
            let _one_at_a_time = this.running.lock().await;
            let built = this.rebuild_dataset(&before.note.record).await?;
            Ok(this.keep_dataset(&model, None, built).await?.0)
        };
        self.beside(build).await
    }

    /// Builds the rows that a record speaks of: from the events that were there then, with the definitions of then. They
    /// are the same, bit for bit, unless a person was erased meanwhile.
    ///
    /// # Errors
    /// When the record does not say enough, this version of the code computes other features, or a store fails.
    pub async fn rebuild_dataset(
        self: &Arc<Self>,
        record: &DatasetRecord,
    ) -> Result<BuiltDataset, CycleError> {
        let (Some(file), Some(snapshot)) = (&record.project_file, record.events) else {
            let reason = "the record does not say from which events and definitions it was built";
            return Err(CycleError::NotAllowed(reason.to_owned()));
        };
        let text = self.stores.artifacts.get(file).await?;
        let mut project = Project::parse(&String::from_utf8_lossy(&text))?;
        let set = FeatureSet::compile(&project, &project.features)?;
        if set.hash() != record.definition_hash {
            let reason =
                "this version of tidemill computes features otherwise than the one that built it";
            return Err(CycleError::NotAllowed(reason.to_owned()));
        }
        let model = project.models.remove(&record.model);
        let model = model.ok_or_else(|| CycleError::UnknownModel(record.model.to_string()))?;
        let lane = self.training.lanes(1).free().await?;
        let upto = (snapshot, record.known_until);
        let wanted = vec![(model, record.from)];
        let datasets = self.replay(&set, wanted, upto, &lane).await?;
        let built = datasets.into_iter().next();
        let mut built = built.ok_or(CycleError::Ended("building"))?;
        built.dataset.record.project_file = Some(file.clone());
        built.dataset.record.events = Some(snapshot);
        Ok(built)
    }

    /// The datasets of a model, newest first, older than `before` where given.
    ///
    /// # Errors
    /// When there is no such model, a store fails or a record is damaged.
    pub async fn datasets(
        &self,
        model: &ModelName,
        before: Option<TableVersion>,
        limit: usize,
    ) -> Result<Vec<KeptDataset>, CycleError> {
        self.slot(model)?;
        let lake = &self.stores.lake;
        let name = &self.project.name;
        let stored = lake.datasets(name, model, before, limit).await?;
        stored.into_iter().filter_map(read).collect()
    }

    /// One dataset.
    ///
    /// # Errors
    /// When there is no such dataset, a store fails or its record is damaged.
    pub async fn dataset(
        &self,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<KeptDataset, CycleError> {
        let before = TableVersion(version.0.saturating_add(1));
        let found = self.datasets(model, Some(before), 1).await?;
        let found = found.into_iter().find(|found| found.version == version);
        found.ok_or_else(|| CycleError::UnknownDataset(format!("{model}@{}", version.0)))
    }

    /// A dataset and its rows.
    ///
    /// # Errors
    /// When there is no such dataset, its rows were removed, or a store fails.
    pub async fn dataset_rows(
        &self,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<(KeptDataset, RecordBatches), CycleError> {
        let kept = self.dataset(model, version).await?;
        let rows = if kept.has_rows {
            let lake = &self.stores.lake;
            lake.read_dataset(&self.project.name, model, version).await
        } else {
            Err(StoreError::NotFound(String::new()))
        };
        match rows {
            Ok(rows) => Ok((kept, rows)),
            // they may have been removed this very moment
            Err(StoreError::NotFound(_)) => {
                Err(CycleError::RowsRemoved(format!("{model}@{}", version.0)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What differs between two datasets of a model.
    ///
    /// # Errors
    /// As [`ProjectLoop::dataset_rows`].
    pub async fn diff_datasets(
        &self,
        model: &ModelName,
        a: TableVersion,
        b: TableVersion,
    ) -> Result<DatasetDiff, CycleError> {
        let a = self.drift_rows(model, a).await?;
        let b = self.drift_rows(model, b).await?;
        let diff = tokio::task::spawn_blocking(move || a.diff(b)).await;
        Ok(diff.map_err(|_| CycleError::Ended("comparing datasets"))??)
    }

    async fn drift_rows(
        &self,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<DriftRows, CycleError> {
        let (kept, mut rows) = self.dataset_rows(model, version).await?;
        let mut taken = DriftRows::new(kept.note.record);
        while let Some(batch) = rows.next().await {
            taken.push(&batch?)?;
        }
        Ok(taken)
    }
}

/// What runs do.
impl ProjectLoop {
    /// The rows of several models from one pass over the events of a snapshot, as they are at a moment.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        models: &[ModelName],
        (snapshot, now): (EventsSnapshot, Timestamp),
        lane: &Lane,
    ) -> Result<Vec<BuiltDataset>, CycleError> {
        let project_file = self.keep_project_file().await?;
        let engine = self.engine();
        let mut wanted = Vec::new();
        for name in models {
            let model = &self.slot(name)?.model;
            let from = model.training.history.map(|history| now - history);
            wanted.push((model.clone(), from));
        }
        let upto = (snapshot, now);
        let mut datasets = self.replay(engine.set(), wanted, upto, lane).await?;
        for built in &mut datasets {
            built.dataset.record.events = Some(snapshot);
            built.dataset.record.project_file = Some(project_file.clone());
        }
        Ok(datasets)
    }

    /// The rows of the models that are wanted, each from its moment on, from one pass over the events of a snapshot.
    async fn replay(
        self: &Arc<Self>,
        set: &FeatureSet,
        wanted: Vec<(PredictModel, Option<Timestamp>)>,
        (snapshot, known_until): (EventsSnapshot, Timestamp),
        lane: &Lane,
    ) -> Result<Vec<BuiltDataset>, CycleError> {
        let stopwatch = Stopwatch::start();
        let lake = &self.stores.lake;
        let events = lake.event_table(&self.project.name, snapshot).await?;
        let options = self.replay_options(lane);
        let set = set.clone();
        let replaying = lane.read(async move {
            let mut requests = Vec::new();
            for (model, from) in &wanted {
                requests.push(DatasetRequest {
                    model,
                    features: set.select(model)?,
                    from: *from,
                });
            }
            Ok(replay(&set, &requests, events, known_until, &options).await?)
        });
        let replayed = replaying.await?;
        let plan: Arc<str> = replayed.explained.as_str().into();
        let datasets = lane.compute(move || replayed.datasets()).await??;
        let seconds = stopwatch.seconds();
        let built = datasets.into_iter().map(|dataset| BuiltDataset {
            dataset,
            plan: plan.clone(),
            seconds,
        });
        Ok(built.collect())
    }

    /// Reads features again as they were when they were served, from one pass over the events of a table.
    pub(crate) async fn read_again(
        &self,
        features: &ModelFeatures,
        served: Vec<Served>,
        events: Arc<dyn EventTable>,
        lane: &Lane,
    ) -> Result<FeatureTable, CycleError> {
        let (features, options) = (features.clone(), self.replay_options(lane));
        let reading = async move { Ok(read_again(&features, &served, events, &options).await?) };
        lane.read(reading).await
    }

    /// How events are replayed: within a lane's share of what training may take.
    fn replay_options(&self, lane: &Lane) -> ReplayOptions {
        ReplayOptions {
            partitions: lane.threads(),
            memory_bytes_max: lane.share_of(self.options.replay_memory_bytes_max),
            ..ReplayOptions::default()
        }
    }

    /// The project file with which datasets are built now, the features that were suggested included, so that they can be built
    /// again.
    async fn keep_project_file(&self) -> Result<ArtifactHash, CycleError> {
        let mut text = self.project.text.clone();
        if self.project.features.is_empty() {
            let engine = self.engine();
            let suggested = suggest::to_toml(engine.set().definitions());
            text = format!("{text}\n{suggested}");
        }
        Ok(self.stores.artifacts.put(text.into_bytes()).await?)
    }

    /// Writes a dataset to the lake, and removes the rows of those that are too many.
    pub(crate) async fn keep_dataset(
        self: &Arc<Self>,
        model: &ModelName,
        run: Option<RunId>,
        BuiltDataset { dataset, plan, .. }: BuiltDataset,
    ) -> Result<(KeptDataset, Dataset), CycleError> {
        let note = DatasetNote {
            created_at: self.clock.now(),
            run,
            record: dataset.record.clone(),
            plan: Some(plan.to_string()),
        };
        let text = serde_json::to_string(&note).map_err(|source| StoreError::Backend {
            action: "encode the record of a dataset",
            source: source.into(),
        })?;
        let (this, model) = (self.clone(), model.clone());
        let keep = async move {
            let (lake, name) = (&this.stores.lake, &this.project.name);
            let batches = dataset.to_batches()?;
            let version = lake.write_dataset(name, &model, batches, &text).await?;
            // what takes up room is no reason to lose what was made; the next dataset tries again
            if let Err(error) = this.remove_old_rows(&model).await {
                let error = describe(&error);
                tracing::error!(%model, error, "the rows of old datasets cannot be removed");
            }
            let kept = KeptDataset {
                version,
                has_rows: true,
                note,
            };
            Ok((kept, dataset))
        };
        self.in_spare_time(keep).await
    }

    /// Leaves the rows of the newest datasets, and of the one from which the champion was made.
    async fn remove_old_rows(&self, model: &ModelName) -> Result<(), CycleError> {
        let (lake, name) = (&self.stores.lake, &self.project.name);
        let newest = lake.datasets(name, model, None, self.options.datasets_keep);
        let mut keep: Vec<TableVersion> = newest.await?.iter().map(|kept| kept.version).collect();
        if let Some(champion) = self.stores.catalog.champion(name, model).await? {
            let detail = self.run_detail(model, champion).await?;
            keep.extend(detail.and_then(|detail| detail.dataset_version));
        }
        lake.remove_datasets(name, model, &keep).await?;
        Ok(())
    }
}

/// A dataset of the lake with its record; none for those from before records were kept there.
fn read(stored: StoredDataset) -> Option<Result<KeptDataset, CycleError>> {
    if stored.note.is_empty() {
        return None;
    }
    let damaged = |error: serde_json::Error| {
        let what = format!("the record of dataset {}", stored.version.0);
        let detail = error.to_string();
        CycleError::Store(StoreError::Corrupt { what, detail })
    };
    let note = serde_json::from_str(&stored.note).map_err(damaged);
    Some(note.map(|note| KeptDataset {
        version: stored.version,
        has_rows: stored.has_rows,
        note,
    }))
}
