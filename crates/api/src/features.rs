//! The features of a project, and those that are suggested from the events that were seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tidemill_core::feature::FeatureColumn;
use tidemill_features::suggest;

use crate::app::App;
use crate::gate::Caller;
use crate::problem::Problem;

/// The features that are kept now.
#[derive(Debug, Serialize)]
pub(crate) struct Kept {
    /// The hash of their definitions.
    definition_hash: String,
    features: Vec<FeatureColumn>,
}

/// A `[features]` part made from what was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Suggested {
    /// To be pasted into the project file and edited.
    toml: String,
}

/// What is kept.
pub(crate) async fn list(caller: Caller) -> Json<Kept> {
    let engine = caller.project.engine();
    let set = engine.set();
    Json(Kept {
        definition_hash: set.hash().to_owned(),
        features: set.columns().to_vec(),
    })
}

/// What could be kept.
pub(crate) async fn suggest(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Suggested>, Problem> {
    app.admission
        .heavy(move || {
            let project = &caller.project;
            let definitions = suggest::suggest(&project.engine().seen(), &project.project);
            Ok(Json(Suggested {
                toml: suggest::to_toml(&definitions),
            }))
        })
        .await
}
