//! What is proved about a model beside its examination: how it ages, its check-ups and rehearsals, its scorecard.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_core::Timestamp;
use tidemill_cycle::{ByHand, Scorecard, Staleness};

use crate::app::App;
use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::InPath;
use crate::problem::Problem;

/// How much versions lose as they grow old, as it was last measured, with the newest check-up and rehearsal; null where there was none.
pub(crate) async fn staleness(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<Value>, Problem> {
    let model = caller.model(&model)?;
    let read = move || {
        let project = &caller.project;
        Ok(json!({
            "staleness": project.staleness(&model)?,
            "checkup": project.last_checkup(&model)?,
            "rehearsal": project.last_rehearsal(&model)?,
        }))
    };
    app.admission.heavy(read).await.map(Json)
}

/// Measures it now.
pub(crate) async fn measure_staleness(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<Staleness>, Problem> {
    let model = caller.model(&model)?;
    let measure = move || async move { Ok(caller.project.measure_staleness(&model).await?) };
    app.admission.heavy_async(measure).await.map(Json)
}

/// The 28 tests of a model, each with its evidence and its age.
pub(crate) async fn scorecard(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<Scorecard>, Problem> {
    let model = caller.model(&model)?;
    let read = move || async move { Ok(caller.project.scorecard(&model).await?) };
    app.admission.heavy_async(read).await.map(Json)
}

/// A test that a person did.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    /// `model1`, …
    test: String,
    /// Who did it.
    by: String,
    /// What was done, and where that is written down.
    note: String,
    /// When; now where absent.
    #[serde(default)]
    at: Option<Timestamp>,
}

/// Writes down that a person did a test.
pub(crate) async fn record(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(Done { test, by, note, at }): JsonBody<Done>,
) -> Result<StatusCode, Problem> {
    let model = caller.model(&model)?;
    let write = move || async move {
        let project = &caller.project;
        let at = at.unwrap_or_else(|| project.clock.now());
        let done = ByHand { by, at, note };
        let actor = caller.actor();
        project.record_by_hand(&model, &test, done, &actor).await?;
        Ok(())
    };
    app.admission.heavy_async(write).await?;
    Ok(StatusCode::NO_CONTENT)
}
