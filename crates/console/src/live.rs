//! What moves, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;

use crate::problem::Problem;
use crate::visit::Visit;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);
/// After how many looks the browser has to come again, and show that it is still signed in.
const LOOKS_MAX: u32 = 450;

/// Follows the stages of the loop, until the server stops.
pub(crate) async fn follow(visit: Visit) -> Result<Response, Problem> {
    let place = visit
        .console
        .live
        .clone()
        .try_acquire_owned()
        .map_err(|_| Problem::busy())?;
    let stopping = visit.console.stopping.clone();
    let events = stream::unfold(
        (visit, stopping, place, 0),
        |(visit, mut stopping, place, looks)| async move {
            if looks >= LOOKS_MAX || *stopping.borrow() {
                return None;
            }
            if looks > 0 {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    _ = stopping.changed() => return None,
                }
            }
            let stages = visit.stages().await.ok()?;
            let data = json!({
                "stored": stages.counts.stored,
                "features_lag": stages.features_lag,
                "landing_lag": stages.landing_lag,
                "decisions": stages.decisions,
                "outcomes_waiting": stages.outcomes_waiting,
                "shadow_waiting": stages.shadow_waiting,
                "requests_under_way": visit.project.metrics.requests_under_way(),
                "alerts": stages.alerts,
            });
            let event = Event::default().data(data.to_string());
            Some((
                Ok::<_, Infallible>(event),
                (visit, stopping, place, looks + 1),
            ))
        },
    );
    Ok(Sse::new(events).into_response())
}
