//! Decisions: every answer that was given, what was known then, why, and what happened afterwards.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use tidemill_core::notation::{percent_encoded, thousands};
use tidemill_core::{Decision, DecisionId};
use tidemill_cycle::version::Explanation;

use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{
    NOTHING, Table, fallback, figure, figures, link, number, percent, section, text, time, value,
};
use crate::people::{item_link, person_path, reason_list};
use crate::problem::Problem;
use crate::visit::{Form, Visit};

/// How many decisions a page shows.
const SHOWN: usize = 50;
/// Among how many of the newest a filter looks.
const LOOKED_AT: usize = 5_000;

/// The newest decisions, filtered where asked for.
pub(crate) async fn list(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let field = |name: &str| query.get(name).map_or("", |value| value.trim());
    let (who, model, before) = (field("who"), field("model"), field("before"));
    if let Ok(id) = who.parse::<DecisionId>() {
        return Ok(Redirect::to(&visit.path(&format!("/decisions/{id}"))).into_response());
    }
    let before = before.parse::<u64>().ok();
    let limit = if who.is_empty() && model.is_empty() {
        SHOWN
    } else {
        LOOKED_AT
    };
    let project = visit.project.clone();
    let console = visit.console.clone();
    let read = async {
        let read = tokio::task::spawn_blocking(move || project.decisions.newest(before, limit));
        Ok(read.await.map_err(|_| Problem::busy())??)
    };
    let read = console.heavy(read).await?;
    let last = read.last().map(|decision| decision.sequence);
    let mut table = Table::new(
        "decisions",
        &["When", "Model", "About", "Answer", "By", "#µs"],
    );
    let fits = |decision: &Decision| {
        (model.is_empty() || decision.model.as_str() == model)
            && (who.is_empty() || decision.entity.get(2..) == Some(who) || decision.entity == who)
    };
    let mut last_shown = last;
    for decision in read
        .iter()
        .filter(|decision| fits(&decision.value))
        .take(SHOWN)
    {
        table.row(line(&visit, &decision.value));
        last_shown = Some(decision.sequence);
    }
    let empty = html!(
        "<p><strong>No such decision</strong></p><p>A decision is one answer to your app, with everything that was known when it was given. Ask <code>POST /v1/predict/MODEL</code> or <code>/v1/recommend/MODEL</code> for one.</p>"
    );
    let more = last_shown.filter(|_| read.len() >= limit).map(|last| {
        html!(
            "<p><a class=\"button\" href=\"?before={}&amp;who={}&amp;model={}\">Older ones</a></p>",
            last,
            percent_encoded(who),
            percent_encoded(model)
        )
    });
    let options = visit.project.project.model_names().map(|name| {
        let chosen = if name.as_str() == model {
            html!(" selected")
        } else {
            Html::default()
        };
        html!("<option{}>{}</option>", chosen, name.as_str())
    });
    let body = html!(
        "<form class=\"filters\" method=\"get\" role=\"search\"><label>Person or id of a decision<input name=\"who\" value=\"{who}\"></label><label>Model<select name=\"model\"><option value=\"\">all</option>{options}</select></label><button class=\"button\">Find</button></form>{table}{more}",
        who = who,
        options = options.collect::<Html>(),
        table = table.or(&empty),
        more = more,
    );
    visit.page(&Page::new(Section::Decisions, "Decisions", body))
}

/// What was answered, in a few words.
fn answer(decision: &Decision) -> String {
    if !decision.items.is_empty() {
        let names: Vec<&str> = decision
            .items
            .iter()
            .take(3)
            .map(|shown| shown.item.as_str())
            .collect();
        return format!("{} items: {} …", decision.items.len(), names.join(", "));
    }
    match &decision.answer.label {
        Some(label) => format!("{label}, {}", percent(decision.answer.score)),
        None => number(decision.answer.score),
    }
}

fn line(visit: &Visit, decision: &Decision) -> [Html; 6] {
    let path = visit.path(&format!("/decisions/{}", decision.id));
    let by = match (decision.version, decision.fallback) {
        (Some(number), _) => html!("@{}", number),
        (None, why) => text(why.map_or("fallback", fallback)),
    };
    [
        link_time(&path, decision),
        text(decision.model.as_str()),
        link(&person_path(visit, &decision.entity), &decision.entity),
        text(answer(decision)),
        by,
        text(thousands(decision.latency_us)),
    ]
}

fn link_time(path: &str, decision: &Decision) -> Html {
    html!("<a href=\"{}\">{}</a>", path, time(decision.moment))
}

/// Everything about one decision.
pub(crate) async fn page(
    visit: Visit,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id: DecisionId = id
        .parse()
        .map_err(|_| Problem::not_found("This is not the id of a decision."))?;
    let console = visit.console.clone();
    let project = visit.project.clone();
    let explained = console
        .heavy(async { Ok(project.explain(id).await?) })
        .await?;
    let explained =
        explained.ok_or_else(|| Problem::not_found("The project has no decision with this id."))?;
    let body = explanation(&visit, &explained)?;
    let title = format!("Decision {id}");
    visit.page(&Page {
        section: Section::Decisions,
        title: &title,
        trail: &[("Decisions", visit.path("/decisions"))],
        actions: Html::default(),
        body,
    })
}

fn explanation(visit: &Visit, explained: &Explanation) -> Result<Html, Problem> {
    let decision = &explained.decision;
    let by = match decision.version {
        Some(number) => link(
            &visit.path(&format!("/models/{}/versions/{number}", decision.model)),
            &format!("{}@{number}", decision.model),
        ),
        None => text(decision.fallback.map_or("fallback", fallback)),
    };
    let top = figures(&html!(
        "{}{}{}{}{}",
        figure(
            "about",
            &link(&person_path(visit, &decision.entity), &decision.entity),
            &Html::default()
        ),
        figure("answer", &text(answer(decision)), &Html::default()),
        figure(
            "answered by",
            &by,
            &html!(
                "{}",
                decision.arm.map(|arm| format!("{arm:?}").to_lowercase())
            )
        ),
        figure(
            "when",
            &time(decision.moment),
            &html!("in {} µs", thousands(decision.latency_us))
        ),
        figure(
            "had seen",
            &html!("event {}", thousands(decision.offset.0)),
            &Html::default()
        ),
    ));
    let mut features = Table::new("features", &["Feature", "Meaning", "Value then"]);
    for feature in &explained.features {
        features.row([
            text(&feature.name),
            text(&feature.label),
            text(value(&feature.value)),
        ]);
    }
    let features = if explained.features.is_empty() {
        Html::default()
    } else {
        features.show()
    };
    let context = if decision.context.is_empty() {
        Html::default()
    } else {
        html!(
            "<pre tabindex=\"0\">{}</pre>",
            serde_json::to_string_pretty(&decision.context).unwrap_or_default()
        )
    };
    Ok(html!(
        "{top}{outcome}{reasons}{items}{candidates}{features}{context}",
        top = top,
        outcome = section(
            "What happened",
            "Joined to the decision once it is certain.",
            &outcome(explained)
        ),
        reasons = section(
            "Why",
            "What moved this answer, the strongest first.",
            &reason_list(&explained.reasons)
        ),
        items = section(
            "What was shown",
            "In this order, each with the probability with which it stood there: that is what makes other policies comparable later.",
            &shown(visit, decision)?
        ),
        candidates = section(
            "What it was chosen from",
            "The best candidates by score, before the rules and the exploration of the policy.",
            &candidates(visit, decision)?
        ),
        features = section(
            "What was known",
            "The features as they were logged with the decision.",
            &features
        ),
        context = section("What the caller passed along", "", &context),
    ))
}

fn outcome(explained: &Explanation) -> Html {
    let Some(outcome) = &explained.outcome else {
        return html!("<p class=\"quiet\">Not certain yet: the horizon has not passed.</p>");
    };
    let came = match (explained.decision.answer.label.as_deref(), outcome.value) {
        (Some("yes" | "no"), 1.0) => "yes".to_owned(),
        (Some("yes" | "no"), _) => "no".to_owned(),
        (_, value) => number(value),
    };
    let mut all = html!(
        "{}{}",
        figure(
            "came of it",
            &text(outcome.class.clone().unwrap_or(came)),
            &html!("said: {}", number(outcome.score))
        ),
        figure(
            "certain since",
            &time(outcome.resolved_at),
            &Html::default()
        ),
    );
    if let Some(list) = &outcome.list {
        let taken: Vec<String> = list
            .taken
            .iter()
            .map(|taken| format!("{} (place {})", taken.item, taken.place + 1))
            .collect();
        let taken = if taken.is_empty() {
            NOTHING.to_owned()
        } else {
            taken.join(", ")
        };
        all.push(&figure(
            "taken of the list",
            &text(taken),
            &html!("and {} others", list.others),
        ));
    }
    figures(&all)
}

fn shown(visit: &Visit, decision: &Decision) -> Result<Html, Problem> {
    let mut table = Table::new("shown", &["#Place", "Item", "#Score", "#Propensity", "How"]);
    for (place, shown) in decision.items.iter().enumerate() {
        table.row([
            html!("{}", place + 1),
            item_link(visit, &shown.item)?,
            text(number(shown.score)),
            text(number(shown.propensity)),
            text(if shown.explored { "explored" } else { "best" }),
        ]);
    }
    Ok(if decision.items.is_empty() {
        Html::default()
    } else {
        table.show()
    })
}

fn candidates(visit: &Visit, decision: &Decision) -> Result<Html, Problem> {
    let mut table = Table::new("candidates", &["#Rank", "Item", "#Score"]);
    for (place, candidate) in decision.candidates.iter().take(SHOWN).enumerate() {
        table.row([
            html!("{}", place + 1),
            item_link(visit, &candidate.item)?,
            text(number(candidate.score)),
        ]);
    }
    Ok(if decision.candidates.is_empty() {
        Html::default()
    } else {
        table.show()
    })
}
