//! Who looks at what: the session behind a request, the project in its path, and the form that it brings.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Redirect, Response};
use tidemill_core::event::PersonKey;
use tidemill_core::{ModelName, ProjectName};
use tidemill_cycle::ProjectLoop;
use tidemill_store::users::{Role, User};

use crate::console::Console;
use crate::problem::Problem;
use crate::secret;

/// The cookie of a session. The prefix makes browsers take it from this host only, over HTTPS or on this machine.
pub(crate) const COOKIE: &str = "__Host-tidemill";
/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// The fields of a form.
pub(crate) type Form = BTreeMap<String, String>;

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) user: User,
    /// What is kept of the session.
    pub(crate) session: String,
    /// What the forms of this session carry, so that no other site can send them.
    pub(crate) token: String,
}

impl Viewer {
    /// Whether they may do what takes a role.
    pub(crate) fn may(&self, role: Role) -> bool {
        self.user.role >= role
    }

    /// That they may do what takes a role.
    pub(crate) fn check(&self, role: Role) -> Result<(), Problem> {
        if self.may(role) {
            return Ok(());
        }
        Err(Problem::denied(format!(
            "This takes the role {role}, and you have {}. Somebody with the role admin can change that under Settings.",
            self.user.role
        )))
    }

    /// Who they are, for the audit log.
    pub(crate) fn actor(&self) -> String {
        format!("user {}", self.user.name)
    }
}

/// The secret of the session in the request's cookies.
fn sent_session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

impl FromRequestParts<Arc<Console>> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        let signed_out = || Redirect::to("/console/sign-in").into_response();
        let sent = sent_session(&parts.headers).ok_or_else(signed_out)?;
        let session = secret::hash("session", sent);
        let token = secret::hash("form", sent);
        let user = console.catalog.session(&session, console.clock.now()).await;
        match user {
            Ok(Some(user)) => Ok(Self {
                user,
                session,
                token,
            }),
            Ok(None) => Err(signed_out()),
            Err(error) => Err(Problem::from(error).into_response()),
        }
    }
}

/// Somebody who looks at a project.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) console: Arc<Console>,
    pub(crate) viewer: Viewer,
    pub(crate) project: Arc<ProjectLoop>,
}

impl Visit {
    /// The path of a page of the project.
    pub(crate) fn path(&self, page: &str) -> String {
        format!("/console/p/{}{page}", self.project.project.name)
    }

    /// Writes into the project's audit log that the viewer did something.
    pub(crate) async fn audit(
        &self,
        action: &str,
        subject: &str,
        reason: String,
    ) -> Result<(), Problem> {
        let actor = self.viewer.actor();
        Ok(self
            .project
            .audit(&actor, (action, subject), reason)
            .await?)
    }

    /// Somebody of the project, as a path and a form name them.
    pub(crate) fn person(id: &str, form: &Form) -> PersonKey {
        if form.contains_key("anonymous") {
            PersonKey::anonymous(id)
        } else {
            PersonKey::user(id)
        }
    }

    /// A model of the project.
    pub(crate) fn model(&self, name: &str) -> Result<ModelName, Problem> {
        let project = &self.project.project;
        let known = name.parse().ok().filter(|name| project.has_model(name));
        known.ok_or_else(|| Problem::not_found("The project has no model with this name."))
    }
}

impl FromRequestParts<Arc<Console>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        let viewer = Viewer::from_request_parts(parts, console).await?;
        let parameters = RawPathParams::from_request_parts(parts, console)
            .await
            .map_err(IntoResponse::into_response)?;
        let mut named = parameters.iter();
        let name = named.find_map(|(key, value)| (key == "project").then_some(value));
        let name = name.and_then(|name| name.parse::<ProjectName>().ok());
        let project = name.and_then(|name| console.seen(&name, &viewer.user));
        let project = project.ok_or_else(|| {
            Problem::not_found("This server has no project with this name.").into_response()
        })?;
        Ok(Self {
            console: console.clone(),
            viewer,
            project,
        })
    }
}

/// That a request that changes something comes from a page of this server.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, sender)| sender == host),
        _ => false,
    };
    if is_ours {
        return Ok(());
    }
    Err(Problem::denied(
        "The form did not come from a page of this server.",
    ))
}

/// A form that came from a page of this server, whoever sent it.
pub(crate) struct Sent(pub(crate) Form);

impl FromRequest<Arc<Console>> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Arc<Console>) -> Result<Self, Response> {
        check_origin(request.headers()).map_err(IntoResponse::into_response)?;
        let bytes = to_bytes(request.into_body(), FORM_BYTES_MAX).await;
        let unreadable = || Problem::bad("The form is too large or not a form.").into_response();
        let bytes = bytes.map_err(|_| unreadable())?;
        serde_urlencoded::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| unreadable())
    }
}

/// A form that somebody who is signed in has sent from a page of their session.
pub(crate) struct Act<W> {
    pub(crate) who: W,
    pub(crate) form: Form,
}

impl<W> Act<W> {
    /// A field, without the spaces around it.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", |value| value.trim())
    }
}

/// Who can send a form.
pub(crate) trait Signed {
    fn viewer(&self) -> &Viewer;
}

impl Signed for Viewer {
    fn viewer(&self) -> &Viewer {
        self
    }
}

impl Signed for Visit {
    fn viewer(&self) -> &Viewer {
        &self.viewer
    }
}

impl<W> FromRequest<Arc<Console>> for Act<W>
where
    W: Signed + Send + FromRequestParts<Arc<Console>, Rejection = Response>,
{
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        debug_assert_eq!(parts.method, Method::POST);
        let who = W::from_request_parts(&mut parts, console).await?;
        let Sent(form) = Sent::from_request(Request::from_parts(parts, body), console).await?;
        if form
            .get("token")
            .is_none_or(|token| *token != who.viewer().token)
        {
            let stale = "The form does not belong to your session: open the page again.";
            return Err(Problem::denied(stale).into_response());
        }
        Ok(Self { who, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        check_origin(&headers).is_ok()
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        assert!(check(&[("sec-fetch-site", "same-origin")]));
        assert!(!check(&[
            ("sec-fetch-site", "same-site"),
            ("origin", "http://x"),
            ("host", "x")
        ]));
        assert!(!check(&[("sec-fetch-site", "cross-site")]));
        assert!(check(&[("origin", "http://x:1"), ("host", "x:1")]));
        assert!(!check(&[("origin", "http://y"), ("host", "x")]));
        assert!(!check(&[("origin", "null"), ("host", "x")]));
        assert!(!check(&[("host", "x")]), "nobody says where it came from");
    }

    #[test]
    fn the_session_is_found_among_cookies() {
        let mut headers = HeaderMap::new();
        assert_eq!(sent_session(&headers), None);
        headers.append(
            "cookie",
            "a=b; __Host-tidemillx=1; __Host-tidemill=abc"
                .parse()
                .unwrap(),
        );
        assert_eq!(sent_session(&headers), Some("abc"));
    }
}
