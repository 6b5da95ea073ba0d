//! The gate before every route: who is asking, may they, is there room, and the body. What comes out is counted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use tidemill_collect::segment;
use tidemill_core::ModelName;
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::did_you_mean;
use tidemill_cycle::ProjectLoop;
use tidemill_store::catalog::{AccessKey, Scope};

use crate::app::App;
use crate::body::{self, Received};
use crate::problem::{ErrorCode, Problem};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: health, the list of routes, the pages about errors.
    Open,
    /// Everybody where [`ApiOptions::open_metrics`](crate::ApiOptions::open_metrics) says so, else keys with the scope
    /// `read`, which then see their own project.
    Metrics,
    /// Keys with the scope `write`, also as `writeKey` in the body, and from web pages of any origin.
    Events,
    /// Keys with this scope.
    Needs(Scope),
}

/// How large the body of a route may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodySize {
    /// The usual limit.
    Usual,
    /// The intake's limit of batches.
    Events,
    /// The limit of predict batches.
    PredictBatch,
}

/// Who is asking, for handlers of routes that need a key.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The project that the key opens.
    pub(crate) project: Arc<ProjectLoop>,
    key: Arc<AccessKey>,
}

impl Caller {
    /// Who it is, for the audit log.
    pub(crate) fn actor(&self) -> String {
        format!("key {}", self.key.id)
    }

    /// The name of the project.
    pub(crate) fn project_name(&self) -> &str {
        self.project.project.name.as_str()
    }

    /// A model of the project.
    pub(crate) fn model(&self, name: &str) -> Result<ModelName, Problem> {
        let project = &self.project.project;
        let known = name.parse().ok().filter(|name| project.has_model(name));
        known.ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let names = project.model_names();
            let meant = did_you_mean(&shown, names.map(ModelName::as_str));
            Problem::new(
                ErrorCode::UnknownModel,
                format!("the project has no model '{shown}'"),
            )
            .field("model")
            .hint(meant)
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get().cloned();
        caller.ok_or_else(|| Problem::new(ErrorCode::NoKey, "no key was sent"))
    }
}

/// One route's gate.
pub(crate) struct Gate {
    pub(crate) app: Arc<App>,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) body: BodySize,
}

/// Lets a request through to its handler, or answers why not.
pub(crate) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let _under_way = gate.app.metrics.request_begins();
    // a body that was refused unread may still be on its way: nobody should send the next request behind it
    let closes = !request.body().is_end_stream() && request.version() < Version::HTTP_2;
    let response = gate.pass(request, next).await.unwrap_or_else(|problem| {
        let mut response = problem.into_response();
        if closes {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    });
    let response = finish(&gate, response);
    let app = &gate.app;
    let status = response.status().as_u16();
    app.metrics
        .requested(gate.path, status, watch.micros(), app.clock.now());
    response
}

impl Gate {
    async fn pass(&self, request: Request, next: Next) -> Result<Response, Problem> {
        let app = &self.app;
        let _place = if self.access == Access::Events {
            Some(app.admission.events()?)
        } else {
            None
        };
        let (mut parts, body) = request.into_parts();
        let secret = if self.access == Access::Open {
            None
        } else {
            sent_key(&parts.headers)?
        };
        let mut caller = match &secret {
            Some(secret) => Some(self.authenticate(secret).await?),
            None => None,
        };
        if caller.is_none() && !self.lets_strangers_in() {
            return Err(no_key());
        }
        let (bytes, _memory) = self.read(&parts.headers, body).await?;
        if caller.is_none() && self.access == Access::Events {
            let secret = segment::write_key(&bytes).ok_or_else(no_key)?;
            caller = Some(self.authenticate(&secret).await?);
        }
        if let Some(caller) = caller {
            parts.extensions.insert(caller);
        }
        parts.extensions.insert(Received(bytes));
        let answer = next.run(Request::from_parts(parts, Body::empty()));
        AssertUnwindSafe(answer)
            .catch_unwind()
            .await
            .map_err(|panic| {
                let mut problem = Problem::new(
                    ErrorCode::Internal,
                    "the server could not do this because of a fault of its own",
                );
                problem.cause = Some(panic_text(panic.as_ref()).into());
                problem
            })
    }

    /// Whether the handler, or the body, may say who is asking.
    fn lets_strangers_in(&self) -> bool {
        match self.access {
            Access::Open | Access::Events => true,
            Access::Metrics => self.app.options.open_metrics,
            Access::Needs(_) => false,
        }
    }

    async fn authenticate(&self, secret: &str) -> Result<Caller, Problem> {
        let needed = match self.access {
            Access::Open => None,
            Access::Metrics => Some(Scope::Read),
            Access::Events => Some(Scope::Write),
            Access::Needs(scope) => Some(scope),
        };
        let key = self.app.keys.find(secret).await;
        let key = key.ok_or_else(|| {
            Problem::new(
                ErrorCode::UnknownKey,
                "the key is not known, or it was revoked",
            )
        })?;
        if let Some(needed) = needed.filter(|needed| !key.scope.allows(*needed)) {
            return Err(Problem::new(
                ErrorCode::WrongScope,
                format!(
                    "this needs a key with the scope '{needed}', the key has '{}'",
                    key.scope
                ),
            ));
        }
        let project = self.app.project(&key.project).cloned().ok_or_else(|| {
            Problem::new(
                ErrorCode::UnknownProject,
                format!("the project '{}' is not served here", key.project),
            )
        })?;
        Ok(Caller { project, key })
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Bytes, crate::admission::Memory), Problem> {
        let app = &self.app;
        let (bytes_max, mut memory) = match self.body {
            BodySize::Usual => (app.options.body_bytes_max, app.admission.other_memory()),
            BodySize::Events => (
                app.intake.limits().batch_bytes_max,
                app.admission.events_memory(),
            ),
            BodySize::PredictBatch => (
                app.options.predict_batch_bytes_max,
                app.admission.other_memory(),
            ),
        };
        let bytes = body::read(
            headers,
            body,
            bytes_max,
            app.options.body_timeout,
            &mut memory,
        )
        .await?;
        Ok((bytes, memory))
    }
}

/// Logs faults, and gives the callers of the tracking API the form that they know.
fn finish(gate: &Gate, mut response: Response) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.code.status().is_server_error() {
            let cause = problem.cause.as_deref().unwrap_or_default();
            tracing::error!(
                route = gate.path,
                code = problem.code.as_str(),
                cause,
                "cannot answer"
            );
        }
        if gate.access == Access::Events {
            response = problem.tracking_response();
        }
    }
    if gate.access == Access::Events {
        allow_any_origin(response.headers_mut());
    }
    response
}

fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
}

/// What browsers ask before they send events from another origin.
pub(crate) async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    allow_any_origin(headers);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, content-encoding"),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("86400"),
    );
    response
}

fn no_key() -> Problem {
    Problem::new(ErrorCode::NoKey, "no key was sent")
}

/// The key in the headers: Bearer, or Basic with the key as user name.
fn sent_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let unusable = || {
        Problem::new(
            ErrorCode::UnknownKey,
            "the Authorization header is neither 'Bearer <key>' nor 'Basic' with the key",
        )
    };
    let (scheme, rest) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(unusable)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unusable());
    }
    let decoded = STANDARD
        .decode(rest)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(unusable)?;
    let user = decoded
        .split_once(':')
        .map_or(decoded.as_str(), |(user, _)| user);
    Ok(Some(user.to_owned()))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str) -> Result<Option<String>, ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        sent_key(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn keys_are_found_in_headers() {
        let key = Some("tm_w_x".to_owned());
        assert_eq!(sent_key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(check("Bearer tm_w_x"), Ok(key.clone()));
        assert_eq!(check("bearer  tm_w_x "), Ok(key.clone()));
        assert_eq!(
            check(&format!("Basic {}", STANDARD.encode("tm_w_x:"))),
            Ok(key.clone())
        );
        assert_eq!(
            check(&format!("Basic {}", STANDARD.encode("tm_w_x"))),
            Ok(key)
        );
        for unusable in ["tm_w_x", "Digest tm_w_x", "Basic ***"] {
            assert_eq!(check(unusable), Err(ErrorCode::UnknownKey), "{unusable}");
        }
    }
}
