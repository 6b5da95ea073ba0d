//! Models: how they do, their versions and runs, and what a person asks of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill_core::{ModelName, RunId, Timestamp};
use tidemill_cycle::{CycleError, ModelStatus, ValueReport};
use tidemill_store::catalog::{Run, RunState, Version};

use crate::app::App;
use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::{InPath, InQuery, Page, next_cursor, page_json};
use crate::problem::{ErrorCode, Problem};

/// All models with how they do.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    let read = move || async move {
        let mut models = Vec::new();
        let project = &caller.project.project;
        for model in project.model_names() {
            models.push(caller.project.model_status(model).await?);
        }
        Ok(models)
    };
    let models: Vec<ModelStatus> = app.admission.heavy_async(read).await?;
    page_json("models", &models, None)
}

/// How one model does.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<ModelStatus>, Problem> {
    let model = caller.model(&model)?;
    let read = move || async move { Ok(caller.project.model_status(&model).await?) };
    app.admission.heavy_async(read).await.map(Json)
}

/// A version as it is listed; `detail` only where one is asked for.
#[derive(Debug, Serialize)]
struct VersionLine {
    version: String,
    number: u32,
    champion: bool,
    passed: bool,
    created_at: Timestamp,
    run: RunId,
    artifact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

impl VersionLine {
    fn new(version: Version, champion: Option<u32>) -> Self {
        Self {
            version: format!("{}@{}", version.model, version.number),
            number: version.number,
            champion: champion == Some(version.number),
            passed: version.passed,
            created_at: version.created_at,
            run: version.run,
            artifact: version.artifact.as_str().to_owned(),
            detail: None,
        }
    }
}

/// The versions of a model, newest first.
pub(crate) async fn versions(
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(page): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let model = caller.model(&model)?;
    let (limit, before) = (page.limit()?, page.before::<u32>("versions")?);
    let (catalog, project) = (&caller.project.stores.catalog, &caller.project.project.name);
    let champion = catalog.champion(project, &model).await?;
    let versions = catalog.versions(project, &model, before, limit).await?;
    let next = next_cursor(
        "versions",
        limit,
        versions.len(),
        versions.last().map(|version| version.number),
    );
    let lines: Vec<_> = versions
        .into_iter()
        .map(|version| VersionLine::new(version, champion))
        .collect();
    page_json("versions", &lines, next)
}

/// One version with its evaluation and the gate's verdict.
pub(crate) async fn version(
    caller: Caller,
    InPath((model, number)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let model = caller.model(&model)?;
    let unknown = || {
        Problem::new(
            ErrorCode::UnknownVersion,
            format!("the model '{model}' has no such version"),
        )
        .field("version")
    };
    let number: u32 = number.parse().map_err(|_| unknown())?;
    let (catalog, project) = (&caller.project.stores.catalog, &caller.project.project.name);
    let mut version = catalog
        .version(project, &model, number)
        .await?
        .ok_or_else(unknown)?;
    let champion = catalog.champion(project, &model).await?;
    let detail = Some(version.detail.take());
    Ok(Json(VersionLine {
        detail,
        ..VersionLine::new(version, champion)
    })
    .into_response())
}

/// A run as it is listed; `detail` only where one is asked for.
#[derive(Debug, Serialize)]
struct RunLine {
    id: RunId,
    model: ModelName,
    trigger: String,
    state: RunState,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

impl From<Run> for RunLine {
    fn from(run: Run) -> Self {
        Self {
            id: run.id,
            version: run.version.map(|number| format!("{}@{number}", run.model)),
            model: run.model,
            trigger: run.trigger,
            state: run.state,
            started_at: run.started_at,
            finished_at: run.finished_at,
            summary: run.summary,
            detail: None,
        }
    }
}

impl RunLine {
    fn with_detail(mut run: Run) -> Self {
        let detail = Some(run.detail.take());
        Self {
            detail,
            ..Self::from(run)
        }
    }
}

/// What a model has earned.
pub(crate) async fn value(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<ValueReport>, Problem> {
    let model = caller.model(&model)?;
    let work = move || async move { Ok(caller.project.value_report(&model).await?) };
    app.admission.heavy_async(work).await.map(Json)
}

/// The runs of a model, newest first.
pub(crate) async fn runs(
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(page): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let model = caller.model(&model)?;
    let (limit, before) = (page.limit()?, page.before::<RunId>("runs")?);
    let (catalog, project) = (&caller.project.stores.catalog, &caller.project.project.name);
    let runs = catalog.runs(project, Some(&model), before, limit).await?;
    let next = next_cursor("runs", limit, runs.len(), runs.last().map(|run| run.id));
    let lines: Vec<RunLine> = runs.into_iter().map(RunLine::from).collect();
    page_json("runs", &lines, next)
}

/// One run, stage by stage.
pub(crate) async fn run(
    caller: Caller,
    InPath((model, id)): InPath<(String, String)>,
) -> Result<Response, Problem> {
    let model = caller.model(&model)?;
    let unknown = || {
        Problem::new(
            ErrorCode::UnknownRun,
            format!("the model '{model}' has no such run"),
        )
        .field("id")
    };
    let id: RunId = id.parse().map_err(|_| unknown())?;
    let run = caller
        .project
        .stores
        .catalog
        .run(&caller.project.project.name, id)
        .await?;
    let run = run.filter(|run| run.model == model).ok_or_else(unknown)?;
    Ok(Json(RunLine::with_detail(run)).into_response())
}

/// How training is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Train {
    /// Whether to answer only when it has ended.
    #[serde(default)]
    wait: bool,
}

/// Starts a run. It goes on whether the caller waits or not.
pub(crate) async fn train(
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(Train { wait }): InQuery<Train>,
) -> Result<Response, Problem> {
    let model = caller.model(&model)?;
    let runs = format!("/v1/models/{model}/runs");
    let accepted = |state: &str| {
        let mut response = (
            StatusCode::ACCEPTED,
            Json(json!({ "state": state, "runs": runs })),
        )
            .into_response();
        if let Ok(location) = HeaderValue::from_str(&runs) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    };
    let Some(turn) = caller.project.take_turn(&model) else {
        if wait {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                format!("a training or a dataset of '{model}' is under way already"),
            )
            .hint(Some(format!("ask without wait, or look at {runs}"))));
        }
        return Ok(accepted("under_way"));
    };
    let actor = caller.actor();
    caller
        .project
        .audit(&actor, ("train", model.as_str()), "")
        .await?;
    let training = tokio::spawn(async move {
        let _turn = turn;
        let trained = caller
            .project
            .train(std::slice::from_ref(&model), "person", &actor)
            .await;
        trained.inspect_err(|error| tracing::error!(%model, %error, "training broke off"))
    });
    if !wait {
        return Ok(accepted("accepted"));
    }
    let trained: Result<Vec<Run>, CycleError> =
        training.await.map_err(|error| Problem::internal(&error))?;
    let lines: Vec<RunLine> = trained?.into_iter().map(RunLine::with_detail).collect();
    page_json("runs", &lines, None).map(IntoResponse::into_response)
}

/// Which version shall answer, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promote {
    version: u32,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "override")]
    override_gate: bool,
}

/// Lets a version answer.
pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(Promote {
        version,
        reason,
        override_gate,
    }): JsonBody<Promote>,
) -> Result<Json<ModelStatus>, Problem> {
    let model = caller.model(&model)?;
    let change = move || async move {
        caller
            .project
            .promote(&model, version, &caller.actor(), &reason, override_gate)
            .await?;
        Ok(caller.project.model_status(&model).await?)
    };
    app.admission.heavy_async(change).await.map(Json)
}

/// Why the version that answers shall not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    #[serde(default)]
    reason: String,
}

/// Lets the champion before this one answer again, or the fallback.
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(Rollback { reason }): JsonBody<Rollback>,
) -> Result<Json<ModelStatus>, Problem> {
    let model = caller.model(&model)?;
    let change = move || async move {
        caller
            .project
            .rollback(&model, &caller.actor(), &reason)
            .await?;
        Ok(caller.project.model_status(&model).await?)
    };
    app.admission.heavy_async(change).await.map(Json)
}
