//! Events in: the Segment tracking API, and what has become of what was sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use tidemill_collect::{Call, IntakeError, Receipt, ReplayedQuarantine};
use tidemill_core::clock::Stopwatch;
use tidemill_store::Quarantined;
use tidemill_store::event_log::LogCounts;

use crate::app::App;
use crate::body::Received;
use crate::gate::Caller;
use crate::page::{InQuery, Page, next_cursor, page_json};
use crate::problem::Problem;

/// The endpoints of the tracking API with their short names.
pub(crate) const TRACKING: [(&str, Call); 14] = [
    ("/v1/track", Call::Track),
    ("/v1/identify", Call::Identify),
    ("/v1/page", Call::Page),
    ("/v1/screen", Call::Screen),
    ("/v1/group", Call::Group),
    ("/v1/alias", Call::Alias),
    ("/v1/batch", Call::Batch),
    ("/v1/t", Call::Track),
    ("/v1/i", Call::Identify),
    ("/v1/p", Call::Page),
    ("/v1/s", Call::Screen),
    ("/v1/g", Call::Group),
    ("/v1/a", Call::Alias),
    ("/v1/b", Call::Batch),
];

/// What became of a call.
#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    accepted: u64,
    duplicates: u64,
    quarantined: u64,
}

impl Accepted {
    /// The answer, once the receipt is there; notes whether storing works, for `/health/ready`.
    pub(crate) fn of(app: &App, receipt: Result<Receipt, IntakeError>) -> Result<Self, Problem> {
        match &receipt {
            Ok(_) => {
                let mut refused = app.store_refused.lock();
                if refused.is_some() {
                    *refused = None;
                }
            }
            Err(IntakeError::Store(_)) => *app.store_refused.lock() = Some(Stopwatch::start()),
            Err(IntakeError::Request(_)) => {}
        }
        let Receipt {
            accepted,
            duplicates,
            quarantined,
            ..
        } = receipt?;
        Ok(Self {
            success: None,
            accepted,
            duplicates,
            quarantined,
        })
    }
}

/// Takes a call of the tracking API.
pub(crate) async fn receive(
    app: Arc<App>,
    caller: Caller,
    call: Call,
    Received(body): Received,
) -> Result<Json<Accepted>, Problem> {
    let receipt = app
        .intake
        .accept(&caller.project.project, call, &body)
        .await;
    Ok(Json(Accepted {
        success: Some(true),
        ..Accepted::of(&app, receipt)?
    }))
}

/// How many events there are.
pub(crate) async fn counts(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<LogCounts>, Problem> {
    let count = move || {
        Ok(caller
            .project
            .stores
            .log
            .counts(&caller.project.project.name)?)
    };
    app.admission.heavy(count).await.map(Json)
}

/// Which events, with which properties.
pub(crate) async fn seen(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    let read = move || {
        let seen = caller.project.engine().seen();
        let mut value = serde_json::to_value(&seen).map_err(|error| Problem::internal(&error))?;
        for (name, event) in &seen.events {
            // what is kept of persons is not for reading: how many there were is
            if let Some(persons) = &event.persons {
                value["events"][name]["persons"] = persons.count().into();
            }
        }
        Ok(value)
    };
    app.admission.heavy(read).await.map(Json)
}

/// What was sent and is not an event, newest first.
pub(crate) async fn quarantine(
    State(app): State<Arc<App>>,
    caller: Caller,
    InQuery(page): InQuery<Page>,
) -> Result<Json<Value>, Problem> {
    let (limit, before) = (page.limit()?, page.before::<u64>("quarantine")?);
    let read = move || {
        let project = &caller.project;
        Ok(project
            .stores
            .log
            .quarantined(&project.project.name, before, limit as usize)?)
    };
    let pieces = app.admission.heavy(read).await?;
    let next = next_cursor(
        "quarantine",
        limit,
        pieces.len(),
        pieces.last().map(|(id, _)| *id),
    );
    let entries: Vec<Value> = pieces.iter().map(quarantined_json).collect();
    page_json("quarantine", &entries, next)
}

/// Tries all that is in quarantine again; what is an event now leaves it.
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<ReplayedQuarantine>, Problem> {
    let project = &caller.project;
    let actor = caller.actor();
    let replayed = project.replay_quarantine(&app.intake, &actor).await?;
    Ok(Json(replayed))
}

fn quarantined_json((id, piece): &(u64, Quarantined)) -> Value {
    json!({
        "id": id,
        "received_at": piece.received_at,
        "source": piece.source,
        "reason": piece.reason,
        "detail": piece.detail,
        "body": piece.body,
    })
}
