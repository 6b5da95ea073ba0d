//! Datasets: building, listing, looking at, comparing and downloading them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill_core::{ModelName, RunId, Timestamp};
use tidemill_cycle::{CycleError, KeptDataset};
use tidemill_features::FeatureError;
use tidemill_features::dataset::{DatasetDiff, Export, ExportFormat};
use tidemill_store::lake::{RecordBatches, TableVersion};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::gate::Caller;
use crate::page::{InPath, InQuery, Page, next_cursor, page_json};
use crate::problem::{ErrorCode, Problem};

/// A dataset as it is listed, without its record.
#[derive(Debug, Serialize)]
struct DatasetLine {
    dataset: String,
    version: u64,
    rows: u64,
    observed: u64,
    features: usize,
    target_mean: f64,
    suspicious: usize,
    known_until: Timestamp,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    has_rows: bool,
}

impl From<KeptDataset> for DatasetLine {
    fn from(kept: KeptDataset) -> Self {
        let record = kept.note.record;
        Self {
            dataset: format!("{}@{}", record.model, kept.version.0),
            version: kept.version.0,
            rows: record.rows,
            observed: record.observed,
            features: record.features.len(),
            target_mean: record.target.weighted_mean.unwrap_or(record.target.mean),
            suspicious: record.suspicious.len(),
            known_until: record.known_until,
            created_at: kept.note.created_at,
            run: kept.note.run,
            has_rows: kept.has_rows,
        }
    }
}

/// The datasets of a model, newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(page): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let model = caller.model(&model)?;
    let (limit, before) = (page.limit()?, page.before::<u64>("datasets")?);
    let read = move || async move {
        let before = before.map(TableVersion);
        let project = &caller.project;
        Ok(project.datasets(&model, before, limit as usize).await?)
    };
    let kept: Vec<KeptDataset> = app.admission.heavy_async(read).await?;
    let last = kept.last().map(|kept| kept.version.0);
    let next = next_cursor("datasets", limit, kept.len(), last);
    let lines: Vec<DatasetLine> = kept.into_iter().map(DatasetLine::from).collect();
    page_json("datasets", &lines, next)
}

/// One dataset with its record.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath((model, version)): InPath<(String, String)>,
) -> Result<Json<KeptDataset>, Problem> {
    let model = caller.model(&model)?;
    let version = version_of(&model, &version)?;
    let read = move || async move { Ok(caller.project.dataset(&model, version).await?) };
    app.admission.heavy_async(read).await.map(Json)
}

/// A version in a path or a query.
fn version_of(model: &ModelName, text: &str) -> Result<TableVersion, Problem> {
    text.parse().map(TableVersion).map_err(|_| {
        let shown: String = text.chars().take(20).collect();
        Problem::new(
            ErrorCode::UnknownDataset,
            format!("the model '{model}' has no dataset '{shown}'"),
        )
        .field("version")
    })
}

/// How a dataset is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    /// Whether to answer only when it is there.
    #[serde(default)]
    wait: bool,
    /// Build this version again from its record.
    again: Option<u64>,
}

/// Builds a dataset. It goes on whether the caller waits or not.
pub(crate) async fn build(
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(Build { wait, again }): InQuery<Build>,
) -> Result<Response, Problem> {
    let model = caller.model(&model)?;
    let list = format!("/v1/models/{model}/datasets");
    let before = match again {
        Some(again) => Some(caller.project.dataset(&model, TableVersion(again)).await?),
        None => None,
    };
    let Some(turn) = caller.project.take_turn(&model) else {
        let detail = format!("a training or a dataset of '{model}' is under way already");
        return Err(Problem::new(ErrorCode::NotAllowed, detail)
            .hint(Some(format!("ask again in a moment, or look at {list}"))));
    };
    let asked = model.clone();
    let building = tokio::spawn(async move {
        let _turn = turn;
        let built = match again {
            Some(again) => {
                let again = TableVersion(again);
                caller.project.build_dataset_again(&model, again).await
            }
            None => caller.project.build_dataset(&model).await,
        };
        built.inspect_err(|error| tracing::error!(%model, %error, "building a dataset broke off"))
    });
    if !wait {
        let accepted = Json(json!({ "state": "accepted", "datasets": list }));
        let mut response = (StatusCode::ACCEPTED, accepted).into_response();
        if let Ok(location) = HeaderValue::from_str(&list) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    let built: Result<KeptDataset, CycleError> =
        building.await.map_err(|error| Problem::internal(&error))?;
    let built = built?;
    let same = before.map(|before| built.is_same_as(&before));
    let path = format!("/v1/models/{asked}/datasets/{}", built.version.0);
    let mut answer = serde_json::to_value(built).map_err(|error| Problem::internal(&error))?;
    if let (Some(again), Some(same), Some(answer)) = (again, same, answer.as_object_mut()) {
        answer.insert("again".to_owned(), again.into());
        answer.insert("identical".to_owned(), same.into());
    }
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    if let Ok(location) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What differs from a dataset to another one.
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath((model, version, with)): InPath<(String, String, String)>,
) -> Result<Json<DatasetDiff>, Problem> {
    let model = caller.model(&model)?;
    let (a, b) = (version_of(&model, &version)?, version_of(&model, &with)?);
    let compare = move || async move { Ok(caller.project.diff_datasets(&model, a, b).await?) };
    app.admission.heavy_async(compare).await.map(Json)
}

/// In which format rows are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Format {
    format: Option<String>,
}

/// The rows of a dataset as a file.
pub(crate) async fn rows(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath((model, version)): InPath<(String, String)>,
    InQuery(Format { format }): InQuery<Format>,
) -> Result<Response, Problem> {
    let model = caller.model(&model)?;
    let version = version_of(&model, &version)?;
    let format = format.as_deref().unwrap_or("parquet");
    let format: ExportFormat = format
        .parse()
        .map_err(|error: String| Problem::new(ErrorCode::BadQuery, error).field("format"))?;
    let place = app.admission.download()?;
    let (kept, rows) = caller.project.dataset_rows(&model, version).await?;
    let export = Export::new(format, &kept.note.record);
    let name = format!("attachment; filename=\"{model}-{}.{format}\"", version.0);
    let mut response = Body::from_stream(file(export, rows, place)).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(format.media_type());
    headers.insert(header::CONTENT_TYPE, kind);
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The bytes of a file as its rows are read: a reader that is slow holds up the reading, not the memory. An error ends it before
/// its last byte, which the reader notices.
fn file(
    export: Export,
    rows: RecordBatches,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, FeatureError>> {
    let state = (Some(export), rows, place);
    let pieces = stream::try_unfold(state, |(export, mut rows, place)| async move {
        let Some(mut export) = export else {
            return Ok::<_, FeatureError>(None);
        };
        let batch = rows.next().await.transpose();
        let batch = batch.inspect_err(|error| tracing::error!(%error, "a download broke off"))?;
        let encode = move || -> Result<(Vec<u8>, Option<Export>), FeatureError> {
            Ok(match batch {
                Some(batch) => (export.push(&batch)?, Some(export)),
                None => (export.finish()?, None),
            })
        };
        let encoded = tokio::task::spawn_blocking(encode).await;
        let (bytes, export) = encoded.map_err(|_| FeatureError::Ended("encoding rows"))??;
        Ok(Some((Bytes::from(bytes), (export, rows, place))))
    });
    pieces.try_filter(|bytes| std::future::ready(!bytes.is_empty()))
}
