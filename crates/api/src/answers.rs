//! Answers out: predictions, one by one and in batches, and the decisions that were logged.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_core::decision::Fallback;
use tidemill_core::{Decision, DecisionId, ModelName, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_cycle::version::Explanation;
use tidemill_monitor::traffic::Ended;
use tidemill_serve::{Answering, PredictRequest, Prediction, ServeError};

use crate::app::App;
use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::{InPath, InQuery, Page, next_cursor, page_json};
use crate::problem::{ErrorCode, Problem};

/// The most entities of a predict batch.
pub const PREDICT_BATCH_MAX: usize = 1_000;

/// Answers one question. Nothing here waits: no catalog, no lake, no lock that others hold for long.
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(request): JsonBody<PredictRequest>,
) -> Result<Json<Prediction>, Problem> {
    let model = caller.model(&model)?;
    answer(&app, &caller.project, &model, &request).map(Json)
}

/// Many entities at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictBatch {
    entities: Vec<PredictRequest>,
    #[serde(default)]
    reasons: bool,
}

/// The answers, in the order of the entities.
#[derive(Debug, Serialize)]
pub(crate) struct Predictions {
    predictions: Vec<Prediction>,
}

/// Answers the same question about many.
pub(crate) async fn predict_batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(batch): JsonBody<PredictBatch>,
) -> Result<Json<Predictions>, Problem> {
    let model = caller.model(&model)?;
    let PredictBatch {
        mut entities,
        reasons,
    } = batch;
    if entities.len() > PREDICT_BATCH_MAX {
        let detail = format!(
            "the batch has {} entities, at most {PREDICT_BATCH_MAX} are accepted",
            entities.len()
        );
        return Err(Problem::new(ErrorCode::TooManyEvents, detail).field("entities"));
    }
    if let Some(place) = entities.iter().position(|entity| entity.person().is_none()) {
        return Err(nobody().field(format!("entities[{place}]")));
    }
    for entity in &mut entities {
        entity.reasons |= reasons;
    }
    let work = {
        let app = app.clone();
        move || {
            entities
                .iter()
                .map(|entity| answer(&app, &caller.project, &model, entity))
                .collect()
        }
    };
    let predictions: Vec<Prediction> = app.admission.heavy(work).await?;
    Ok(Json(Predictions { predictions }))
}

/// Asks the answerer and counts the answer.
fn answer(
    app: &App,
    project: &ProjectLoop,
    model: &ModelName,
    request: &PredictRequest,
) -> Result<Prediction, Problem> {
    let (prediction, answering) = project.answerer.predict(model, request)?;
    count(app, project, model, answering);
    Ok(prediction)
}

/// Counts an answer.
pub(crate) fn count(app: &App, project: &ProjectLoop, model: &ModelName, answering: Answering) {
    let Answering {
        latency_us,
        fallback,
        version,
    } = answering;
    let counted = version.map_or_else(
        || fallback_label(fallback).to_owned(),
        |number| number.to_string(),
    );
    let ended = match (fallback, version) {
        (Some(Fallback::VersionFailed), _) => Ended::Failed,
        (None, Some(_)) => Ended::Well,
        _ => Ended::Short,
    };
    app.metrics.answered(
        (project.project.name.as_str(), model.as_str()),
        &counted,
        ended,
        latency_us,
        app.clock.now(),
    );
}

impl From<ServeError> for Problem {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::UnknownModel(_) => {
                Self::new(ErrorCode::UnknownModel, error.to_string()).field("model")
            }
            ServeError::Nobody => nobody(),
            ServeError::TooMany { field, .. } => {
                Self::new(ErrorCode::TooManyEvents, error.to_string()).field(field)
            }
            ServeError::BadExpression {
                field,
                message,
                hint,
            } => Self::new(ErrorCode::BadExpression, message)
                .field(field)
                .hint(hint),
            ServeError::UnknownDecision(_) => {
                Self::new(ErrorCode::UnknownDecision, error.to_string()).field("after")
            }
            ServeError::Features(error) => error.into(),
            ServeError::Log(error) => Self::store(&error),
        }
    }
}

/// How an answer of a fallback is counted.
fn fallback_label(fallback: Option<Fallback>) -> &'static str {
    match fallback {
        Some(Fallback::NoVersion) => "fallback_no_version",
        Some(Fallback::UnknownEntity) => "fallback_unknown_entity",
        Some(Fallback::VersionFailed) => "fallback_version_failed",
        Some(Fallback::Holdout) => "holdout",
        None => "fallback",
    }
}

fn nobody() -> Problem {
    Problem::new(
        ErrorCode::Nobody,
        "neither 'user' nor 'anonymous_id' is given",
    )
    .field("user")
}

/// A decision in a list: without its features and context, which `/v1/decisions/{id}` has.
#[derive(Debug, Serialize)]
struct DecisionLine {
    decision_id: DecisionId,
    model: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback>,
    entity: String,
    moment: Timestamp,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<String>,
    latency_us: u64,
}

impl From<Decision> for DecisionLine {
    fn from(decision: Decision) -> Self {
        Self {
            decision_id: decision.id,
            version: decision.version_id().map(|version| version.to_string()),
            model: decision.model,
            fallback: decision.fallback,
            entity: decision.entity,
            moment: decision.moment,
            score: decision.answer.score,
            label: decision.answer.label,
            items: decision.items.into_iter().map(|shown| shown.item).collect(),
            latency_us: decision.latency_us,
        }
    }
}

/// The newest decisions.
pub(crate) async fn decisions(
    State(app): State<Arc<App>>,
    caller: Caller,
    InQuery(page): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let (limit, before) = (page.limit()?, page.before::<u64>("decisions")?);
    let read = move || Ok(caller.project.decisions.newest(before, limit as usize)?);
    let decisions = app.admission.heavy(read).await?;
    let next = next_cursor(
        "decisions",
        limit,
        decisions.len(),
        decisions.last().map(|last| last.sequence),
    );
    let lines: Vec<DecisionLine> = decisions
        .into_iter()
        .map(|decision| decision.value.into())
        .collect();
    page_json("decisions", &lines, next)
}

/// Everything that was known when one answer was given, and why it was that answer.
pub(crate) async fn decision(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Explanation>, Problem> {
    let unknown = || {
        Problem::new(
            ErrorCode::UnknownDecision,
            "this project has no decision with this id",
        )
        .field("id")
    };
    let id: DecisionId = id.parse().map_err(|_| unknown())?;
    let explained = app
        .admission
        .heavy_async(move || async move { Ok(caller.project.explain(id).await?) })
        .await?;
    explained.map(Json).ok_or_else(unknown)
}
