//! What arrives and what is answered, and what of it is not as before.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidemill_cycle::{AnswersReport, DataReport};

use crate::app::App;
use crate::gate::Caller;
use crate::page::{InPath, InQuery};
use crate::problem::Problem;

/// Which event is wanted in detail; all in a line each where absent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    event: Option<String>,
}

/// Volumes, freshness, values, and what differs.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    InQuery(Of { event }): InQuery<Of>,
) -> Result<Json<DataReport>, Problem> {
    let read = move || Ok(caller.project.data_report(event.as_deref())?);
    app.admission.heavy(read).await.map(Json)
}

/// Which feature is wanted day by day.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Served {
    feature: Option<String>,
}

/// What a model answers, by which versions, from which features, and what differs.
pub(crate) async fn answers(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    InQuery(Served { feature }): InQuery<Served>,
) -> Result<Json<AnswersReport>, Problem> {
    let model = caller.model(&model)?;
    let read = move || async move { Ok(caller.project.answers_report(&model, feature).await?) };
    app.admission.heavy_async(read).await.map(Json)
}
