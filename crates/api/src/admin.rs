//! Keys and the audit log, for administrators of a project.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_core::{ProjectName, Timestamp};
use tidemill_store::StoreError;
use tidemill_store::catalog::{AccessKey, Scope};
use tidemill_store::keys::{create_key, revoke_key};

use crate::app::App;
use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::{InPath, InQuery, page_json};
use crate::problem::{ErrorCode, Problem};

/// How many audit entries are listed where nobody says.
const AUDIT_DEFAULT: u32 = 100;
/// The most audit entries that are listed.
const AUDIT_MAX: u32 = 1_000;

/// A key as it is shown: never its hash.
#[derive(Debug, Serialize)]
struct KeyLine {
    id: String,
    project: ProjectName,
    scope: Scope,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// Only in the answer to making it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<AccessKey> for KeyLine {
    fn from(key: AccessKey) -> Self {
        let AccessKey {
            id,
            project,
            scope,
            created_at,
            revoked_at,
            hash: _,
        } = key;
        Self {
            id,
            project,
            scope,
            created_at,
            revoked_at,
            secret: None,
        }
    }
}

/// The keys of the project, revoked ones too, oldest first.
pub(crate) async fn keys(caller: Caller) -> Result<Json<Value>, Problem> {
    let project = &caller.project.project.name;
    let keys = caller.project.stores.catalog.keys().await?;
    let lines: Vec<KeyLine> = keys
        .into_iter()
        .filter(|key| key.project == *project)
        .map(KeyLine::from)
        .collect();
    page_json("keys", &lines, None)
}

/// What a new key shall be able to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    scope: Scope,
}

/// Makes a key. This answer is the only place where its secret is ever shown.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(NewKey { scope }): JsonBody<NewKey>,
) -> Result<Response, Problem> {
    let catalog = caller.project.stores.catalog.as_ref();
    let project = &caller.project.project.name;
    let (secret, key) = create_key(
        catalog,
        project,
        scope,
        (app.random)(),
        app.clock.now(),
        &caller.actor(),
    )
    .await?;
    app.keys.refresh().await?;
    let line = KeyLine {
        secret: Some(secret.expose().to_owned()),
        ..KeyLine::from(key)
    };
    let mut response = (StatusCode::CREATED, Json(line)).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revokes a key. It stops working at once.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<StatusCode, Problem> {
    let project = &caller.project.project.name;
    let catalog = caller.project.stores.catalog.as_ref();
    let now = app.clock.now();
    revoke_key(catalog, project, &id, now, &caller.actor())
        .await
        .map_err(|error| match error {
            StoreError::NotFound(_) => Problem::new(
                ErrorCode::UnknownAccessKey,
                "the project has no key with this id",
            )
            .field("id"),
            other => other.into(),
        })?;
    app.keys.refresh().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Newest {
    limit: Option<u32>,
}

/// Who changed what, when and why; newest first.
pub(crate) async fn audit(
    caller: Caller,
    InQuery(Newest { limit }): InQuery<Newest>,
) -> Result<Json<Value>, Problem> {
    let limit = limit.unwrap_or(AUDIT_DEFAULT);
    if !(1..=AUDIT_MAX).contains(&limit) {
        let detail = format!("limit is {limit}, it can be from 1 to {AUDIT_MAX}");
        return Err(Problem::new(ErrorCode::BadQuery, detail).field("limit"));
    }
    let entries = caller
        .project
        .stores
        .catalog
        .audit_log(&caller.project.project.name, limit)
        .await?;
    page_json("audit", &entries, None)
}
