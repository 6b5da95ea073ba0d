//! People and items: what they did, what is known, and what the models would say now.

use axum::extract::{Path, Query};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use tidemill_core::decision::Fallback;
use tidemill_core::event::{Event, PersonKey};
use tidemill_core::notation::{percent_encoded, thousands};
use tidemill_cycle::ProjectLoop;
use tidemill_learn::{Reason, Task};
use tidemill_serve::recommend::{RecommendSlot, Recommendation};
use tidemill_store::users::Role;

use crate::chart;
use crate::html::{Html, html};
use crate::layout::{Action, Page, Section, reason_field};
use crate::parts::{
    Table, Tone, fallback, figure, figures, link, number, percent, section, state, text, time,
    value_in,
};
use crate::problem::Problem;
use crate::visit::{Act, Form, Visit};

/// How many events of a person are shown.
const EVENTS_SHOWN: usize = 100;
/// How many items each model recommends.
const RECOMMENDED: usize = 8;
/// Among how many of the newest decisions people are suggested, and how many.
const LOOKED_AT: usize = 300;
const SUGGESTED: usize = 12;
/// How many characters of a JSON object a line shows.
const SHORT: usize = 160;

/// The path of a person's page; `entity` is their key as decisions write it.
pub(crate) fn person_path(visit: &Visit, entity: &str) -> String {
    match PersonKey::written(entity) {
        Some(person) if !person.is_user() => visit.path(&format!(
            "/people/{}?anonymous=yes",
            percent_encoded(person.id())
        )),
        Some(person) => visit.path(&format!("/people/{}", percent_encoded(person.id()))),
        None => visit.path(&format!("/people/{}", percent_encoded(entity))),
    }
}

/// An item with its name, if it has one.
pub(crate) fn item_link(visit: &Visit, id: &str) -> Result<Html, Problem> {
    let item = visit.project.engine().item(id)?;
    let name = item.as_ref().and_then(|item| {
        let mut named = ["name", "title", "description"].into_iter();
        named.find_map(|attribute| item.attributes.get(attribute)?.as_str())
    });
    let path = visit.path(&format!("/items/{}", percent_encoded(id)));
    Ok(html!(
        "{} <span class=\"quiet\">{}</span>",
        link(&path, name.unwrap_or(id)),
        if name.is_some() { id } else { "" }
    ))
}

/// Why, in words, with how strongly each moved the answer.
pub(crate) fn reason_list(reasons: &[Reason]) -> Html {
    if reasons.is_empty() {
        return Html::default();
    }
    let most = reasons
        .iter()
        .map(|reason| reason.contribution.abs())
        .fold(1e-12, f64::max);
    let mut table = Table::new(
        "reasons",
        &["Reason", "Feature", "#Moved it by", "How much"],
    );
    for reason in reasons {
        let sign = if reason.contribution < 0.0 { "" } else { "+" };
        table.row([
            text(&reason.text),
            html!("<code>{}</code>", reason.feature),
            html!("{}{}", sign, number(reason.contribution)),
            chart::meter(reason.contribution / most),
        ]);
    }
    table.show()
}

/// The same on a card.
fn why(reasons: &[Reason]) -> Html {
    let most = reasons
        .iter()
        .map(|reason| reason.contribution.abs())
        .fold(1e-12, f64::max);
    let lines = reasons.iter().map(|reason| {
        let way = if reason.contribution < 0.0 {
            "lowers it"
        } else {
            "raises it"
        };
        html!(
            "<li><span>{} <span class=\"quiet\">{}</span></span>{}</li>",
            reason.text,
            way,
            chart::meter(reason.contribution / most)
        )
    });
    html!("<ul class=\"why\">{}</ul>", lines.collect::<Html>())
}

/// Where a person or an item is looked for.
pub(crate) async fn search(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let field = |name: &str| query.get(name).map_or("", |value| value.trim());
    let id = field("id");
    if !id.is_empty() {
        let path = match field("what") {
            "item" => format!("/items/{}", percent_encoded(id)),
            "anonymous" => format!("/people/{}?anonymous=yes", percent_encoded(id)),
            _ => format!("/people/{}", percent_encoded(id)),
        };
        return Ok(Redirect::to(&visit.path(&path)).into_response());
    }
    let newest = visit.project.decisions.newest(None, LOOKED_AT)?;
    let mut entities: Vec<String> = Vec::new();
    for decision in newest {
        if entities.len() < SUGGESTED && !entities.contains(&decision.value.entity) {
            entities.push(decision.value.entity);
        }
    }
    let mut table = Table::new("people answered about lately", &["Person"]);
    for entity in &entities {
        table.row([link(&person_path(&visit, entity), entity)]);
    }
    let body = html!(
        "<form class=\"filters\" method=\"get\" role=\"search\"><label>Id<input name=\"id\" required autofocus></label><label>Of<select name=\"what\"><option value=\"person\">a person</option><option value=\"anonymous\">a visitor without a user id</option><option value=\"item\">an item</option></select></label><button class=\"button main\">Open</button></form>{}",
        section("Answered about lately", "", &table.or(&html!("<p>Nobody yet. People are known by the id that your app sends as <code>userId</code>.</p>"))),
    );
    visit.page(&Page::new(Section::People, "People and items", body))
}

/// One person.
pub(crate) async fn page(
    visit: Visit,
    Path((_, id)): Path<(String, String)>,
    Query(query): Query<Form>,
) -> Result<Response, Problem> {
    let person = Visit::person(&id, &query);
    let (console, at_work) = (visit.console.clone(), visit.clone());
    let work = async {
        let read = tokio::task::spawn_blocking(move || about(&at_work, &person));
        read.await.map_err(|_| Problem::busy())?
    };
    let body = console.heavy(work).await?;
    let anonymous = query
        .contains_key("anonymous")
        .then(|| html!("<input type=\"hidden\" name=\"anonymous\" value=\"yes\">"));
    let erase = visit.action(
        Role::Admin,
        &Action {
            path: &format!("/people/{}/erase", percent_encoded(&id)),
            button: "Erase",
            means: "Everything that they did and that was said about them is removed, under all their ids, for good. It can take a while.",
            fields: html!("{}{}", anonymous, reason_field(true)),
        },
    );
    let export = visit.action(
        Role::Admin,
        &Action {
            path: &format!("/people/{}/export", percent_encoded(&id)),
            button: "Export",
            means: "Everything that they did, that is known and that was said about them comes as a file. The audit log notes that it was exported.",
            fields: html!("{}", anonymous),
        },
    );
    visit.page(&Page {
        section: Section::People,
        title: &id,
        trail: &[("People and items", visit.path("/people"))],
        actions: html!("{}{}", export, erase),
        body,
    })
}

/// Gives everything that is stored about a person, as a file.
pub(crate) async fn export(
    Path((_, id)): Path<(String, String)>,
    act: Act<Visit>,
) -> Result<Response, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Admin)?;
    let person = Visit::person(&id, &act.form);
    let actor = visit.viewer.actor();
    let work = async { Ok(visit.project.export(&person, &actor).await?) };
    let exported = visit.console.heavy(work).await?;
    let json = serde_json::to_vec_pretty(&exported);
    let json = json.map_err(|_| Problem::busy())?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"person.json\"",
        ),
    ];
    Ok((headers, json).into_response())
}

/// Erases a person.
pub(crate) async fn erase(
    Path((_, id)): Path<(String, String)>,
    act: Act<Visit>,
) -> Result<Response, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Admin)?;
    let reason = act.field("reason");
    if reason.is_empty() {
        return Err(Problem::bad(
            "Say why: the audit log keeps the reason, not the id.",
        ));
    }
    let person = Visit::person(&id, &act.form);
    let gone = visit
        .project
        .erase(&person, &visit.viewer.actor(), reason)
        .await?;
    let written = |number: u64| text(thousands(number));
    let nothing = Html::default();
    let body = html!(
        "<p role=\"status\">{}</p>{}",
        state(Tone::Good, "erased"),
        figures(&html!(
            "{}{}{}{}{}{}",
            figure("ids", &written(gone.ids as u64), &nothing),
            figure("events", &written(gone.erased.events), &nothing),
            figure("decisions", &written(gone.erased.decisions), &nothing),
            figure("outcomes", &written(gone.erased.outcomes), &nothing),
            figure("pieces in quarantine", &written(gone.quarantined), &nothing),
            figure(
                "datasets that lost their rows",
                &written(gone.erased.datasets),
                &nothing
            ),
        ))
    );
    visit.page(&Page {
        section: Section::People,
        title: "A person was erased",
        trail: &[("People and items", visit.path("/people"))],
        actions: Html::default(),
        body,
    })
}

fn about(visit: &Visit, person: &PersonKey) -> Result<Html, Problem> {
    let project = &visit.project;
    let engine = project.engine();
    let row = engine.read_all(person, project.clock.now())?;
    if !row.known {
        return Ok(html!(
            "<div class=\"empty\"><p><strong>Nothing is known of them</strong></p><p>No event of the project names this id. Ids are compared letter by letter; a visitor without a user id is looked for as such.</p></div>"
        ));
    }
    let mut features = Table::new("features", &["Feature", "Meaning", "Value now"]);
    for (column, found) in engine.set().columns().iter().zip(&row.values) {
        features.row([
            html!("<code>{}</code>", column.name),
            text(&column.label),
            text(value_in(column.unit, found)),
        ]);
    }
    let mut timeline = Table::new("timeline", &["When", "Event", "With"]);
    for logged in engine.timeline(person, EVENTS_SHOWN)? {
        timeline.row([
            time(logged.event.timestamp),
            text(&logged.event.name),
            said(&logged.event),
        ]);
    }
    Ok(html!(
        "<p class=\"quiet\">Known as <code>{who}</code>, after {offset} events of the project.</p>{guesses}{lists}{timeline}{features}",
        who = row.person.as_str(),
        offset = thousands(row.offset.0),
        guesses = section(
            "What the models would say now",
            "A preview: it is not logged as a decision.",
            &guesses(project, person)?
        ),
        lists = section(
            "What would be recommended now",
            "A preview too.",
            &lists(visit, person)?
        ),
        timeline = section(
            "What they did",
            "The newest first.",
            &timeline.or(&html!(
                "<p>Their events are too long ago to be kept at hand.</p>"
            ))
        ),
        features = section(
            "What is known",
            "Every feature at this moment.",
            &features.show()
        ),
    ))
}

/// The properties of an event in a line.
pub(crate) fn said(event: &Event) -> Html {
    if event.properties.is_empty() {
        return Html::default();
    }
    let all = serde_json::to_string(&event.properties).unwrap_or_default();
    let short: String = all.chars().take(SHORT).collect();
    let more = if short.len() < all.len() { "…" } else { "" };
    html!("<code class=\"said\">{}{}</code>", short, more)
}

fn by(version: Option<String>, why: Option<Fallback>) -> Html {
    match (version, why) {
        (Some(version), _) => text(version),
        (None, why) => text(why.map_or("fallback", fallback)),
    }
}

fn guesses(project: &ProjectLoop, person: &PersonKey) -> Result<Html, Problem> {
    let mut all = Html::default();
    for slot in project.registry.slots() {
        let (decision, reasons) = project.answerer.preview(slot, person)?;
        let version = decision.version_id().map(|version| version.to_string());
        let said = match (&decision.answer.label, &slot.task) {
            (Some(label), Task::Multiclass { .. }) => {
                format!("{label}, {}", percent(decision.answer.score))
            }
            (_, Task::Regression) => number(decision.answer.score),
            _ => percent(decision.answer.score),
        };
        all.push(&html!(
            "<article class=\"card\"><h3>{question}</h3><p class=\"big\">{said}</p><p class=\"quiet\">{model} · {by}</p>{reasons}</article>",
            question = slot.model.question.clone().unwrap_or_else(|| slot.model.name.to_string()),
            said = said,
            model = slot.model.name.as_str(),
            by = by(version, decision.fallback),
            reasons = why(&reasons),
        ));
    }
    Ok(if all.is_empty() {
        all
    } else {
        html!("<div class=\"cards wide\">{}</div>", all)
    })
}

fn lists(visit: &Visit, person: &PersonKey) -> Result<Html, Problem> {
    let mut all = Html::default();
    for slot in visit.project.registry.recommenders() {
        let list = visit
            .project
            .answerer
            .preview_list(slot, person, RECOMMENDED)?;
        all.push(&recommended(visit, slot, list)?);
    }
    Ok(all)
}

/// A list with the model that made it.
fn recommended(visit: &Visit, slot: &RecommendSlot, list: Recommendation) -> Result<Html, Problem> {
    let mut table = Table::new("recommended", &["#Place", "Item", "#Score", "Why"]);
    for (place, item) in list.items.iter().enumerate() {
        table.row([
            html!("{}", place + 1),
            item_link(visit, &item.item)?,
            text(number(item.score)),
            html!("{}", item.reason),
        ]);
    }
    Ok(html!(
        "<h3>{} <span class=\"quiet\">{}</span></h3>{}",
        slot.model.name.as_str(),
        by(list.version, list.fallback),
        table.or(&html!("<p>Nothing to recommend.</p>"))
    ))
}

/// One item.
pub(crate) async fn item(
    visit: Visit,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let item = visit.project.engine().item(&id)?;
    let item = item.ok_or_else(|| Problem::not_found("The project has no item with this id."))?;
    let mut table = Table::new("attributes", &["Attribute", "Value"]);
    for (name, value) in &item.attributes {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        table.row([text(name), text(value)]);
    }
    let (console, at_work, shown) = (visit.console.clone(), visit.clone(), item.id.clone());
    let work = async {
        let read = tokio::task::spawn_blocking(move || neighbours(&at_work, &shown));
        read.await.map_err(|_| Problem::busy())?
    };
    let beside = console.heavy(work).await?;
    let body = html!(
        "<p class=\"quiet\">Changed last {}.</p>{}{}",
        time(item.updated_at),
        section(
            "What is known",
            "",
            &table.or(&html!("<p>No attributes were sent with it.</p>"))
        ),
        section(
            "What goes with it",
            "As the models see it now; nobody is shown it.",
            &beside
        ),
    );
    visit.page(&Page {
        section: Section::People,
        title: &item.id,
        trail: &[("People and items", visit.path("/people"))],
        actions: what_happened(&visit, &item.id),
        body,
    })
}

/// A link to the question how often an item was met, day by day.
fn what_happened(visit: &Visit, item: &str) -> Html {
    let items = &visit.project.project.items;
    let Some(path) = items.as_ref().map(|items| items.id.to_string()) else {
        return Html::default();
    };
    let mut parts = path.split('.');
    let (Some(column), steps) = (parts.next(), parts.collect::<Vec<_>>()) else {
        return Html::default();
    };
    let Some((last, above)) = steps.split_last() else {
        return Html::default();
    };
    let quoted = |text: &str| text.replace('\'', "''");
    let above: String = above
        .iter()
        .map(|step| format!(" -> '{}'", quoted(step)))
        .collect();
    let sql = format!(
        "SELECT date, name, count(*) AS events, count(DISTINCT user_id) AS people\nFROM events\nWHERE {column}{above} ->> '{}' = '{}'\nGROUP BY date, name\nORDER BY date DESC, events DESC",
        quoted(last),
        quoted(item)
    );
    html!(
        "<a class=\"button\" href=\"{}?sql={}\">Its events day by day</a>",
        visit.path("/ask"),
        percent_encoded(&sql)
    )
}

fn neighbours(visit: &Visit, item: &str) -> Result<Html, Problem> {
    let mut all = Html::default();
    for slot in visit.project.registry.recommenders() {
        let answerer = &visit.project.answerer;
        let list = answerer.preview_similar(slot, item, RECOMMENDED)?;
        all.push(&recommended(visit, slot, list)?);
    }
    Ok(if all.is_empty() {
        html!("<p class=\"quiet\">The project has no model that recommends items.</p>")
    } else {
        all
    })
}
