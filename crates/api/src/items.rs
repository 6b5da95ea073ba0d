//! Items: what can be recommended, and its attributes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tidemill_core::Item;

use crate::app::App;
use crate::body::Received;
use crate::events::Accepted;
use crate::gate::Caller;
use crate::page::InPath;
use crate::problem::{ErrorCode, Problem};

/// Adds items or changes them.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Received(body): Received,
) -> Result<Json<Accepted>, Problem> {
    let receipt = app
        .intake
        .accept_items(&caller.project.project, &body)
        .await;
    Accepted::of(&app, receipt).map(Json)
}

/// Takes an item away.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Accepted>, Problem> {
    check_id(&app, &id)?;
    let receipt = app.intake.delete_item(&caller.project.project, &id).await;
    Accepted::of(&app, receipt).map(Json)
}

/// One item as the features see it now.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<Item>, Problem> {
    check_id(&app, &id)?;
    let item = caller.project.engine().item(&id)?;
    item.map(Json).ok_or_else(|| {
        Problem::new(ErrorCode::UnknownItem, format!("there is no item '{id}'")).field("id")
    })
}

fn check_id(app: &App, id: &str) -> Result<(), Problem> {
    let bytes_max = app.intake.limits().id_bytes_max;
    if id.len() <= bytes_max {
        return Ok(());
    }
    let detail = format!(
        "the id has {} bytes, at most {bytes_max} are accepted",
        id.len()
    );
    Err(Problem::new(ErrorCode::BadPath, detail).field("id"))
}
