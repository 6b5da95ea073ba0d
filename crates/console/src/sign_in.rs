//! Signing in, with a link or a password, and out.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use tidemill_core::Timestamp;
use tidemill_store::users::{Pass, User};

use crate::console::{Console, SESSION_HOLDS};
use crate::html::{Html, html};
use crate::layout;
use crate::problem::Problem;
use crate::secret;
use crate::visit::{Act, COOKIE, Form, Sent, Viewer};

/// The longest secret and name that are looked up, in bytes.
const SENT_BYTES_MAX: usize = 128;

fn form(error: &str) -> Html {
    let error = if error.is_empty() {
        Html::default()
    } else {
        html!("<p class=\"error\" role=\"alert\">{}</p>", error)
    };
    html!(
        "<main class=\"lone\" id=\"main\"><h1>Sign in to Tidemill</h1>{}<form method=\"post\" action=\"/console/sign-in\" class=\"fields\"><label>Name<input name=\"name\" autocomplete=\"username\" required maxlength=\"64\"></label><label>Password<input name=\"password\" type=\"password\" autocomplete=\"current-password\" required maxlength=\"256\"></label><button class=\"button main\">Sign in</button></form><p class=\"quiet\">No password yet? On the server, <code>tidemill users link NAME</code> prints a link that signs you in once. Browsers keep the session over HTTPS or on the same machine only.</p></main>",
        error
    )
}

/// The page on which people sign in. Opening a link uses nothing up: previews of chats and mails open links too.
pub(crate) async fn page(
    State(console): State<Arc<Console>>,
    Query(query): Query<Form>,
) -> Result<Response, Problem> {
    let Some(link) = query
        .get("link")
        .filter(|link| link.len() <= SENT_BYTES_MAX)
    else {
        return Ok(layout::bare("Sign in", &form("")));
    };
    let user = console
        .catalog
        .link(&secret::hash("link", link), console.clock.now())
        .await?;
    let Some(user) = user else {
        let over =
            "This link was used already or is too old. tidemill users link NAME prints a new one.";
        return Ok(layout::bare("Sign in", &form(over)));
    };
    let body = html!(
        "<main class=\"lone\" id=\"main\"><h1>Welcome to Tidemill</h1><p>This link signs you in as <strong>{}</strong> ({}), once.</p><form method=\"post\" action=\"/console/sign-in\"><input type=\"hidden\" name=\"link\" value=\"{}\"><button class=\"button main\" autofocus>Open the console</button></form></main>",
        user.name,
        user.role.as_str(),
        link
    );
    Ok(layout::bare("Sign in", &body))
}

/// Takes a link, or a name and a password.
pub(crate) async fn sign_in(
    State(console): State<Arc<Console>>,
    Sent(sent): Sent,
) -> Result<Response, Problem> {
    let field = |name: &str| sent.get(name).map_or("", String::as_str);
    let (link, name) = (field("link"), field("name"));
    let now = console.clock.now();
    if link.len() > SENT_BYTES_MAX || name.len() > SENT_BYTES_MAX {
        return Err(Problem::bad("The form is too large or not a form."));
    }
    let user = if link.is_empty() {
        by_password(&console, name, field("password"), now).await?
    } else {
        // nobody guesses 32 random bytes: links are not counted, so that whoever is kept out still gets in with one
        console
            .catalog
            .take_link(&secret::hash("link", link), now)
            .await?
    };
    let Some(user) = user else {
        let wrong = if link.is_empty() {
            "The name or the password is wrong."
        } else {
            "This link was used already or is too old."
        };
        return Ok(layout::bare("Sign in", &form(wrong)));
    };
    let session = secret::written((console.random)());
    let pass = Pass {
        hash: secret::hash("session", &session),
        user: user.name.clone(),
        created_at: now,
        expires_at: now + SESSION_HOLDS,
    };
    let audit = console.entry(&format!("user {}", user.name), "sign_in", &user.name);
    console.catalog.add_session(&pass, audit).await?;
    let seconds = SESSION_HOLDS.seconds();
    let cookie =
        format!("{COOKIE}={session}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds:.0}");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/console")).into_response())
}

async fn by_password(
    console: &Console,
    name: &str,
    password: &str,
    now: Timestamp,
) -> Result<Option<User>, Problem> {
    let users = console.catalog.users().await?;
    let user = users.into_iter().find(|user| user.name == name);
    let _place = console
        .passwords
        .acquire()
        .await
        .map_err(|_| Problem::busy())?;
    // once it is their turn: many that come at once do not get past it
    if !console.attempts.lock().allowed(name, now) {
        return Err(Problem::denied(
            "Too many attempts have failed. Wait a quarter of an hour, or use a link of tidemill users link NAME.",
        ));
    }
    let kept = user.as_ref().and_then(|user| user.password.clone());
    let password = password.to_owned();
    let checked =
        tokio::task::spawn_blocking(move || secret::is_password(&password, kept.as_deref()));
    let is_right = checked.await.map_err(|_| Problem::busy())?;
    if !is_right {
        console.attempts.lock().failed(name);
    }
    Ok(user.filter(|_| is_right))
}

/// Ends the session.
pub(crate) async fn sign_out(
    State(console): State<Arc<Console>>,
    act: Act<Viewer>,
) -> Result<Response, Problem> {
    console.catalog.end_session(&act.who.session).await?;
    let cookie = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    Ok((
        [(header::SET_COOKIE, cookie)],
        Redirect::to("/console/sign-in"),
    )
        .into_response())
}

/// From the root of the console to the first project that they may see.
pub(crate) async fn start(
    State(console): State<Arc<Console>>,
    viewer: Viewer,
) -> Result<Redirect, Problem> {
    let seen = console.names_seen(&viewer.user);
    let first = seen.first().ok_or_else(|| {
        Problem::denied(
            "You were given no project of this server. Somebody with the role admin can change that under Settings.",
        )
    })?;
    Ok(Redirect::to(&format!("/console/p/{first}")))
}
