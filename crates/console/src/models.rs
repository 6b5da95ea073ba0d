//! Models: how they do, their versions and runs, and what a person asks of them.

use axum::extract::Path;
use axum::response::{Html as Body, IntoResponse, Redirect, Response};
use tidemill_core::ModelName;
use tidemill_cycle::ModelStatus;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;
use tidemill_store::catalog::{Run, RunState, Version};
use tidemill_store::users::Role;

use crate::chart::{self, Estimate};
use crate::html::{Html, html};
use crate::layout::{Action, Page, Section, reason_field};
use crate::parts::{
    NOTHING, Table, Tone, figure, figures, interval, link, maybe, part, part_about, state, text,
    time,
};
use crate::problem::Problem;
use crate::rollout;
use crate::visit::{Act, Visit};

/// How many versions and runs a page shows.
const SHOWN: u32 = 50;

/// The list of models.
pub(crate) async fn list(visit: Visit) -> Result<Response, Problem> {
    let body = html!(
        "<div data-load=\"{}\" class=\"cards\"><p class=\"quiet\">Reading how the models do …</p></div>",
        visit.path("/parts/models")
    );
    let body = part("How they do", &body);
    visit.page(&Page::new(Section::Models, "Models", body))
}

/// The models, each on a card; loaded into a page, as live quality may take a moment.
pub(crate) async fn cards(visit: Visit) -> Result<Body<String>, Problem> {
    let project = &visit.project.project;
    let names: Vec<ModelName> = project.model_names().cloned().collect();
    if names.is_empty() {
        let empty = html!(
            "<div class=\"empty\"><p><strong>No models yet</strong></p><p>A model is a question about people or items. Name one under <code>[models.NAME]</code> in the project file; <code>tidemill init</code> writes an example.</p></div>"
        );
        return Ok(Body(empty.into_string()));
    }
    let console = visit.console.clone();
    let work = async {
        let mut cards = Html::default();
        for name in &names {
            let status = visit.project.model_status(name).await?;
            cards.push(&card(&visit, &status));
        }
        Ok(cards)
    };
    Ok(Body(console.heavy(work).await?.into_string()))
}

fn card(visit: &Visit, status: &ModelStatus) -> Html {
    let model = status.model.as_str();
    let champion = match status.champion {
        Some(number) => state(Tone::Good, &format!("{model}@{number} answers")),
        None => state(Tone::Warning, "the fallback answers"),
    };
    html!(
        "<article class=\"card\"><h3><a href=\"{path}\">{model}</a></h3><p>{question}</p><p>{champion}</p>{quality}<div class=\"worth\" data-load=\"{value}\"><p class=\"quiet\">Reading what it earned …</p></div></article>",
        path = visit.path(&format!("/models/{model}")),
        model = model,
        question = status.question,
        champion = champion,
        quality = quality(status),
        value = visit.path(&format!("/parts/value/{model}")),
    )
}

/// What was promised and what came.
fn quality(status: &ModelStatus) -> Html {
    let promised = status.promised.as_ref();
    let promised_figure = figure(
        &format!("{} when examined", status.metric),
        &text(maybe(promised.and_then(|promised| promised.value))),
        &interval(promised.and_then(|promised| promised.interval)),
    );
    let (value, range, answers) = match (&status.live, &status.lists) {
        (Some(live), _) => {
            let primary = live.primary();
            (
                primary.and_then(|metric| metric.value),
                primary.and_then(|metric| metric.interval),
                live.answers,
            )
        }
        (None, Some(lists)) => (lists.ndcg.value, lists.ndcg.interval, lists.answers),
        (None, None) => (None, None, 0),
    };
    let name = if status.lists.is_some() {
        "live, over 30 days (of lists of which something was taken)"
    } else {
        "live, over 30 days"
    };
    let live = figure(
        name,
        &text(maybe(value)),
        &html!(
            "{} <span class=\"quiet\">{} answers</span>",
            interval(range),
            answers
        ),
    );
    let estimated = status.estimated.as_ref().map(|estimated| {
        let read = match estimated.recalibrated_on {
            0 => "since then, if the probabilities hold (an estimate)",
            _ => "since then, by what came before (an estimate)",
        };
        figure(
            read,
            &text(maybe(estimated.expected.value)),
            &html!(
                "{} <span class=\"quiet\">{} answers whose outcome is not certain yet</span>",
                interval(estimated.expected.interval),
                estimated.answers
            ),
        )
    });
    figures(&html!("{}{}{}", promised_figure, live, estimated))
}

/// One model.
pub(crate) async fn page(
    visit: Visit,
    Path((_, model)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let console = visit.console.clone();
    let work = async {
        let status = visit.project.model_status(&name).await?;
        let (catalog, project) = (&visit.project.stores.catalog, &visit.project.project.name);
        let versions = catalog.versions(project, &name, None, SHOWN).await?;
        let runs = catalog.runs(project, Some(&name), None, SHOWN).await?;
        Ok((status, versions, runs))
    };
    let (status, versions, runs) = console.heavy(work).await?;
    let taking_over = rollout::on_page(&visit, &name).await?;
    let body = html!(
        "<p class=\"lead\">{question}</p><p>{champion}</p>{quality}{rollout}<div class=\"worth\" data-load=\"{value}\"><p class=\"quiet\">Reading what it earned …</p></div>{line}{versions}{runs}",
        question = status.question,
        champion = champion(&visit, &status),
        quality = quality(&status),
        rollout = taking_over,
        value = visit.path(&format!("/parts/value/{name}")),
        line = time_line(&status, &versions),
        versions = part_about(
            "Versions",
            "The newest first. A version answers once it has passed the gate.",
            &version_table(&visit, &status, &versions)
        ),
        runs = part_about(
            "Runs",
            "Each pass of the cycle, and what set it off.",
            &run_table(&visit, &runs)
        ),
    );
    let actions = html!(
        "{}<a class=\"button\" href=\"{}\">Scorecard</a>{}{}",
        compare_link(&visit, &name, &versions),
        visit.path(&format!("/models/{name}/scorecard")),
        visit.action(Role::Editor, &Action {
            path: &format!("/models/{name}/train"),
            button: "Train now",
            means: "A run begins: it builds a dataset, fits a version and examines it. If the gate lets it pass it takes over as the project file says.",
            fields: Html::default(),
        }),
        // while a version takes over, what sends it back stands beside its stages
        if status.champion.is_some() && !rollout::is_under_way(&visit, &name)? {
            visit.action(Role::Editor, &Action {
                path: &format!("/models/{name}/rollback"),
                button: "Roll back",
                means: "The version that answered before takes over again, or the fallback where there is none. It happens at once.",
                fields: reason_field(true),
            })
        } else {
            Html::default()
        }
    );
    visit.page(&Page {
        section: Section::Models,
        title: name.as_str(),
        trail: &[("Models", visit.path("/models"))],
        actions,
        body,
    })
}

fn compare_link(visit: &Visit, model: &ModelName, versions: &[Version]) -> Html {
    match versions {
        [newest, before, ..] => html!(
            "<a class=\"button\" href=\"{}?a={}&amp;b={}\">Compare versions</a>",
            visit.path(&format!("/models/{model}/compare")),
            before.number,
            newest.number
        ),
        _ => Html::default(),
    }
}

fn champion(visit: &Visit, status: &ModelStatus) -> Html {
    let model = &status.model;
    let next = status
        .next_run
        .map(|at| html!(" <span class=\"quiet\">· trained next {}</span>", time(at)));
    match status.champion {
        Some(number) => html!(
            "{} {}{}",
            state(Tone::Good, "answers:"),
            link(
                &visit.path(&format!("/models/{model}/versions/{number}")),
                &format!("{model}@{number}")
            ),
            next
        ),
        None => html!(
            "{}{}",
            state(
                Tone::Warning,
                "the fallback answers: no version has passed the gate"
            ),
            next
        ),
    }
}

/// A version by the metric that versions are compared by.
fn measured(status: &ModelStatus, version: &Version) -> Estimate {
    let (value, interval) = if status.kind == "recommend" {
        let detail: RecommendDetail =
            serde_json::from_value(version.detail.clone()).unwrap_or_default();
        let found = detail.examination.map(|found| found.challenger);
        found.map_or((None, None), |found| (found.value, found.interval))
    } else {
        let detail: RunDetail = serde_json::from_value(version.detail.clone()).unwrap_or_default();
        let found = detail.examination;
        found.map_or((None, None), |found| (found.value(), found.interval()))
    };
    Estimate {
        name: format!("@{}", version.number),
        value,
        interval,
        hollow: !version.passed,
    }
}

fn time_line(status: &ModelStatus, versions: &[Version]) -> Html {
    let all: Vec<Estimate> = versions
        .iter()
        .rev()
        .map(|version| measured(status, version))
        .collect();
    if all.len() < 2 {
        return Html::default();
    }
    let chart = chart::estimates(&status.metric, "version", &all, false);
    part_about(
        "Version by version",
        "What each examination found, with its 95 % interval. A hollow mark is a version that the gate refused. Each was examined on the newest rows of its time.",
        &chart,
    )
}

fn version_table(visit: &Visit, status: &ModelStatus, versions: &[Version]) -> Html {
    let mut table = Table::new(
        format!("versions of {}", status.model),
        &["Version", "State", "#Value", "95 % interval", "Made"],
    );
    for version in versions {
        let found = measured(status, version);
        let shown = if status.champion == Some(version.number) {
            state(Tone::Good, "champion")
        } else if version.passed {
            state(Tone::Quiet, "passed")
        } else {
            state(Tone::Warning, "refused")
        };
        let path = visit.path(&format!(
            "/models/{}/versions/{}",
            version.model, version.number
        ));
        table.row([
            link(&path, &format!("{}@{}", version.model, version.number)),
            shown,
            text(maybe(found.value)),
            interval(found.interval),
            time(version.created_at),
        ]);
    }
    table.or(&html!("<p><strong>No version yet</strong></p><p>A run makes one as soon as there are enough certain outcomes to learn from. The runs below say what is missing.</p>"))
}

/// How a run ended, or that it has not.
pub(crate) fn run_state(state: RunState) -> (Tone, &'static str) {
    match state {
        RunState::Running => (Tone::Quiet, "running"),
        RunState::Passed => (Tone::Good, "passed"),
        RunState::Refused => (Tone::Warning, "refused"),
        RunState::Skipped => (Tone::Quiet, "skipped"),
        RunState::Failed => (Tone::Bad, "failed"),
    }
}

/// A page below that of a model: what can be done there, and what it shows.
pub(crate) fn page_below(
    visit: &Visit,
    model: &ModelName,
    title: &str,
    (actions, body): (Html, Html),
) -> Result<Response, Problem> {
    visit.page(&Page {
        section: Section::Models,
        title,
        trail: &[
            ("Models", visit.path("/models")),
            (model.as_str(), visit.path(&format!("/models/{model}"))),
        ],
        actions,
        body,
    })
}

fn run_table(visit: &Visit, runs: &[Run]) -> Html {
    let mut table = Table::new(
        "runs",
        &["Began", "State", "Set off by", "Version", "What it found"],
    );
    for run in runs {
        let (tone, word) = run_state(run.state);
        let version = run.version.map_or_else(
            || text(NOTHING),
            |number| {
                link(
                    &visit.path(&format!("/models/{}/versions/{number}", run.model)),
                    &format!("@{number}"),
                )
            },
        );
        table.row([
            time(run.started_at),
            state(tone, word),
            text(run.trigger.replace('_', " ")),
            version,
            text(&run.summary),
        ]);
    }
    table.or(&html!(
        "<p>No run yet. Train the model now, or wait for its schedule.</p>"
    ))
}

/// Begins a run; it goes on by itself.
pub(crate) async fn train(
    Path((_, model)): Path<(String, String)>,
    act: Act<Visit>,
) -> Result<Redirect, Problem> {
    let visit = act.who;
    visit.viewer.check(Role::Editor)?;
    let name = visit.model(&model)?;
    let (project, actor) = (visit.project.clone(), visit.viewer.actor());
    let here = visit.path(&format!("/models/{name}"));
    let Some(turn) = project.take_turn(&name) else {
        return Ok(Redirect::to(&here)); // the page shows the run that is under way
    };
    visit.audit("train", name.as_str(), String::new()).await?;
    let running = name.clone();
    tokio::spawn(async move {
        let _turn = turn;
        let trained = project
            .train(std::slice::from_ref(&running), "person", &actor)
            .await;
        if let Err(error) = trained {
            tracing::error!(model = %running, %error, "training broke off");
        }
    });
    Ok(Redirect::to(&here))
}

/// Lets a version answer.
pub(crate) async fn promote(
    Path((_, model, version)): Path<(String, String, u32)>,
    act: Act<Visit>,
) -> Result<Response, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Editor)?;
    let name = visit.model(&model)?;
    let against = act.field("override") == "yes";
    visit
        .project
        .promote(
            &name,
            version,
            &visit.viewer.actor(),
            act.field("reason"),
            against,
        )
        .await?;
    Ok(Redirect::to(&visit.path(&format!("/models/{name}/versions/{version}"))).into_response())
}

/// Lets the champion before this one answer again.
pub(crate) async fn rollback(
    Path((_, model)): Path<(String, String)>,
    act: Act<Visit>,
) -> Result<Redirect, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Editor)?;
    let name = visit.model(&model)?;
    visit
        .project
        .rollback(&name, &visit.viewer.actor(), act.field("reason"))
        .await?;
    Ok(Redirect::to(&visit.path(&format!("/models/{name}"))))
}
