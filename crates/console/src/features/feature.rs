//! One feature: what it was like day by day as it was served, beside training, and who uses it.

use axum::extract::Path;
use axum::response::Response;
use tidemill_cycle::feature_report::ReportedFeature;
use tidemill_cycle::{DayOfFeature, SkewReport};
use tidemill_monitor::answers::SkewedFeature;

use crate::chart::{self, Estimate};
use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{
    NOTHING, Table, Tone, figure, figures, link, maybe, number, part_about, percent, state, text,
    time,
};
use crate::problem::Problem;
use crate::visit::Visit;

/// How many texts of a feature are shown day by day.
const TEXTS_SHOWN: usize = 5;

/// A version with what it is served beside what it was trained on.
struct Beside {
    version: String,
    answers: u64,
    rows: u64,
    feature: SkewedFeature,
}

/// The page.
pub(crate) async fn page(
    visit: Visit,
    Path((_, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (console, project, wanted) = (visit.console.clone(), visit.project.clone(), name.clone());
    let found = console
        .heavy(async move {
            let report = project.feature_report(None).await?;
            let feature = report.features.into_iter();
            let Some(feature) = feature
                .into_iter()
                .find(|feature| feature.column.name == wanted)
            else {
                return Ok(None);
            };
            let models = feature.models.iter().map(|of| of.model.clone());
            let days = project.feature_served(&wanted, models.collect()).await?;
            let mut beside = Vec::new();
            for of in &feature.models {
                if let Some(number) = of.version {
                    let skew = project.skew_report(&of.model, number).await?;
                    beside.extend(skew.and_then(|skew| of_feature(skew, &wanted)));
                }
            }
            Ok(Some((feature, days, beside)))
        })
        .await?;
    let Some((feature, days, beside)) = found else {
        return Err(Problem::not_found("There is no feature of this name."));
    };
    let body = html!(
        "{}{}{}{}{}",
        about(&feature),
        part_about(
            "Day by day",
            "As it was served to the models that read it, over 60 days at most (UTC).",
            &by_day(&days)
        ),
        part_about(
            "Training and serving",
            "What champions were served in the last 14 days beside the rows that they were trained on.",
            &training(&feature, &beside)
        ),
        part_about("Values in training", "", &trained_values(&feature)),
        part_about("Used by", "", &used(&visit, &feature)),
    );
    visit.page(&Page {
        section: Section::Features,
        title: &feature.column.name,
        trail: &[("Features", visit.path("/features"))],
        actions: Html::default(),
        body,
    })
}

fn of_feature(skew: SkewReport, name: &str) -> Option<Beside> {
    let (answers, rows) = (skew.skew.answers, skew.skew.rows);
    let mut features = skew.skew.features.into_iter();
    let feature = features.find(|feature| feature.name == name)?;
    Some(Beside {
        version: skew.version,
        answers,
        rows,
        feature,
    })
}

fn about(feature: &ReportedFeature) -> Html {
    figures(&html!(
        "{}{}{}",
        figure("meaning", &text(&feature.column.label), &Html::default()),
        figure(
            "newest event",
            &feature.newest_event.map_or_else(|| text(NOTHING), time),
            &text("of those that it reads")
        ),
        figure(
            "to read it",
            &html!("{} µs", maybe(feature.read_us)),
            &html!("state {} bytes", maybe(feature.state_bytes))
        ),
    ))
}

/// Where the middle half of its numbers lies, or the share of its most frequent text, and what is missing.
fn by_day(days: &[DayOfFeature]) -> Html {
    if days.is_empty() {
        return html!(
            "<div class=\"empty\"><p><strong>Not served lately</strong></p><p>No model that reads it was asked in the last 60 days.</p></div>"
        );
    }
    let are_numbers = days.iter().any(|day| day.values.numbers.is_some());
    let chart = match are_numbers {
        true => chart::estimates("Median and middle half", "day", &medians(days), false),
        false => chart::bars(
            "Share of the most frequent text",
            "day",
            &shares_of_first(days),
        ),
    };
    let missing: Vec<(String, f64)> = days
        .iter()
        .rev()
        .map(|day| (day.day.clone(), day.values.missing))
        .collect();
    html!(
        "<div class=\"charts\">{}{}</div><details class=\"numbers\"><summary>The numbers</summary>{}</details>",
        chart,
        chart::bars("Share missing", "day", &missing),
        if are_numbers {
            numbers(days)
        } else {
            texts(days)
        }
    )
}

fn medians(days: &[DayOfFeature]) -> Vec<Estimate> {
    let of = |day: &DayOfFeature| Estimate {
        name: day.day.clone(),
        value: day.values.numbers.map(|numbers| numbers[2]),
        interval: day.values.numbers.map(|numbers| (numbers[1], numbers[3])),
        hollow: false,
    };
    days.iter().rev().map(of).collect()
}

fn shares_of_first(days: &[DayOfFeature]) -> Vec<(String, f64)> {
    let newest = days.iter().find_map(|day| day.values.values.first());
    let first = newest.map_or("", |(value, _)| value.as_str());
    let share = |day: &DayOfFeature| {
        let found = day.values.values.iter().find(|(value, _)| value == first);
        (day.day.clone(), found.map_or(0.0, |(_, share)| *share))
    };
    days.iter().rev().map(share).collect()
}

fn numbers(days: &[DayOfFeature]) -> Html {
    let columns = [
        "Day",
        "#Answers",
        "#Missing",
        "#Least",
        "#Quarter",
        "#Median",
        "#Three quarters",
        "#Most",
    ];
    let mut table = Table::new("feature by day", &columns);
    for day in days {
        let mut cells = vec![
            text(&day.day),
            text(number(day.answers as f64)),
            text(percent(day.values.missing)),
        ];
        match day.values.numbers {
            Some(numbers) => cells.extend(numbers.map(|of| text(number(of)))),
            None => cells.extend([NOTHING; 5].map(text)),
        }
        table.add(cells);
    }
    table.show()
}

fn texts(days: &[DayOfFeature]) -> Html {
    let mut table = Table::new("feature by day", &["Day", "#Answers", "#Missing", "Texts"]);
    for day in days {
        let texts = day.values.values.iter().take(TEXTS_SHOWN);
        let texts = texts.map(|(value, share)| {
            html!(
                "{} <span class=\"quiet\">{}</span> ",
                value,
                percent(*share)
            )
        });
        table.row([
            text(&day.day),
            text(number(day.answers as f64)),
            text(percent(day.values.missing)),
            texts.collect(),
        ]);
    }
    table.show()
}

fn training(feature: &ReportedFeature, beside: &[Beside]) -> Html {
    let columns = [
        "Version",
        "State",
        "#Lies elsewhere",
        "#By chance up to",
        "#Usual of a fortnight",
        "#Missing in training",
        "#Missing served",
        "#Rows",
        "#Answers",
    ];
    let mut table = Table::new("training and serving", &columns);
    for of in beside {
        let found = &of.feature;
        let is = match found.is_skewed() {
            true => state(Tone::Bad, "skewed"),
            false if found.too_few => state(Tone::Quiet, "too few values to compare"),
            false if found.usual.is_none() => state(Tone::Quiet, "too short a history to tell"),
            false => state(Tone::Good, "as in training"),
        };
        table.row([
            text(&of.version),
            is,
            text(percent(found.distance)),
            text(percent(found.noise)),
            text(found.usual.map_or_else(|| "–".to_owned(), percent)),
            text(percent(found.missing_trained)),
            text(percent(found.missing_served)),
            text(number(of.rows as f64)),
            text(number(of.answers as f64)),
        ]);
    }
    let why = match feature.models.is_empty() {
        true => "No model reads it.",
        false => {
            "No champion that reads it was asked in the last 14 days, or it is not known on which rows it was trained."
        }
    };
    table.or(&html!(
        "<p><strong>Nothing to compare</strong></p><p>{}</p>",
        why
    ))
}

fn trained_values(feature: &ReportedFeature) -> Html {
    let Some(values) = &feature.values else {
        return html!("<div class=\"empty\"><p>No dataset has it yet.</p></div>");
    };
    let found = &values.statistics;
    let source = html!(
        "<p class=\"about\">{} rows of dataset {}</p>",
        values.rows,
        values.dataset
    );
    let mut table = Table::new("values in training", &["From", "#Rows"]);
    let bars: Vec<(String, f64)> = match &found.quantiles {
        Some(quantiles) => {
            let width = (quantiles.p99 - quantiles.p01) / found.histogram.len().max(1) as f64;
            let bars = found.histogram.iter().enumerate();
            let from = |place: usize| number(quantiles.p01 + width * place as f64);
            bars.map(|(place, rows)| (from(place), *rows as f64))
                .collect()
        }
        None => {
            let top = found.top.iter();
            top.map(|(value, rows)| (value.clone(), *rows as f64))
                .collect()
        }
    };
    if bars.is_empty() {
        let same = found.quantiles.map_or_else(
            || "It has no value in any row.".to_owned(),
            |quantiles| format!("Nearly all rows have {}.", number(quantiles.p50)),
        );
        return html!("{}<p>{}</p>", source, same);
    }
    for (from, rows) in &bars {
        table.row([text(from), text(number(*rows))]);
    }
    html!(
        "{}{}<details class=\"numbers\"><summary>The numbers</summary>{}</details>",
        source,
        chart::bars("Rows", "value", &bars),
        table.show()
    )
}

fn used(visit: &Visit, feature: &ReportedFeature) -> Html {
    let mut table = Table::new("used by", &["Model", "Champion", "#Gain"]);
    for of in &feature.models {
        let model = of.model.as_str();
        table.row([
            link(&visit.path(&format!("/models/{model}")), model),
            text(of.version.map_or_else(
                || NOTHING.to_owned(),
                |version| format!("{model}@{version}"),
            )),
            text(maybe(of.gain)),
        ]);
    }
    table.or(&html!("<p>No model reads it.</p>"))
}
