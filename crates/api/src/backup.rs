//! Backups beside the running server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tidemill_core::Timestamp;

use crate::app::App;
use crate::gate::Caller;
use crate::problem::Problem;

/// A copy that stands in the data folder.
#[derive(Debug, Serialize)]
pub(crate) struct Begun {
    /// What was acknowledged before is in it.
    at: Timestamp,
}

/// Makes a copy of all stores as they are now, for `tidemill backup`, which waits for it and takes it elsewhere. Answers once it stands.
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Begun>, Problem> {
    let all = app.projects.values().cloned().collect();
    let at = caller.project.copy_moment(all).await?;
    Ok(Json(Begun { at }))
}
