//! What arrives, and what of it is not as before.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidemill_cycle::DataReport;

use crate::app::App;
use crate::gate::Caller;
use crate::page::InQuery;
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
