//! What is wrong with a project, or was.

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_core::Span;
use tidemill_core::time::written;

use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::{InPath, InQuery};
use crate::problem::{ErrorCode, Problem};

/// How many resolved alerts are shown.
const RESOLVED_SHOWN: usize = 100;

/// Which alerts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Also those that are over, the newest.
    #[serde(default)]
    resolved: bool,
}

/// Open alerts, and the newest resolved ones where asked for.
pub(crate) async fn list(
    caller: Caller,
    InQuery(which): InQuery<Which>,
) -> Result<Json<Value>, Problem> {
    let alerts = &caller.project.alerts;
    let mut answer = json!({ "alerts": alerts.open()? });
    if which.resolved {
        let mut resolved = alerts.resolved()?;
        resolved.truncate(RESOLVED_SHOWN);
        answer["resolved"] = json!(resolved);
    }
    Ok(Json(answer))
}

/// How long nobody shall be told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Silence {
    #[serde(deserialize_with = "written::required")]
    r#for: Span,
}

/// Silences an open alert.
pub(crate) async fn silence(
    caller: Caller,
    InPath(id): InPath<String>,
    JsonBody(silence): JsonBody<Silence>,
) -> Result<StatusCode, Problem> {
    let (project, actor) = (&caller.project, caller.actor());
    if project.silence_alert(&id, silence.r#for, &actor).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let problem = Problem::new(
        ErrorCode::UnknownAlert,
        "there is no open alert with this id",
    );
    Err(problem
        .field("id")
        .hint(Some("GET /v1/alerts lists them".to_owned())))
}
