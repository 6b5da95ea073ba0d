//! The overview: what needs attention, the loop as it turns, and the models.

use std::collections::BTreeSet;

use axum::response::Response;
use tidemill_core::notation::thousands;
use tidemill_store::catalog::{Run, RunState};
use tidemill_store::event_log::LogCounts;

use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::models::run_state;
use crate::parts::{Tone, part, state, text, time};
use crate::problem::Problem;
use crate::visit::Visit;

/// Among how many of the newest runs refused versions are looked for.
const RUNS_LOOKED_AT: u32 = 12;

/// How far the stages are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stages {
    pub(crate) counts: LogCounts,
    pub(crate) features_lag: u64,
    pub(crate) landing_lag: u64,
    pub(crate) decisions: u64,
    pub(crate) outcomes_waiting: u64,
    pub(crate) shadow_waiting: u64,
    pub(crate) alerts: usize,
}

impl Visit {
    pub(crate) async fn stages(&self) -> Result<Stages, Problem> {
        let project = &self.project;
        let progress = project.progress().await?;
        Ok(Stages {
            counts: project.stores.log.counts(&project.project.name)?,
            features_lag: progress.features_lag,
            landing_lag: progress.landing_lag,
            decisions: project.decisions.last(),
            outcomes_waiting: progress.outcomes_waiting,
            shadow_waiting: progress.shadow_waiting,
            alerts: project.alerts.open()?.len(),
        })
    }
}

/// The page.
pub(crate) async fn page(visit: Visit) -> Result<Response, Problem> {
    let stages = visit.stages().await?;
    let catalog = &visit.project.stores.catalog;
    let runs = catalog
        .runs(&visit.project.project.name, None, None, RUNS_LOOKED_AT)
        .await?;
    let body = html!(
        "{}{}{}",
        attention(&visit, &runs)?,
        part("The loop", &picture(&visit, &stages, runs.first())),
        part(
            "Models",
            &html!(
                "<div data-load=\"{path}\" class=\"cards\"><p class=\"quiet\">Reading how the models do … <a href=\"{page}\">Open the list</a></p></div>",
                path = visit.path("/parts/models"),
                page = visit.path("/models")
            )
        )
    );
    visit.page(&Page::new(Section::Overview, "Overview", body))
}

/// What a person should look at, the worst first.
fn attention(visit: &Visit, runs: &[Run]) -> Result<Html, Problem> {
    let mut lines = Html::default();
    let mut add = |tone, word: &str, what: &Html| {
        lines.push(&html!(
            "<li>{} <span>{}</span></li>",
            state(tone, word),
            what
        ));
    };
    for alert in visit.project.alerts.open()? {
        let kind = alert.kind.as_str().replace('_', " ");
        let what = html!(
            "<a href=\"{}\">{}</a> — {}",
            visit.path("/alerts"),
            alert.subject,
            alert.cause
        );
        add(Tone::Bad, &kind, &what);
    }
    // counts are since the beginning: what became an event since needs nobody
    let log = &visit.project.stores.log;
    let newest = log.quarantined(&visit.project.project.name, None, 1)?;
    if let Some((_, piece)) = newest.first() {
        let what = html!(
            "<a href=\"{}\">What was sent</a> and is no event waits there, the newest since {}",
            visit.path("/events/quarantine"),
            time(piece.received_at)
        );
        add(Tone::Warning, "quarantine", &what);
    }
    // a refused version is news until the next run of its model
    let mut told = BTreeSet::new();
    let newest = runs.iter().filter(|run| told.insert(&run.model));
    for run in newest
        .filter(|run| matches!(run.state, RunState::Refused | RunState::Failed))
        .take(4)
    {
        let (tone, word) = match run.state {
            RunState::Refused => (Tone::Warning, "version refused"),
            _ => (Tone::Bad, "run failed"),
        };
        let path = match run.version {
            Some(number) => visit.path(&format!("/models/{}/versions/{number}", run.model)),
            None => visit.path(&format!("/models/{}", run.model)),
        };
        let name = run.version.map_or_else(
            || run.model.to_string(),
            |number| format!("{}@{number}", run.model),
        );
        add(
            tone,
            word,
            &html!(
                "<a href=\"{}\">{}</a> — {} {}",
                path,
                name,
                headline(&run.summary),
                time(run.started_at)
            ),
        );
    }
    if lines.is_empty() {
        let calm = html!(
            "<p class=\"calm\">{} Nothing needs you: no alert is open, nothing is in quarantine, and no new version was refused.</p>",
            state(Tone::Good, "all well")
        );
        return Ok(part("Needs attention", &calm));
    }
    Ok(part(
        "Needs attention",
        &html!("<ul class=\"attention\">{}</ul>", lines),
    ))
}

/// What a summary says before it goes into detail.
fn headline(summary: &str) -> &str {
    summary
        .split_once(": ")
        .map_or(summary, |(headline, _)| headline)
}

struct Stage<'a> {
    name: &'a str,
    page: &'a str,
    figure: Html,
    what: &'a str,
    lag: Html,
    tone: Tone,
}

/// A number that the live stream replaces.
fn live(key: &str, value: u64) -> Html {
    html!("<span data-live=\"{}\">{}</span>", key, thousands(value))
}

fn picture(visit: &Visit, stages: &Stages, newest: Option<&Run>) -> Html {
    let behind = |key: &str, lag: u64| html!("{} behind", live(key, lag));
    let (learnt, examined, run_tone) = match newest {
        Some(run) => {
            let (tone, word) = run_state(run.state);
            (text(run.model.as_str()), text(word), tone)
        }
        None => (text("none yet"), text("none yet"), Tone::Quiet),
    };
    let when = newest.map(|run| time(run.started_at));
    let kept_up = |lag: u64| {
        if lag > 10_000 {
            Tone::Warning
        } else {
            Tone::Good
        }
    };
    let all = [
        Stage {
            name: "Collect",
            page: "/events",
            figure: live("stored", stages.counts.stored),
            what: "events stored",
            lag: html!("<span data-rate=\"stored\">0</span> a minute"),
            tone: Tone::Good,
        },
        Stage {
            name: "Prepare",
            page: "/features",
            figure: behind("features_lag", stages.features_lag),
            what: "features",
            lag: html!("lake {}", behind("landing_lag", stages.landing_lag)),
            tone: kept_up(stages.features_lag),
        },
        Stage {
            name: "Train",
            page: "/models",
            figure: learnt,
            what: "newest run",
            lag: html!("{}", when),
            tone: if run_tone == Tone::Bad {
                Tone::Bad
            } else {
                Tone::Good
            },
        },
        Stage {
            name: "Evaluate",
            page: "/models",
            figure: examined,
            what: "its verdict",
            lag: Html::default(),
            tone: run_tone,
        },
        Stage {
            name: "Serve",
            page: "/decisions",
            figure: live("decisions", stages.decisions),
            what: "decisions",
            lag: html!("<span data-rate=\"decisions\">0</span> a minute"),
            tone: Tone::Good,
        },
        Stage {
            name: "Monitor",
            page: "/alerts",
            figure: live("alerts", stages.alerts as u64),
            what: "open alerts",
            lag: html!(
                "{} outcomes waited for",
                live("outcomes_waiting", stages.outcomes_waiting)
            ),
            tone: if stages.alerts > 0 {
                Tone::Warning
            } else {
                Tone::Good
            },
        },
    ];
    let shown = all.into_iter().map(|stage| {
        let word = match stage.tone {
            Tone::Good => "healthy",
            Tone::Bad => "failed",
            Tone::Warning => "look here",
            Tone::Quiet => "idle",
        };
        html!(
            "<li><a href=\"{path}\"><span class=\"stage\">{name}</span><strong>{figure}</strong><span class=\"quiet\">{what}</span><span class=\"quiet\">{lag}</span>{state}</a></li>",
            path = visit.path(stage.page), name = stage.name, figure = stage.figure, what = stage.what, lag = stage.lag, state = state(stage.tone, word),
        )
    });
    html!(
        "<ol class=\"loop\" data-follow=\"{}\">{}</ol><p class=\"quiet back\"><span aria-hidden=\"true\">↺</span> What happens after an answer comes back as events: the loop begins anew.</p>",
        visit.path("/live"),
        shown.collect::<Html>()
    )
}
