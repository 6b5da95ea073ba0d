//! What is wrong, or was, why, and what to do.

use axum::response::{Redirect, Response};
use tidemill_core::Span;
use tidemill_monitor::alerts::Alert;
use tidemill_store::users::Role;

use crate::html::{Html, html};
use crate::layout::{Action, Page, Section};
use crate::parts::{Table, Tone, section, state, text, time};
use crate::problem::Problem;
use crate::visit::{Act, Visit};

/// How many that are over are shown.
const RESOLVED_SHOWN: usize = 50;

/// The page.
pub(crate) async fn list(visit: Visit) -> Result<Response, Problem> {
    let alerts = &visit.project.alerts;
    let open: Html = alerts
        .open()?
        .iter()
        .map(|alert| one(&visit, alert))
        .collect();
    let open = if open.is_empty() {
        html!(
            "<div class=\"empty\"><p><strong>{}</strong></p><p>It is looked every few seconds: events that stop or change, features that differ between training and serving, live quality that falls, runs that fail, versions that are sent back.</p></div>",
            state(Tone::Good, "nothing is wrong")
        )
    } else {
        open
    };
    let mut over = Table::new("alerts that are over", &["Alert", "Since", "Over", "Cause"]);
    for alert in alerts.resolved()?.iter().take(RESOLVED_SHOWN) {
        over.row([
            text(format!(
                "{}: {}",
                alert.kind.as_str().replace('_', " "),
                alert.subject
            )),
            time(alert.since),
            html!("{}", alert.resolved_at.map(time)),
            text(&alert.cause),
        ]);
    }
    let body = html!(
        "{}{}",
        section("Open", "", &open),
        section(
            "Over",
            "The newest first.",
            &over.or(&html!("<p>No alert has ended yet.</p>"))
        ),
    );
    visit.page(&Page::new(Section::Alerts, "Alerts", body))
}

fn one(visit: &Visit, alert: &Alert) -> Html {
    let silenced = alert
        .silenced_until
        .filter(|until| *until > visit.project.clock.now());
    let silenced = silenced.map(|until| {
        html!(
            "<p class=\"quiet\">Nobody is told until {}.</p>",
            time(until)
        )
    });
    let silence = visit.action(Role::Editor, &Action {
        path: "/alerts/silence",
        button: "Silence",
        means: "Nobody is told of this alert for that long. It stays on this page, and is resolved by itself when it is over.",
        fields: html!(
            "<input type=\"hidden\" name=\"id\" value=\"{}\"><label>For<select name=\"for\"><option value=\"1h\">an hour</option><option value=\"1d\" selected>a day</option><option value=\"7d\">a week</option></select></label>",
            alert.id
        ),
    });
    html!(
        "<article class=\"alert\"><p><strong>{kind} {subject}</strong></p><p>{cause}</p><p><strong>What to do:</strong> {next}</p><p class=\"quiet\">Since {since} · last found {found}</p>{silenced}{silence}</article>",
        kind = state(Tone::Bad, &alert.kind.as_str().replace('_', " ")),
        subject = alert.subject,
        cause = alert.cause,
        next = alert.next_step,
        since = time(alert.since),
        found = time(alert.found_at),
        silenced = silenced,
        silence = silence,
    )
}

/// Silences an alert.
pub(crate) async fn silence(act: Act<Visit>) -> Result<Redirect, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Editor)?;
    let span: Span = act
        .field("for")
        .parse()
        .map_err(|_| Problem::bad("This is not a length of time."))?;
    let (id, actor) = (act.field("id"), visit.viewer.actor());
    if !visit.project.silence_alert(id, span, &actor).await? {
        return Err(Problem::not_found(
            "There is no open alert with this id any more.",
        ));
    }
    Ok(Redirect::to(&visit.path("/alerts")))
}
