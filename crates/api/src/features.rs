//! The features of a project, and those that are suggested from the events that were seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureColumn;
use tidemill_cycle::{ConsistencyReport, FeatureReport};
use tidemill_features::suggest;

use crate::app::App;
use crate::gate::Caller;
use crate::page::InQuery;
use crate::problem::{ErrorCode, Problem};

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

/// Of which model a report is wanted; of all where absent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    model: Option<String>,
}

/// What each feature is like, what it costs and what it is good for.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    InQuery(Of { model }): InQuery<Of>,
) -> Result<Json<FeatureReport>, Problem> {
    let model = model.map(|model| caller.model(&model)).transpose()?;
    let look = move || async move { Ok(caller.project.feature_report(model.as_ref()).await?) };
    app.admission.heavy_async(look).await.map(Json)
}

/// What could be kept.
pub(crate) async fn suggest(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Suggested>, Problem> {
    app.admission
        .heavy(move || {
            let project = &caller.project;
            let seen = project.engine().seen();
            let definitions = suggest::suggest(&seen, &project.project);
            Ok(Json(Suggested {
                toml: suggest::to_commented_toml(&definitions, &seen, &project.project),
            }))
        })
        .await
}

/// What was found when answers were read again.
pub(crate) async fn consistency(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<ConsistencyReport>, Problem> {
    let look = move || Ok(caller.project.consistency()?);
    app.admission.heavy(look).await.map(Json)
}

/// How many answers are read again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// The share of them, from 0 to 1; all of them where absent.
    #[serde(default)]
    share: Option<f64>,
}

/// Reads the answers again that were given since the last time.
pub(crate) async fn check_consistency(
    State(app): State<Arc<App>>,
    caller: Caller,
    InQuery(Check { share }): InQuery<Check>,
) -> Result<Json<ConsistencyReport>, Problem> {
    let share = share.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&share) {
        let detail = format!("share is {share}, it is from 0 to 1");
        return Err(Problem::new(ErrorCode::BadQuery, detail).field("share"));
    }
    let check = move || async move { Ok(caller.project.check_consistency(share).await?) };
    app.admission.heavy_async(check).await.map(Json)
}
