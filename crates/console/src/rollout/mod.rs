//! How versions take over: the stages as a picture, both versions beside each other, and the rollouts before.

mod numbers;
mod steps;

use axum::extract::Path;
use axum::response::{Html as Body, Response};
use serde::Deserialize;
use tidemill_core::project::RolloutRules;
use tidemill_core::{ModelName, Timestamp};
use tidemill_cycle::rollout::{RolloutStatus, StageNumbers};
use tidemill_store::catalog::{Rollout, RolloutStage};
use tidemill_store::users::Role;

use crate::html::{Html, html};
use crate::layout::{Action, reason_field};
use crate::models::page_below;
use crate::parts::{Table, Tone, link, part, percent, state, text, time};
use crate::problem::Problem;
use crate::version::promote_button;
use crate::visit::Visit;

/// How many rollouts of a model are listed.
const LISTED: u32 = 50;

/// A stage that a rollout has been through.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Passed {
    stage: RolloutStage,
    share: f64,
    since: Timestamp,
    until: Timestamp,
    numbers: StageNumbers,
}

/// The stages that a rollout has been through, oldest first; none where they were written down otherwise.
fn passed(rollout: &Rollout) -> Vec<Passed> {
    serde_json::from_value(rollout.detail["stages"].clone()).unwrap_or_default()
}

/// How a stage is called.
fn stage_name(stage: RolloutStage, share: f64) -> String {
    match stage {
        RolloutStage::Shadow => "Shadow".to_owned(),
        RolloutStage::Canary => format!("Canary {}", percent(share)),
        RolloutStage::Promoted => "Champion".to_owned(),
        RolloutStage::RolledBack => "Sent back".to_owned(),
    }
}

/// How a rollout stands, in words.
fn standing(rollout: &Rollout) -> Html {
    match rollout.stage {
        RolloutStage::Shadow | RolloutStage::Canary => state(Tone::Quiet, "takes over"),
        RolloutStage::Promoted => state(Tone::Good, "took over"),
        RolloutStage::RolledBack => state(Tone::Bad, "sent back"),
    }
}

/// What a model's page shows of how its versions take over.
pub(crate) async fn on_page(visit: &Visit, model: &ModelName) -> Result<Html, Problem> {
    let all = all(visit, model).await?;
    let status = visit.project.rollout_status(model)?;
    let rules = rules(visit, model);
    if all.is_empty() && !status.has_rules {
        return Ok(part("How versions take over", &lesson(model)));
    }
    let newest = match all.first() {
        Some(rollout) if rollout.is_under_way() => html!(
            "<div data-again=\"{}\">{}</div>",
            visit.path(&format!("/parts/rollout/{model}")),
            under_way(visit, rollout, &status, rules)
        ),
        Some(rollout) => ended(visit, rollout),
        None => html!(
            "<p class=\"about\">The next version that passes the gate beside a champion goes through these stages.</p>{}",
            steps::picture(&format!("stages of {model}"), &steps::ahead(rules))
        ),
    };
    let drill = status.drill.as_ref().map(|drill| {
        let word = match drill.passed {
            true => state(Tone::Good, "drill passed"),
            false => state(Tone::Bad, "drill failed"),
        };
        html!(
            "<p>{} {}: <span class=\"quiet\">{}</span></p>",
            word,
            time(drill.at),
            drill.sentence()
        )
    });
    let before = match all.is_empty() {
        true => Html::default(),
        false => html!("<h3>All rollouts</h3>{}", list(visit, model, &all)),
    };
    let body = html!("{}{}{}", newest, drill, before);
    Ok(part("How versions take over", &body))
}

/// The part that moves while a version takes over, on its own.
pub(crate) async fn moving(
    visit: Visit,
    Path((_, model)): Path<(String, String)>,
) -> Result<Body<String>, Problem> {
    let name = visit.model(&model)?;
    let all = all(&visit, &name).await?;
    let status = visit.project.rollout_status(&name)?;
    let shown = match all.first() {
        Some(rollout) if rollout.is_under_way() => {
            under_way(&visit, rollout, &status, rules(&visit, &name))
        }
        Some(rollout) => ended(&visit, rollout),
        None => Html::default(),
    };
    Ok(Body(shown.into_string()))
}

/// One rollout on a page of its own.
pub(crate) async fn page(
    visit: Visit,
    Path((_, model, position)): Path<(String, String, u32)>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let all = all(&visit, &name).await?;
    let rollout = all
        .iter()
        .find(|rollout| rollout.position == position)
        .ok_or_else(|| Problem::not_found("The model has no such rollout, or it is too old."))?;
    let body = if rollout.is_under_way() {
        let status = visit.project.rollout_status(&name)?;
        under_way(&visit, rollout, &status, rules(&visit, &name))
    } else {
        ended(&visit, rollout)
    };
    let title = format!("Rollout {position}: {name}@{}", rollout.version);
    page_below(
        &visit,
        &name,
        &title,
        (Html::default(), part("Stages", &body)),
    )
}

/// Whether the newest version is on its way, so that rolling back sends it back and not the champion.
pub(crate) fn is_under_way(visit: &Visit, model: &ModelName) -> Result<bool, Problem> {
    let newest = visit.project.rollout_status(model)?.rollout;
    Ok(
        newest
            .is_some_and(|line| matches!(line.stage, RolloutStage::Shadow | RolloutStage::Canary)),
    )
}

async fn all(visit: &Visit, model: &ModelName) -> Result<Vec<Rollout>, Problem> {
    let (catalog, project) = (&visit.project.stores.catalog, &visit.project.project.name);
    Ok(catalog.rollouts(project, model, LISTED).await?)
}

fn rules<'v>(visit: &'v Visit, model: &ModelName) -> Option<&'v RolloutRules> {
    let project = &visit.project.project;
    match project.recommenders.get(model) {
        Some(model) => model.rollout.as_ref(),
        None => project.models.get(model)?.rollout.as_ref(),
    }
}

/// What to write where versions take over at once.
fn lesson(model: &ModelName) -> Html {
    let lines = format!(
        "[models.{model}]\nrollout = {{ shadow = \"1h\", canary = [0.01, 0.1, 0.5, 1.0], step = \"1h\" }}"
    );
    html!(
        "<div class=\"empty\"><p><strong>Versions take over at once</strong></p><p>With <code>rollout</code> in the project file a version that passed the gate answers in the shadow first, then for a growing share of the people beside a control, and is sent back at once where it does not keep to a guardrail. Add the second line to the model and start the server again:</p><div class=\"snippet\"><pre tabindex=\"0\"><code>{}</code></pre><button type=\"button\" class=\"button\" data-copy>Copy</button></div></div>",
        lines
    )
}

/// A rollout that goes on: where it stands, what it waits for, and what a person can do.
fn under_way(
    visit: &Visit,
    rollout: &Rollout,
    status: &RolloutStatus,
    rules: Option<&RolloutRules>,
) -> Html {
    let (model, number) = (&rollout.model, rollout.version);
    let called = format!("{model}@{number}");
    let line = status.rollout.as_ref();
    let line = line.filter(|line| line.version == called);
    let found = line.and_then(|line| line.numbers.as_ref());
    let waits = line.map_or(&[][..], |line| &line.waits_for);
    let waits: Html = waits
        .iter()
        .map(|what| html!("<li>{}</li>", what))
        .collect();
    let waits = if waits.is_empty() {
        Html::default()
    } else {
        html!("<p>It waits:</p><ul class=\"waits\">{}</ul>", waits)
    };
    let now = visit.project.clock.now();
    let steps = steps::of(rollout, &passed(rollout), rules, found, now);
    let send_back = visit.action(
        Role::Editor,
        &Action {
            path: &format!("/models/{model}/rollback"),
            button: "Send back",
            means: "The version that takes over is stopped at once, and the champion answers everybody.",
            fields: reason_field(true),
        },
    );
    let actions = html!(
        "{}{}",
        promote_button(visit, model, number, true),
        send_back
    );
    let actions = if actions.is_empty() {
        actions
    } else {
        html!("<div class=\"actions\">{}</div>", actions)
    };
    html!(
        "<div class=\"taking\"><p>{version} {standing} from {champion} <span class=\"quiet\">since {since}: {reason}</span></p>{actions}</div>{picture}{waits}{guardrails}{stages}",
        version = version_link(visit, model, Some(number)),
        standing = standing(rollout),
        champion = version_link(visit, model, rollout.champion),
        since = time(rollout.started_at),
        reason = rollout.reason,
        actions = actions,
        picture = steps::picture(&format!("stages of {called}"), &steps),
        waits = waits,
        guardrails = rules.filter(|_| line.is_some()).map(|rules| {
            let is_of_lists = visit.project.is_recommender(model);
            numbers::guardrails(
                (rules, is_of_lists),
                status,
                numbers::gap(visit, model).as_ref(),
            )
        }),
        stages = numbers::stages(
            &called,
            &passed(rollout),
            found.map(|found| (rollout, found))
        ),
    )
}

/// A rollout that is over: how it ended and why, and what was noted.
fn ended(visit: &Visit, rollout: &Rollout) -> Html {
    let (model, number) = (&rollout.model, rollout.version);
    let called = format!("{model}@{number}");
    let passed = passed(rollout);
    let steps = steps::of(rollout, &passed, None, None, rollout.since);
    let beside = match rollout.champion {
        Some(_) => html!(" beside {}", version_link(visit, model, rollout.champion)),
        None => Html::default(),
    };
    html!(
        "<p>{version} {standing}{beside} <span class=\"quiet\">{since}, by {actor}</span></p><p class=\"reason\">{reason}</p>{picture}{stages}",
        version = version_link(visit, model, Some(number)),
        standing = standing(rollout),
        beside = beside,
        since = time(rollout.since),
        actor = rollout.actor,
        reason = rollout.reason,
        picture = steps::picture(&format!("stages of {called}"), &steps),
        stages = numbers::stages(&called, &passed, None),
    )
}

fn version_link(visit: &Visit, model: &ModelName, number: Option<u32>) -> Html {
    let Some(number) = number else {
        return text("the fallback");
    };
    let path = visit.path(&format!("/models/{model}/versions/{number}"));
    link(&path, &format!("{model}@{number}"))
}

fn list(visit: &Visit, model: &ModelName, all: &[Rollout]) -> Html {
    let mut table = Table::new(
        format!("rollouts of {model}"),
        &[
            "Rollout", "Version", "State", "Began", "Stages", "By", "Why",
        ],
    );
    for rollout in all {
        let path = visit.path(&format!("/models/{model}/rollouts/{}", rollout.position));
        let passed = passed(rollout);
        let stages = passed.iter().map(|one| (one.stage, one.share));
        let stages = stages.chain([(rollout.stage, rollout.share)]);
        let names: Vec<String> = stages
            .map(|(stage, share)| stage_name(stage, share).to_lowercase())
            .collect();
        table.row([
            link(&path, &rollout.position.to_string()),
            version_link(visit, model, Some(rollout.version)),
            standing(rollout),
            time(rollout.started_at),
            html!("<span class=\"passed\">{}</span>", names.join(" → ")),
            text(&rollout.actor),
            text(&rollout.reason),
        ]);
    }
    table.show()
}
