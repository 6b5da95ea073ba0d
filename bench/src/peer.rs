//! The peer: a bare axum handler that parses the same JSON into the same kind of types and does nothing else. What
//! it does per second is what the machine, the kernel, the HTTP library and JSON leave room for; the distance to it is
//! what validation, deduplication, ordering and the disk cost.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A batch, as far as a handler needs types to do something with it.
#[derive(Debug, Deserialize)]
struct Batch {
    batch: Vec<Event>,
}

/// An event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    user_id: String,
    event: Option<String>,
    #[serde(default)]
    properties: Map<String, Value>,
    #[serde(default)]
    context: Map<String, Value>,
}

impl Event {
    /// Uses every field, so that parsing it is not optimised away; says whether the event is one.
    fn is_plausible(&self) -> bool {
        !self.kind.is_empty()
            && !self.message_id.is_empty()
            && !self.user_id.is_empty()
            && self.event.as_ref().is_none_or(|event| !event.is_empty())
            && self.properties.len() + self.context.len() < 1_000
    }
}

/// The body of a prediction.
#[derive(Debug, Deserialize)]
struct Question {
    user: String,
}

/// Serves on a free port of the loopback until it is killed; prints where.
///
/// # Errors
/// When there is no port.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on http://{}", listener.local_addr()?);
        let routes = Router::new()
            .route("/v1/batch", post(batch))
            .route("/v1/track", post(track))
            .route("/v1/predict/{model}", post(predict));
        Ok(axum::serve(listener, routes).await?)
    })
}

async fn batch(body: Bytes) -> Response {
    match serde_json::from_slice::<Batch>(&body) {
        Ok(batch) if batch.batch.iter().all(Event::is_plausible) => accepted(batch.batch.len()),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn track(body: Bytes) -> Response {
    match serde_json::from_slice::<Event>(&body) {
        Ok(event) if event.is_plausible() => accepted(1),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn predict(body: Bytes) -> Response {
    match serde_json::from_slice::<Question>(&body) {
        Ok(question) if !question.user.is_empty() => answer(&json!({
            "decision_id": "d", "model": "will_buy", "version": 1, "probability": 0.5
        })),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn accepted(count: usize) -> Response {
    answer(&json!({ "success": true, "accepted": count, "duplicates": 0, "quarantined": 0 }))
}

fn answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;

    #[tokio::test]
    async fn it_parses_what_is_sent() {
        let mut body = Vec::new();
        let events = Events::new("t");
        events.batch(0, 10, &mut body);
        assert_eq!(batch(body.clone().into()).await.status(), StatusCode::OK);
        assert_eq!(
            track(body.clone().into()).await.status(),
            StatusCode::BAD_REQUEST
        );
        events.single(0, &mut body);
        assert_eq!(track(body.into()).await.status(), StatusCode::OK);
        assert_eq!(
            predict(Bytes::from_static(b"{\"user\":\"u1\"}"))
                .await
                .status(),
            StatusCode::OK
        );
        assert_eq!(
            predict(Bytes::from_static(b"{}")).await.status(),
            StatusCode::BAD_REQUEST
        );
    }
}
