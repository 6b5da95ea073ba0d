//! Requests: what was asked lately, how long it took, and how full the server is.

mod course;
mod load;

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::response::{Html as Body, Response};
use tidemill_core::notation::{percent_encoded, thousands};
use tidemill_core::{Span, Timestamp};
use tidemill_monitor::traffic::{Asked, Over, Series, Step};

use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{Table, Tone, milliseconds, part_about, state, text};
use crate::problem::Problem;
use crate::visit::{Form, Visit};

/// What is looked at: over which time, and of what.
struct Look {
    over: Over,
    /// A model or a route; everything that the project's models answered where neither is chosen.
    of: Option<Of>,
    now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
enum Of {
    Model(String),
    Route(String),
}

impl Look {
    fn new(visit: &Visit, query: &Form) -> Self {
        let field = |name: &str| query.get(name).filter(|value| !value.is_empty()).cloned();
        let model = field("model").map(Of::Model);
        Self {
            over: match query.get("over").map(String::as_str) {
                Some("day") => Over::Day,
                _ => Over::Hour,
            },
            of: model.or_else(|| field("route").map(Of::Route)),
            now: visit.project.clock.now(),
        }
    }

    /// The query of a look at something over some time.
    fn query(over: Over, of: Option<&Of>) -> String {
        let over = match over {
            Over::Hour => "hour",
            Over::Day => "day",
        };
        match of {
            None => format!("?over={over}"),
            Some(Of::Model(name)) => format!("?over={over}&model={}", percent_encoded(name)),
            Some(Of::Route(path)) => format!("?over={over}&route={}", percent_encoded(path)),
        }
    }

    /// When the first step begins.
    fn from(&self) -> Timestamp {
        let before = self.over.steps() as i64 - 1;
        self.over.step_of(self.now) - Span::from_micros(before * self.over.step().micros())
    }

    /// One place for each step, with what is known of it.
    fn places<T: Clone>(&self, steps: &[Step<T>]) -> Vec<Option<T>> {
        let mut places = vec![None; self.over.steps()];
        let from = self.from();
        for step in steps {
            let place = step.at.since(from).micros() / self.over.step().micros();
            let place = usize::try_from(place).ok();
            if let Some(known) = place.and_then(|place| places.get_mut(place)) {
                *known = Some(step.of.clone());
            }
        }
        places
    }

    fn at(&self, place: usize) -> Timestamp {
        self.from() + Span::from_micros(place as i64 * self.over.step().micros())
    }

    fn ends(&self) -> [&'static str; 2] {
        match self.over {
            Over::Hour => ["an hour ago", "now"],
            Over::Day => ["a day ago", "now"],
        }
    }

    fn time(&self) -> &'static str {
        match self.over {
            Over::Hour => "the last hour",
            Over::Day => "the last day",
        }
    }

    /// What ended neither as it was meant nor failed.
    fn short_name(&self) -> &'static str {
        match self.of {
            Some(Of::Route(_)) => "refused",
            _ => "by a fallback",
        }
    }

    /// How long a step is, in words.
    fn step(&self) -> &'static str {
        match self.over {
            Over::Hour => "a minute",
            Over::Day => "ten minutes",
        }
    }
}

/// The page.
pub(crate) async fn page(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let look = Look::new(&visit, &query);
    let tabs = [(Over::Hour, "Last hour"), (Over::Day, "Last day")].map(|(over, name)| {
        let here = if over == look.over {
            html!(" aria-current=\"page\"")
        } else {
            Html::default()
        };
        let path = visit.path(&format!("/requests{}", Look::query(over, look.of.as_ref())));
        html!("<a href=\"{}\"{}>{}</a>", path, here, name)
    });
    let again = format!(
        "/parts/requests{}",
        Look::query(look.over, look.of.as_ref())
    );
    let body = html!(
        "<nav class=\"tabs\" aria-label=\"Time\">{}</nav><div data-again=\"{}\">{}</div>",
        tabs.into_iter().collect::<Html>(),
        visit.path(&again),
        shown(&visit, &look)
    );
    visit.page(&Page::new(Section::Requests, "Requests", body))
}

/// What moves of the page.
pub(crate) async fn moving(
    visit: Visit,
    Query(query): Query<Form>,
) -> Result<Body<String>, Problem> {
    let look = Look::new(&visit, &query);
    Ok(Body(shown(&visit, &look).into_string()))
}

fn shown(visit: &Visit, look: &Look) -> Html {
    let traffic = &visit.project.metrics.traffic;
    let project = visit.project.project.name.as_str();
    let models = traffic.answers(project, look.over, look.now);
    let routes = traffic.routes(look.over, look.now);
    let (name, found) = match &look.of {
        None => ("All answers".to_owned(), merged(&models)),
        Some(Of::Model(name)) => (name.clone(), only(&models, name)),
        Some(Of::Route(path)) => (path.clone(), only(&routes, path)),
    };
    let back = look.of.as_ref().map(|_| {
        html!(
            "<p><a href=\"{}\">All answers</a></p>",
            visit.path(&format!("/requests{}", Look::query(look.over, None)))
        )
    });
    html!(
        "{back}{course}{models}{routes}{load}",
        back = back,
        course = course::shown(look, &name, &found),
        models = part_about(
            "By model",
            "What the models of this project were asked, each question of a batch for itself, and how long they took without the network.",
            &by_name(visit, look, &models, Of::Model, &MODEL_COLUMNS)
        ),
        routes = part_about(
            "By route",
            "What programs asked the server over HTTP, all projects together; times are from the head of a request until its answer begins. Pages of the console are not counted.",
            &by_name(visit, look, &routes, Of::Route, &ROUTE_COLUMNS)
        ),
        load = load::shown(visit, look),
    )
}

const MODEL_COLUMNS: [&str; 7] = [
    "Model",
    "#Answers",
    "#By a fallback",
    "#Failed",
    "#p50",
    "#p95",
    "#p99",
];
const ROUTE_COLUMNS: [&str; 7] = [
    "Route",
    "#Requests",
    "#Refused (4xx)",
    "#Failed (5xx)",
    "#p50",
    "#p95",
    "#p99",
];

/// What was asked under all names together, step by step.
fn merged(all: &[Series]) -> Vec<Step<Asked>> {
    let mut steps: BTreeMap<Timestamp, Asked> = BTreeMap::new();
    for step in all.iter().flat_map(|one| &one.steps) {
        steps.entry(step.at).or_default().merge(&step.of);
    }
    steps.into_iter().map(|(at, of)| Step { at, of }).collect()
}

fn only(all: &[Series], name: &str) -> Vec<Step<Asked>> {
    let found = all.iter().find(|one| one.name == name);
    found.map_or_else(Vec::new, |one| one.steps.clone())
}

fn by_name(
    visit: &Visit,
    look: &Look,
    all: &[Series],
    of: impl Fn(String) -> Of,
    columns: &[&str; 7],
) -> Html {
    let name = columns[0].to_lowercase();
    let mut table = Table::new(format!("by {name}"), columns);
    let mut totals: Vec<(&str, Asked)> = all
        .iter()
        .map(|one| (one.name.as_str(), Asked::together(&one.steps)))
        .collect();
    totals.sort_by_key(|(_, asked)| std::cmp::Reverse(asked.count));
    for (name, asked) in totals {
        let query = Look::query(look.over, Some(&of(name.to_owned())));
        let current = look.of.as_ref() == Some(&of(name.to_owned()));
        let shown = html!(
            "<a href=\"{}\"{}>{}</a>",
            visit.path(&format!("/requests{query}")),
            if current {
                html!(" aria-current=\"true\"")
            } else {
                Html::default()
            },
            name
        );
        let failed = match asked.failed {
            0 => text("0"),
            count => state(Tone::Bad, &thousands(count)),
        };
        let ms = |share| text(milliseconds(asked.quantile_ms(share)));
        table.row([
            shown,
            text(thousands(asked.count)),
            text(thousands(asked.short)),
            failed,
            ms(0.5),
            ms(0.95),
            ms(0.99),
        ]);
    }
    table.or(&html!("<p>Nothing was asked in {}.</p>", look.time()))
}
