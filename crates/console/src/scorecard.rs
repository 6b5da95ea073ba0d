//! A model's scorecard: what is in place for it, test by test, each with its evidence.

use axum::extract::Path;
use axum::response::{Redirect, Response};
use tidemill_cycle::ByHand;
use tidemill_cycle::scorecard::list::Group;
use tidemill_cycle::scorecard::{Counts, Scored, ScoredGroup};
use tidemill_store::users::Role;

use crate::html::{Html, html};
use crate::layout::Action;
use crate::models::page_below;
use crate::parts::{NOTHING, Table, Tone, figure, figures, number, section, state, text};
use crate::problem::Problem;
use crate::visit::{Act, Visit};

/// The page.
pub(crate) async fn page(
    visit: Visit,
    Path((_, model)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let work = async { Ok(visit.project.scorecard(&name).await?) };
    let card = visit.console.heavy(work).await?;
    let sums = card.groups.iter().map(|group| {
        let most = group.tests.len();
        figure(
            title(group.group),
            &html!(
                "{} <span class=\"quiet\">of {}</span>",
                number(group.points),
                most
            ),
            &Html::default(),
        )
    });
    let overall = figure(
        "score",
        &text(number(card.score)),
        &text("the smallest of the four"),
    );
    let path = format!("/models/{name}/scorecard");
    let groups = card.groups.iter().map(|group| tests(&visit, &path, group));
    let body = html!(
        "<p class=\"lead\">What is in place so that this model can be relied on: 28 tests, after the ML Test Score of Breck and others (2017). Evidence that is too old counts for nothing; what a person did and wrote down counts half.</p>{}{}",
        figures(&html!("{}{}", overall, sums.collect::<Html>())),
        groups.collect::<Html>(),
    );
    let title = format!("Scorecard of {name}");
    page_below(&visit, &name, &title, (Html::default(), body))
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Data => "features and data",
        Group::Model => "developing the model",
        Group::Infrastructure => "infrastructure",
        Group::Monitoring => "monitoring",
    }
}

fn tests(visit: &Visit, path: &str, group: &ScoredGroup) -> Html {
    let mut table = Table::new(
        title(group.group),
        &[
            "Test",
            "Counts",
            "#Points",
            "Evidence",
            "#Days old",
            "#Good for",
            "What to do",
        ],
    );
    for test in &group.tests {
        let (tone, word) = match test.counts {
            Counts::Automatic => (Tone::Good, "passes"),
            Counts::ByHand => (Tone::Quiet, "done by hand"),
            Counts::Expired => (Tone::Warning, "too old"),
            Counts::Failed => (Tone::Bad, "fails"),
            Counts::Missing => (Tone::Quiet, "missing"),
        };
        table.row([
            html!("{} <span class=\"quiet\">{}</span>", test.title, test.id),
            state(tone, word),
            text(number(test.points)),
            evidence(visit, test),
            text(test.age_days.map_or_else(|| NOTHING.to_owned(), number)),
            html!("{}", test.period_days),
            html!("{}{}", test.next_step.map(text), by_hand(visit, path, test)),
        ]);
    }
    section(title(group.group), "", &table.show())
}

fn evidence(visit: &Visit, test: &Scored) -> Html {
    let found = test.evidence.as_ref().map(|found| {
        html!(
            "<a href=\"{}\">{}</a>",
            visit.path(&shown_at(&found.link)),
            found.sentence
        )
    });
    let written = test
        .by_hand
        .as_ref()
        .map(|done| html!("<p class=\"quiet\">{}: {}</p>", done.by, done.note));
    html!("{}{}", found, written)
}

/// The page on which people see what a path of the API tells programs.
fn shown_at(path: &str) -> String {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let path = path.split('?').next().unwrap_or(path);
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("models"), Some(model)) => format!("/models/{model}"),
        (Some("decisions"), Some(id)) => format!("/decisions/{id}"),
        (Some("data" | "events"), _) => "/events".to_owned(),
        (Some("audit"), _) => "/settings".to_owned(),
        (Some(page @ ("models" | "decisions" | "features" | "alerts")), _) => format!("/{page}"),
        _ => String::new(),
    }
}

fn by_hand(visit: &Visit, path: &str, test: &Scored) -> Html {
    if matches!(test.counts, Counts::Automatic | Counts::ByHand) {
        return Html::default();
    }
    visit.action(
        Role::Editor,
        &Action {
            path,
            button: "Done by hand",
            means: "It counts half until it is too old. The audit log keeps your name and the note.",
            fields: html!(
                "<input type=\"hidden\" name=\"test\" value=\"{}\"><label>What was done, and where it is written<input name=\"note\" required maxlength=\"1000\"></label>",
                test.id
            ),
        },
    )
}

/// Records that the viewer did a test.
pub(crate) async fn record(
    Path((_, model)): Path<(String, String)>,
    act: Act<Visit>,
) -> Result<Redirect, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Editor)?;
    let name = visit.model(&model)?;
    let done = ByHand {
        by: visit.viewer.user.name.clone(),
        at: visit.project.clock.now(),
        note: act.field("note").to_owned(),
    };
    visit
        .project
        .record_by_hand(&name, act.field("test"), done, &visit.viewer.actor())
        .await?;
    Ok(Redirect::to(
        &visit.path(&format!("/models/{name}/scorecard")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_opens_a_page() {
        let check = |path: &str, page: &str| assert_eq!(shown_at(path), page);
        check("/v1/models/m/runs/01", "/models/m");
        check("/v1/models", "/models");
        check("/v1/data", "/events");
        check("/v1/alerts?resolved=true", "/alerts");
        check("/v1/features/consistency", "/features");
        check("/v1/decisions/d1", "/decisions/d1");
        check("/v1/audit", "/settings");
    }
}
