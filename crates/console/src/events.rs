//! Events: what arrives, kind by kind, and what was not an event.

use axum::extract::{Path, Query};
use axum::response::{Redirect, Response};
use tidemill_core::Offset;
use tidemill_core::notation::{percent_encoded, thousands};
use tidemill_cycle::{DataReport, EventReport};
use tidemill_monitor::data::DataFinding;
use tidemill_store::users::Role;

use crate::chart;
use crate::html::{Html, html};
use crate::layout::{Action, Page, Section};
use crate::parts::{
    NOTHING, Table, Tone, figure, figures, link, number, percent, section, state, text, time,
};
use crate::people::{person_path, said};
use crate::problem::Problem;
use crate::visit::{Act, Form, Visit};

/// How many of the newest events are read, and how many are shown.
const LOOKED_AT: usize = 2_000;
const SHOWN: usize = 100;
/// How many quarantined pieces a page shows, and how much of each.
const QUARANTINED_SHOWN: usize = 50;
const BODY_SHOWN: usize = 600;

/// The pages of this part.
fn tabs(visit: &Visit, current: &str) -> Html {
    let all = [
        ("/events", "Kinds"),
        ("/events/newest", "Newest"),
        ("/events/quarantine", "Quarantine"),
        ("/events/connect", "Connect your app"),
    ];
    let links = all.map(|(path, name)| {
        let here = if path == current {
            html!(" aria-current=\"page\"")
        } else {
            Html::default()
        };
        html!("<a href=\"{}\"{}>{}</a>", visit.path(path), here, name)
    });
    html!(
        "<nav class=\"tabs\" aria-label=\"Events\">{}</nav>",
        links.into_iter().collect::<Html>()
    )
}

/// A page of this part: under the tabs.
pub(crate) fn page(
    visit: &Visit,
    title: &str,
    path: &str,
    body: &Html,
) -> Result<Response, Problem> {
    visit.page(&Page::new(
        Section::Events,
        title,
        html!("{}{}", tabs(visit, path), body),
    ))
}

async fn report(visit: &Visit, event: Option<String>) -> Result<DataReport, Problem> {
    let project = visit.project.clone();
    let work = async {
        let read = tokio::task::spawn_blocking(move || project.data_report(event.as_deref()));
        Ok(read.await.map_err(|_| Problem::busy())??)
    };
    visit.console.heavy(work).await
}

/// What differs from before, as sentences.
pub(crate) fn differences(found: &[DataFinding]) -> Html {
    let mut table = Table::new(
        "differences",
        &["What", "Noticed", "Likely", "#Before", "#Now"],
    );
    for finding in found {
        table.row([
            html!(
                "{} {}",
                state(Tone::Warning, &finding.kind.as_str().replace('_', " ")),
                finding.subject()
            ),
            text(&finding.noticed),
            text(&finding.likely),
            text(number(finding.before)),
            text(number(finding.now)),
        ]);
    }
    table.or(&html!(
        "<p>{} What arrives is as it was.</p>",
        state(Tone::Good, "as before")
    ))
}

/// The kinds of events.
pub(crate) async fn list(visit: Visit) -> Result<Response, Problem> {
    let report = report(&visit, None).await?;
    let counts = visit
        .project
        .stores
        .log
        .counts(&visit.project.project.name)?;
    let mut table = Table::new(
        "kinds of events",
        &[
            "Event",
            "#Today",
            "#Yesterday",
            "#A day",
            "#Differences",
            "Last",
            "Since",
        ],
    );
    for event in &report.events {
        let path = visit.path(&format!("/events/kinds/{}", percent_encoded(&event.event)));
        table.row([
            link(&path, &event.event),
            text(thousands(event.today)),
            text(thousands(event.yesterday)),
            text(number(event.per_day)),
            text(thousands(event.differences as u64)),
            event.last_at.map_or_else(|| text(NOTHING), time),
            text(&event.first_day),
        ]);
    }
    let empty = html!(
        "<p><strong>No events yet</strong></p><p><a href=\"{}\">Connect your app</a>: a page with lines to copy that turns green when the first event is there.</p>",
        visit.path("/events/connect")
    );
    let body = html!(
        "{}{}{}",
        figures(&html!(
            "{}{}{}",
            figure("stored", &text(thousands(counts.stored)), &Html::default()),
            figure(
                "sent again, counted once",
                &text(thousands(counts.duplicates)),
                &Html::default()
            ),
            figure(
                "quarantined so far",
                &text(thousands(counts.quarantined)),
                &Html::default()
            ),
        )),
        section(
            "Kinds",
            "Counted by the day on which they were received (UTC).",
            &table.or(&empty)
        ),
        section(
            "What is not as before",
            "The newest whole day beside those before it.",
            &differences(&report.differs)
        ),
    );
    page(&visit, "Events", "/events", &body)
}

/// One kind.
pub(crate) async fn kind(
    visit: Visit,
    Path((_, event)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let report = report(&visit, Some(event)).await?;
    let Some(event) = report.events.first() else {
        return Err(Problem::not_found("No event of this kind was counted."));
    };
    let body = html!(
        "{}{}{}",
        section("Day by day", "The last four weeks (UTC).", &days(event)),
        section("Properties", "Over the last week.", &properties(event)),
        section("What is not as before", "", &differences(&report.differs)),
    );
    visit.page(&Page {
        section: Section::Events,
        title: &event.event,
        trail: &[("Events", visit.path("/events"))],
        actions: Html::default(),
        body,
    })
}

fn days(event: &EventReport) -> Html {
    let bars: Vec<(String, f64)> = event
        .days
        .iter()
        .rev()
        .map(|day| (day.day.clone(), day.count as f64))
        .collect();
    let mut table = Table::new("days", &["Day", "#Count", "#Told twice", "#Without a user"]);
    for day in &event.days {
        table.row([
            text(&day.day),
            text(thousands(day.count)),
            text(percent(day.repeats)),
            text(percent(day.without_user)),
        ]);
    }
    html!(
        "{}<details class=\"numbers\"><summary>The numbers</summary>{}</details>",
        chart::bars("Events a day", "day", &bars),
        table.show()
    )
}

fn properties(event: &EventReport) -> Html {
    let mut table = Table::new("properties", &["Property", "Type", "#Missing", "Values"]);
    for property in &event.properties {
        let values = match (&property.numbers, property.values.as_slice()) {
            (Some([low, first, middle, third, high]), _) => {
                html!(
                    "{} · {} · <strong>{}</strong> · {} · {}",
                    number(*low),
                    number(*first),
                    number(*middle),
                    number(*third),
                    number(*high)
                )
            }
            (None, values) => values
                .iter()
                .take(5)
                .map(|(value, share)| {
                    html!(
                        "{} <span class=\"quiet\">{}</span> ",
                        value,
                        percent(*share)
                    )
                })
                .collect(),
        };
        table.row([
            text(&property.property),
            text(property.value_type.unwrap_or(NOTHING)),
            text(percent(property.missing)),
            values,
        ]);
    }
    html!(
        "<p class=\"about\">Of numbers: smallest, quartiles with the median in bold, largest. Of texts: the most frequent.</p>{}",
        table.or(&html!("<p>No properties in the last week.</p>"))
    )
}

/// The newest events, filtered where asked for.
pub(crate) async fn newest(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let field = |name: &str| query.get(name).map_or("", |value| value.trim());
    let (name, who) = (field("name"), field("who"));
    let log = visit.project.stores.log.clone();
    let project = visit.project.project.name.clone();
    let work = async {
        let read = tokio::task::spawn_blocking(move || {
            let last = log.last(&project)?;
            log.read(
                &project,
                Offset(last.0.saturating_sub(LOOKED_AT as u64)),
                LOOKED_AT,
            )
        });
        Ok(read.await.map_err(|_| Problem::busy())??)
    };
    let events = visit.console.heavy(work).await?;
    let mut table = Table::new(
        "newest events",
        &["#Offset", "Happened", "Event", "Who", "With"],
    );
    let fits = |wanted: &str, found: Option<&str>| wanted.is_empty() || found == Some(wanted);
    let events = events.iter().rev().filter(|logged| {
        let event = &logged.event;
        (name.is_empty() || event.name.contains(name))
            && (fits(who, event.user_id.as_deref()) || fits(who, event.anonymous_id.as_deref()))
    });
    for logged in events.take(SHOWN) {
        let event = &logged.event;
        let person = event.person().map_or_else(
            || text(NOTHING),
            |person| link(&person_path(&visit, person.as_str()), person.id()),
        );
        table.row([
            text(thousands(logged.offset.0)),
            time(event.timestamp),
            text(&event.name),
            person,
            said(event),
        ]);
    }
    let body = html!(
        "<form class=\"filters\" method=\"get\" role=\"search\"><label>Name contains<input name=\"name\" value=\"{}\"></label><label>Person<input name=\"who\" value=\"{}\"></label><button class=\"button\">Filter</button></form>{}",
        name, who, table.or(&html!("<p><strong>No such event among the newest {}</strong></p><p>Older ones are on the pages of the people.</p>", thousands(LOOKED_AT as u64)))
    );
    page(&visit, "Newest events", "/events/newest", &body)
}

/// What was sent and is not an event.
pub(crate) async fn quarantine(
    visit: Visit,
    Query(query): Query<Form>,
) -> Result<Response, Problem> {
    let before = query
        .get("before")
        .and_then(|before| before.parse::<u64>().ok());
    let pieces = visit.project.stores.log.quarantined(
        &visit.project.project.name,
        before,
        QUARANTINED_SHOWN,
    )?;
    let mut table = Table::new(
        "quarantine",
        &["When", "Reason", "What to do", "From", "As it was sent"],
    );
    for (_, piece) in &pieces {
        let body: String = piece.body.chars().take(BODY_SHOWN).collect();
        table.row([
            time(piece.received_at),
            state(Tone::Warning, &piece.reason.to_string().replace('_', " ")),
            text(&piece.detail),
            text(&piece.source),
            html!("<code class=\"said\">{}</code>", body),
        ]);
    }
    let more = pieces.last().filter(|_| pieces.len() >= QUARANTINED_SHOWN);
    let more = more.map(|(id, _)| {
        html!(
            "<p><a class=\"button\" href=\"?before={}\">Older ones</a></p>",
            *id
        )
    });
    let replay = (!pieces.is_empty()).then(|| {
        let action = Action {
            path: "/events/quarantine/replay",
            button: "Try all again",
            means: "Each piece is read as it would be now. What is an event now is stored, as of the time when it came, and leaves the quarantine.",
            fields: Html::default(),
        };
        visit.action(Role::Editor, &action)
    });
    let done = query.get("accepted").map(|accepted| {
        let left = query.get("left").map_or("0", String::as_str);
        html!(
            "<p class=\"calm\" role=\"status\">{} {} became events, {} did not.</p>",
            state(Tone::Good, "tried again:"),
            accepted,
            left
        )
    });
    let body = html!(
        "{}<p class=\"about\">What was sent and cannot be an event keeps its bytes and a reason. Mend the project file or what sends it, and try again; rows of files are imported again instead.</p><div class=\"actions\">{}</div>{}{}",
        done,
        replay,
        table.or(&html!(
            "<p><strong>Nothing is in quarantine</strong></p><p>Everything that was sent could be read.</p>"
        )),
        more
    );
    page(&visit, "Quarantine", "/events/quarantine", &body)
}

/// Tries all that is in quarantine again.
pub(crate) async fn replay(act: Act<Visit>) -> Result<Redirect, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Editor)?;
    let intake = &visit.console.intake;
    let replayed = visit
        .project
        .replay_quarantine(intake, &visit.viewer.actor())
        .await?;
    let page = format!(
        "/events/quarantine?accepted={}&left={}",
        replayed.accepted + replayed.duplicates,
        replayed.still_bad
    );
    Ok(Redirect::to(&visit.path(&page)))
}
