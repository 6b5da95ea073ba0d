//! The face to people: pages in a browser.
//!
//! [`Console`] is what the pages are given, [`router`] serves them under `/console`. Pages are made on the server; a
//! small script adds what a page alone cannot: the viewer's time zone, what is live, going to places by name. Everything
//! works offline, and nothing of a page runs that did not come from this server.
//!
//! - People sign in with a link that works once or with a password; what they may do is their [role](tidemill_store::users::Role).
//! - What changes something is a form of the viewer's own session, and is in the audit log with their name.
//! - Pages that read much take turns and give up in time: answers to programs do not wait for them.
//!
//! It is *not* a place for behaviour of the loop: pages show what the stages know, and ask them to act.

mod alerts;
mod ask;
mod assets;
mod attempts;
mod backups;
mod card;
mod chart;
mod compare;
mod connect;
mod console;
mod decisions;
mod events;
mod features;
mod html;
mod layout;
mod live;
mod models;
mod overview;
mod parts;
mod people;
mod problem;
mod recommender;
mod requests;
mod rollout;
mod scorecard;
mod secret;
mod settings;
mod sign_in;
mod value;
mod version;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use flate2::Compression;

pub use backups::LastBackup;
pub use console::{Console, LINK_HOLDS, RandomBytes, first_link, new_link};
pub use secret::hash_password;

use problem::Problem;

/// The largest page, in bytes; larger ones are sent as they are.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Nothing runs, is loaded or is sent anywhere but what comes from and goes to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages, under `/console`.
pub fn router(console: Arc<Console>) -> Router {
    let project = Router::new()
        .route("/", get(overview::page))
        .route("/live", get(live::follow))
        .route("/parts/models", get(models::cards))
        .route("/parts/value/{model}", get(value::report))
        .route("/parts/rollout/{model}", get(rollout::moving))
        .route("/parts/requests", get(requests::moving))
        .route("/models", get(models::list))
        .route("/models/{model}", get(models::page))
        .route("/models/{model}/train", post(models::train))
        .route("/models/{model}/rollback", post(models::rollback))
        .route("/models/{model}/compare", get(compare::page))
        .route("/models/{model}/rollouts/{position}", get(rollout::page))
        .route(
            "/models/{model}/scorecard",
            get(scorecard::page).post(scorecard::record),
        )
        .route("/models/{model}/versions/{number}/card", get(card::get))
        .route("/models/{model}/versions/{number}", get(version::page))
        .route(
            "/models/{model}/versions/{number}/promote",
            post(models::promote),
        )
        .route("/decisions", get(decisions::list))
        .route("/decisions/{id}", get(decisions::page))
        .route("/people", get(people::search))
        .route("/people/{id}", get(people::page))
        .route("/people/{id}/erase", post(people::erase))
        .route("/people/{id}/export", post(people::export))
        .route("/items/{id}", get(people::item))
        .route("/events", get(events::list))
        .route("/events/newest", get(events::newest))
        .route("/events/quarantine", get(events::quarantine))
        .route("/events/quarantine/replay", post(events::replay))
        .route("/events/connect", get(connect::page))
        .route("/events/kinds/{event}", get(events::kind))
        .route("/alerts", get(alerts::list))
        .route("/alerts/silence", post(alerts::silence))
        .route("/requests", get(requests::page))
        .route("/value", get(value::page))
        .route("/features", get(features::page))
        .route("/features/{feature}", get(features::feature::page))
        .route("/ask", get(ask::page))
        .route("/ask.csv", get(ask::csv))
        .route("/settings", get(settings::page))
        .route("/settings/users", post(settings::put_user))
        .route("/settings/users/projects", post(settings::set_projects))
        .route("/settings/users/remove", post(settings::remove_user))
        .route("/settings/users/link", post(settings::link))
        .route("/settings/keys", post(settings::make_key))
        .route("/settings/keys/revoke", post(settings::revoke_key))
        .route("/settings/password", post(settings::password));
    let pages = Router::new()
        .route("/console", get(sign_in::start))
        .route(
            "/console/sign-in",
            get(sign_in::page).post(sign_in::sign_in),
        )
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/assets/{name}", get(assets::get))
        .route("/console/{*path}", get(nothing))
        .nest("/console/p/{project}", project)
        .layer(middleware::from_fn(send));
    pages.with_state(console)
}

async fn nothing() -> Problem {
    Problem::not_found("There is no page with this address.")
}

/// Sends a page: with what browsers shall not do with it, compressed, and kept by nobody.
async fn send(request: Request, next: Next) -> Response {
    let gzip = assets::takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !(gzip && is_page) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, PAGE_BYTES_MAX).await else {
        return Problem::bad("The page is too large.").into_page();
    };
    let packed = assets::gzip(&bytes, Compression::fast());
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, Body::from(packed))
}
