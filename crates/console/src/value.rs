//! What models earn: those who get the answers beside those who never do.

use axum::extract::Path;
use axum::response::{Html as Body, Response};
use tidemill_cycle::{CycleError, ValueReport};

use crate::chart::{self, Estimate};
use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{NOTHING, Table, interval, maybe, part, percent, text};
use crate::problem::Problem;
use crate::visit::Visit;

/// The page: each model's report is loaded into it.
pub(crate) async fn page(visit: Visit) -> Result<Response, Problem> {
    let project = &visit.project.project;
    let parts = project.model_names().map(|name| {
        part(
            name.as_str(),
            &html!(
                "<div data-load=\"{}\"><p class=\"quiet\">Reading what it earned …</p></div>",
                visit.path(&format!("/parts/value/{name}?whole=yes"))
            ),
        )
    });
    let body = html!(
        "<p class=\"about\">A model with a holdout keeps its answers from a few people, for good. What they bring is what would have come without it. The intervals hold however often one looks.</p>{}",
        parts.collect::<Html>()
    );
    visit.page(&Page::new(Section::Value, "Value", body))
}

/// A model's report: the sentence, and the months where the whole is asked for.
pub(crate) async fn report(
    visit: Visit,
    Path((_, model)): Path<(String, String)>,
    axum::extract::Query(query): axum::extract::Query<crate::visit::Form>,
) -> Result<Body<String>, Problem> {
    let name = visit.model(&model)?;
    let console = visit.console.clone();
    let work = async {
        match visit.project.value_report(&name).await {
            Ok(report) => Ok(Ok(report)),
            // without a holdout or an amount there is nothing to say, and what to do about it
            Err(CycleError::NotAllowed(why)) => Ok(Err(why)),
            Err(error) => Err(error.into()),
        }
    };
    let shown = match console.heavy(work).await? {
        Ok(report) if query.contains_key("whole") => html!(
            "<p class=\"lead\">{}.</p>{}",
            capital(&report.sentence),
            months(&report)
        ),
        Ok(report) => html!("<p>{}.</p>", capital(&report.sentence)),
        Err(why) => html!("<p class=\"quiet\">No value is measured: {}.</p>", why),
    };
    Ok(Body(shown.into_string()))
}

fn capital(sentence: &str) -> String {
    let mut characters = sentence.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

fn months(report: &ValueReport) -> Html {
    let estimates: Vec<Estimate> = report
        .months
        .iter()
        .rev()
        .map(|month| Estimate {
            name: month.month.clone(),
            value: month.value,
            interval: month.value_interval,
            hollow: month.withheld.is_some(),
        })
        .collect();
    let currency = report.currency.as_deref().unwrap_or("value");
    let chart = if estimates.iter().any(|one| one.value.is_some()) {
        chart::estimates(&format!("Earned, {currency}"), "month", &estimates, true)
    } else {
        Html::default()
    };
    let mut table = Table::new(
        format!("value of {}", report.model),
        &[
            "Month",
            "#People with",
            "#Without",
            "#Mean with",
            "#Mean without",
            "#Earned",
            "95 % interval",
            "#Ratio by chance",
            "Said",
        ],
    );
    for month in &report.months {
        table.row([
            text(&month.month),
            html!("{}", month.with),
            html!("{}", month.without),
            text(maybe(Some(month.mean_with))),
            text(maybe(Some(month.mean_without))),
            text(maybe(month.value)),
            interval(month.value_interval),
            text(maybe(Some(month.sample_ratio))),
            text(month.withheld.as_deref().unwrap_or(NOTHING)),
        ]);
    }
    html!(
        "<p class=\"about\">Holdout {}; what people bring within {} of the first answer of a month.</p>{}{}",
        percent(report.holdout),
        report.within.to_string(),
        chart,
        table.or(&html!("<p>No month's horizon has passed yet.</p>"))
    )
}
