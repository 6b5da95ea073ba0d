//! Whether the server lives, whether it is ready, and its numbers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tidemill_core::ProjectName;
use tidemill_cycle::ProjectLoop;

use crate::app::App;
use crate::gate::Caller;
use crate::page::InPath;
use crate::problem::{ErrorCode, Problem};
use crate::routes::routes;

/// How long a failure to store counts against being ready, unless storing has succeeded since. It must end by
/// itself: who is not ready is sent no events, and would never find out that there is space again.
const REFUSAL_COUNTS_US: u64 = 10_000_000;

/// The process answers.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// One project's readiness.
#[derive(Debug, Serialize)]
struct ProjectReady {
    ready: bool,
    /// Whether its background tasks run.
    loop_alive: bool,
    /// Events that the features have not seen yet; absent where the log cannot be read.
    features_lag: Option<u64>,
}

/// Whether the server can do its work: store events, apply them, and answer.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let refused = *app.store_refused.lock();
    let log_writable = refused.is_none_or(|since| since.micros() > REFUSAL_COUNTS_US);
    let projects: serde_json::Map<String, Value> = app
        .projects
        .iter()
        .map(|(name, project)| {
            let ready = project_ready(&app, name, project);
            (name.to_string(), json!(ready))
        })
        .collect();
    let ready = log_writable && projects.values().all(|project| project["ready"] == true);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = if ready { "ready" } else { "not_ready" };
    (
        status,
        Json(json!({ "status": word, "log_writable": log_writable, "projects": projects })),
    )
        .into_response()
}

fn project_ready(app: &App, name: &ProjectName, project: &ProjectLoop) -> ProjectReady {
    let loop_alive = app
        .tasks
        .lock()
        .get(name)
        .is_none_or(|tasks| tasks.iter().all(|task| !task.is_finished()));
    let last = project.stores.log.last(name).ok();
    let features_lag = last.map(|last| last.0.saturating_sub(project.engine().applied().0));
    let ready = loop_alive && features_lag.is_some_and(|lag| lag <= app.options.features_lag_max);
    ProjectReady {
        ready,
        loop_alive,
        features_lag,
    }
}

/// The numbers that operators watch, in the Prometheus text format.
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    caller: Option<axum::Extension<Caller>>,
) -> Result<Response, Problem> {
    for counts in app.intake.stats() {
        let project = counts.project.as_str();
        app.metrics.set_events(project, "accepted", counts.accepted);
        app.metrics
            .set_events(project, "duplicate", counts.duplicates);
        app.metrics
            .set_events(project, "refused_call", counts.refused_calls);
        app.metrics
            .set_events(project, "failed_call", counts.failed_calls);
        for (reason, count) in counts.quarantined {
            app.metrics
                .set_events(project, &format!("quarantined_{reason}"), count);
        }
    }
    for (name, project) in &app.projects {
        for progress in project.rollout_progress() {
            app.metrics.set_rollout(name.as_str(), &progress);
        }
        match project.progress().await {
            Ok(progress) => app.metrics.set_progress(name.as_str(), progress),
            // the other numbers matter most when something is wrong
            Err(error) => {
                tracing::error!(project = %name, %error, "cannot read how far the loop is");
            }
        }
    }
    let text = app
        .metrics
        .encode()
        .map_err(|error| Problem::internal(&error))?;
    let text = match caller {
        Some(axum::Extension(caller)) => of_project(&text, caller.project_name()),
        None => text,
    };
    Ok((
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response())
}

/// The numbers without those of other projects: a key opens one project only.
fn of_project(text: &str, project: &str) -> String {
    let own = format!("project=\"{project}\"");
    let is_own =
        |line: &&str| line.starts_with('#') || !line.contains("project=\"") || line.contains(&own);
    text.lines()
        .filter(is_own)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// What this is and where to look; a browser is sent to the pages for people.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        return Redirect::to("/console").into_response();
    }
    let routes: Vec<Value> = routes()
        .iter()
        .filter(|route| route.method != axum::http::Method::OPTIONS)
        .map(|route| json!({ "method": route.method.as_str(), "path": route.path, "needs": route.needs() }))
        .collect();
    Json(json!({
        "name": "tidemill",
        "version": env!("CARGO_PKG_VERSION"),
        "health": "/health/ready",
        "metrics": "/metrics",
        "errors": "/errors/{code}",
        "routes": routes,
    }))
    .into_response()
}

/// The page about an error.
pub(crate) async fn error_page(InPath(code): InPath<String>) -> Result<Response, Problem> {
    let code = ErrorCode::named(&code).ok_or_else(|| {
        Problem::new(ErrorCode::UnknownRoute, "there is no error with this code").field("code")
    })?;
    Ok((
        [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")],
        code.page(),
    )
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_other_projects_are_left_out() {
        let text = "# TYPE x gauge\nx{project=\"shop\"} 1\nx{project=\"shop2\"} 2\ny 3\n# EOF\n";
        assert_eq!(
            of_project(text, "shop"),
            "# TYPE x gauge\nx{project=\"shop\"} 1\ny 3\n# EOF\n"
        );
    }
}
