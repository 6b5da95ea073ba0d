//! How versions take over, and the drill that proves that a bad one is sent back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tidemill_cycle::{Drill, RolloutStatus};

use crate::app::App;
use crate::gate::Caller;
use crate::page::InPath;
use crate::problem::Problem;

/// How a version takes over, or the last one did.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<RolloutStatus>, Problem> {
    let model = caller.model(&model)?;
    let read = move || Ok(caller.project.rollout_status(&model)?);
    app.admission.heavy(read).await.map(Json)
}

/// Plants a bad version where nobody hears it, and measures how long it takes until the champion answers again.
pub(crate) async fn drill(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
) -> Result<Json<Drill>, Problem> {
    let model = caller.model(&model)?;
    let play = move || async move {
        let actor = caller.actor();
        Ok(caller.project.drill_rollback(&model, &actor).await?)
    };
    app.admission.heavy_async(play).await.map(Json)
}
