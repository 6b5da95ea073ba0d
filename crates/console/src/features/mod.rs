//! Features: what they mean, what their values are like, what they cost and what they are good for.

pub(crate) mod feature;

use axum::response::Response;
use tidemill_core::notation::percent_encoded;
use tidemill_cycle::feature_report::{FeatureReport, ReportedFeature};

use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{
    NOTHING, Table, figure, figures, link, maybe, number, percent, section, text, time,
};
use crate::problem::Problem;
use crate::visit::Visit;

/// The page.
pub(crate) async fn page(visit: Visit) -> Result<Response, Problem> {
    let (console, project) = (visit.console.clone(), visit.project.clone());
    let report = console
        .heavy(async { Ok(project.feature_report(None).await?) })
        .await?;
    let body = html!(
        "{}{}{}",
        figures(&html!(
            "{}{}",
            figure(
                "features",
                &text(number(report.features.len() as f64)),
                &html!(
                    "definition <code>{}</code>",
                    report.definition_hash.chars().take(12).collect::<String>()
                )
            ),
            figure(
                "kept of a person",
                &html!("{} bytes", maybe(report.person_bytes)),
                &html!("over {} people", report.persons)
            ),
        )),
        section(
            "All features",
            "The same code computes them for training and for serving.",
            &table(&visit, &report)
        ),
        section("Nothing uses these", "They could go.", &unused(&report)),
    );
    visit.page(&Page::new(Section::Features, "Features", body))
}

fn table(visit: &Visit, report: &FeatureReport) -> Html {
    let mut table = Table::new(
        "features",
        &[
            "Feature",
            "Meaning",
            "Values",
            "#Missing",
            "#Read, µs",
            "#State, bytes",
            "Newest event",
            "Used by (gain)",
        ],
    );
    for feature in &report.features {
        let values = feature.values.as_ref();
        let missing = values
            .map(|values| percent(values.statistics.missing as f64 / values.rows.max(1) as f64));
        table.row([
            link(
                &visit.path(&format!(
                    "/features/{}",
                    percent_encoded(&feature.column.name)
                )),
                &feature.column.name,
            ),
            text(&feature.column.label),
            spread(feature),
            text(missing.as_deref().unwrap_or(NOTHING)),
            text(maybe(feature.read_us)),
            text(maybe(feature.state_bytes)),
            feature.newest_event.map_or_else(|| text(NOTHING), time),
            used(feature),
        ]);
    }
    table.or(&html!("<p><strong>No features yet</strong></p><p>They are suggested from the events that arrive, or named under <code>[features]</code> in the project file.</p>"))
}

fn spread(feature: &ReportedFeature) -> Html {
    let Some(values) = &feature.values else {
        return text(NOTHING);
    };
    let found = &values.statistics;
    match (found.min, found.mean, found.max) {
        (Some(min), Some(mean), Some(max)) => {
            html!("{} to {}, mean {}", number(min), number(max), number(mean))
        }
        _ => found
            .top
            .iter()
            .take(3)
            .map(|(value, rows)| {
                html!(
                    "{} <span class=\"quiet\">{}</span> ",
                    value,
                    percent(*rows as f64 / values.rows.max(1) as f64)
                )
            })
            .collect(),
    }
}

fn used(feature: &ReportedFeature) -> Html {
    if feature.models.is_empty() {
        return text("nobody");
    }
    feature
        .models
        .iter()
        .map(|of| {
            html!(
                "{} <span class=\"quiet\">{}</span> ",
                of.model.as_str(),
                maybe(of.gain)
            )
        })
        .collect()
}

fn unused(report: &FeatureReport) -> Html {
    let mut table = Table::new("unused", &["Feature", "Why"]);
    for feature in &report.unused {
        table.row([html!("<code>{}</code>", feature.name), text(feature.why)]);
    }
    if report.unused.is_empty() {
        Html::default()
    } else {
        table.show()
    }
}
