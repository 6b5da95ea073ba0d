//! The report as one HTML file: charts are drawn in it, nothing is fetched, and a table stands below each chart.

use std::collections::BTreeSet;
use std::fmt::Write;

use tidemill_store::catalog::RunState;

use super::chart::{Chart, Line, escaped, interval, number, plain};
use super::record::{OfModel, OfRun, Record};
use crate::output::thousands;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2730; --soft: #5d6b78; --paper: #fff; --line: #d8dee4; --l0: #0b66c3; --l1: #b4530a; --l2: #2c7a3f; --l3: #8b3fa8; --l4: #6b7280; --l5: #a11d3b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9fadba; --paper: #12181e; --line: #303a44; --l0: #6cb2ff; --l1: #f0a35e; --l2: #7ccf90; --l3: #d29af0; --l4: #aab4bf; --l5: #ff8aa5; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
p.note, caption, li.note { color: var(--soft); } caption { text-align: left; padding-bottom: .3rem; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } td.n { white-space: nowrap; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; } svg .grid { stroke: var(--line); } svg path { fill: none; stroke-width: 2; }
.l0,.i0{stroke:var(--l0)}.l1,.i1{stroke:var(--l1)}.l2,.i2{stroke:var(--l2)}.l3,.i3{stroke:var(--l3)}.l4,.i4{stroke:var(--l4)}.l5,.i5{stroke:var(--l5)}
.p0{fill:var(--l0)}.p1{fill:var(--l1)}.p2{fill:var(--l2)}.p3{fill:var(--l3)}.p4{fill:var(--l4)}.p5{fill:var(--l5)} .i0,.i1,.i2,.i3,.i4,.i5{stroke-opacity:.45;stroke-width:3}
.key::before { content: ''; display: inline-block; width: 1em; height: .2em; vertical-align: middle; margin-right: .4em; background: currentColor; } .key { margin-right: 1em; font-size: .85rem; }
.c0{color:var(--l0)}.c1{color:var(--l1)}.c2{color:var(--l2)}.c3{color:var(--l3)}.c4{color:var(--l4)}.c5{color:var(--l5)}
";

/// The report as a page.
pub fn html(record: &Record) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Backtest of {0}</title><style>{STYLE}</style></head><body>\n<h1>Backtest of {0}</h1>\n\
         <p>What the loop would have done with the history of <b>{0}</b> from {1} to {2}: {3} events replayed day by day, after {4} that were \
         known before; {5} questions asked.</p>\n",
        escaped(&record.project),
        record.from.date(),
        record.until.date(),
        thousands(record.events),
        thousands(record.history_events),
        thousands(record.questions),
    );
    let _ = write!(page, "<h3>What this rests on</h3><ul>");
    for assumption in &record.assumptions {
        let _ = write!(page, "<li>{}</li>", escaped(assumption));
    }
    page.push_str("</ul>\n");
    page.push_str(&overview(record));
    for model in &record.models {
        page.push_str(&of_model(model));
    }
    let _ = writeln!(
        page,
        "<p class=\"note\">{} values of features were read again from the lake, as a training would see them: {} differ from what was served. \
         The replay took {:.0} s. Intervals are 95 %.</p></body></html>",
        thousands(record.values_compared),
        thousands(record.values_that_differ),
        record.seconds
    );
    page
}

fn table(caption: &str, headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = format!(
        "<div class=\"wide\"><table><caption>{}</caption><thead><tr>",
        escaped(caption)
    );
    for heading in headings {
        let _ = write!(table, "<th scope=\"col\">{}</th>", escaped(heading));
    }
    table.push_str("</tr></thead><tbody>");
    for row in rows {
        table.push_str("<tr>");
        for cell in row {
            let is_short = cell.len() < 24;
            let class = if is_short { " class=\"n\"" } else { "" };
            let _ = write!(table, "<td{class}>{}</td>", escaped(cell));
        }
        table.push_str("</tr>");
    }
    table.push_str("</tbody></table></div>\n");
    table
}

fn overview(record: &Record) -> String {
    let row = |model: &OfModel| {
        vec![
            model.model.to_string(),
            model.count(RunState::Passed).to_string(),
            model.count(RunState::Refused).to_string(),
            (model.count(RunState::Skipped) + model.count(RunState::Failed)).to_string(),
            model
                .months
                .iter()
                .map(|month| month.answers)
                .sum::<usize>()
                .to_string(),
            model.worth.as_ref().map_or("-".to_owned(), |worth| {
                format!("{:.0} {}", worth.value, record.currency)
            }),
        ]
    };
    let rows: Vec<Vec<String>> = record.models.iter().map(row).collect();
    let headings = [
        "model",
        "promoted",
        "refused",
        "skipped or failed",
        "answers with known outcome",
        "estimated worth",
    ];
    table("At a glance", &headings, &rows)
}

fn of_model(model: &OfModel) -> String {
    let question = model.question.as_deref().unwrap_or("");
    let better = if model.larger_is_better {
        "larger is better"
    } else {
        "smaller is better"
    };
    let mut page = format!(
        "<h2>{}</h2>\n<p>{}</p>\n",
        escaped(model.model.as_str()),
        escaped(question)
    );
    let _ = writeln!(
        page,
        "<h3>Quality over time ({}, {better})</h3>",
        escaped(&model.metric)
    );
    page.push_str(&quality(model));
    page.push_str("<h3>What was trained, and what became of it</h3>\n");
    let rows: Vec<Vec<String>> = model.runs.iter().map(run_row).collect();
    let headings = [
        "when", "version", "became", "examined", "interval", "champion", "why",
    ];
    page.push_str(&table(
        "On rows that neither version was fitted on",
        &headings,
        &rows,
    ));
    page.push_str("<h3>How versions lose with age</h3>\n");
    page.push_str(&staleness(model));
    if let Some(worth) = &model.worth {
        let _ = write!(
            page,
            "<h3>What it would have been worth</h3>\n<p>{}.</p>\n",
            escaped(&worth.sentence)
        );
        let rows = [vec![
            thousands(worth.answers as u64),
            thousands(worth.acted_on as u64),
            number(worth.found),
            number(worth.without),
            number(worth.value),
            format!(
                "{} to {}",
                number(worth.interval.0),
                number(worth.interval.1)
            ),
        ]];
        let headings = [
            "answers",
            "acted on",
            "found in each",
            "without the model",
            "worth",
            "interval",
        ];
        page.push_str(&table("Under the assumptions above", &headings, &rows));
    }
    page
}

fn quality(model: &OfModel) -> String {
    let labels: Vec<String> = model
        .months
        .iter()
        .map(|month| month.month.clone())
        .collect();
    let mut lines = vec![Line {
        name: model.model.to_string(),
        values: model.months.iter().map(|month| month.value).collect(),
        intervals: model.months.iter().map(|month| month.interval).collect(),
    }];
    let names: BTreeSet<&String> = model
        .months
        .iter()
        .flat_map(|month| month.baselines.keys())
        .collect();
    for name in &names {
        lines.push(Line {
            name: (*name).replace('_', " "),
            values: model
                .months
                .iter()
                .map(|month| month.baselines.get(*name).copied())
                .collect(),
            intervals: Vec::new(),
        });
    }
    let chart = Chart {
        title: format!(
            "{} of the answers of {} by month",
            model.metric, model.model
        ),
        labels,
        lines,
        with_zero: false,
    };
    let rows: Vec<Vec<String>> = model
        .months
        .iter()
        .map(|month| {
            let mut row = vec![
                month.month.clone(),
                thousands(month.answers as u64),
                thousands(month.fallbacks as u64),
                month.versions_told(),
                plain(month.value),
                interval(month.interval),
            ];
            row.extend(
                names
                    .iter()
                    .map(|name| plain(month.baselines.get(*name).copied())),
            );
            row
        })
        .collect();
    let mut headings = vec![
        "month",
        "answers",
        "by the fallback",
        "versions",
        model.metric.as_str(),
        "interval",
    ];
    headings.extend(names.iter().map(|name| name.as_str()));
    if rows.is_empty() {
        return "<p class=\"note\">No month has answers whose outcomes are all known.</p>\n"
            .to_owned();
    }
    format!(
        "{}<p>{}</p>{}",
        chart.svg(),
        chart.legend(),
        table(
            "Answers of each month, once all their outcomes were known",
            &headings,
            &rows
        )
    )
}

fn staleness(model: &OfModel) -> String {
    let Some(measured) = &model.staleness else {
        let why = model
            .staleness_unknown
            .as_deref()
            .unwrap_or("it was not measured");
        return format!("<p class=\"note\">{}</p>\n", escaped(why));
    };
    let age = |from: u32, until: Option<u32>| match until {
        Some(until) => format!("{from}–{until} d"),
        None => format!("{from} d +"),
    };
    let bands = &measured.bands;
    let compared = bands.iter().any(|band| band.loss.is_some());
    let chart = Chart {
        title: format!("{} by the age of a version", measured.metric),
        labels: bands
            .iter()
            .map(|band| age(band.from_days, band.until_days))
            .collect(),
        lines: vec![match compared {
            true => Line {
                name: format!(
                    "{} lost, beside the youngest version on the same rows",
                    measured.metric
                ),
                values: bands.iter().map(|band| band.loss).collect(),
                intervals: bands.iter().map(|band| band.loss_interval).collect(),
            },
            false => Line {
                name: measured.metric.clone(),
                values: bands.iter().map(|band| band.value).collect(),
                intervals: bands.iter().map(|band| band.interval).collect(),
            },
        }],
        with_zero: compared,
    };
    let rows: Vec<Vec<String>> = bands
        .iter()
        .map(|band| {
            vec![
                age(band.from_days, band.until_days),
                thousands(band.rows as u64),
                band.versions.to_string(),
                plain(band.value),
                interval(band.interval),
                plain(band.loss),
                interval(band.loss_interval),
            ]
        })
        .collect();
    let headings = [
        "age",
        "rows",
        "versions",
        measured.metric.as_str(),
        "interval",
        "lost",
        "interval",
    ];
    format!(
        "<p>{}.</p>{}<p>{}</p>{}",
        escaped(&measured.sentence),
        chart.svg(),
        chart.legend(),
        table(
            "Each version on what was observed after it was made",
            &headings,
            &rows
        )
    )
}

fn run_row(run: &OfRun) -> Vec<String> {
    let became = match run.state {
        RunState::Passed => "promoted",
        RunState::Refused => "refused",
        RunState::Skipped => "skipped",
        RunState::Failed => "failed",
        RunState::Running => "under way",
    };
    vec![
        run.at.date(),
        run.version
            .map_or("-".to_owned(), |number| format!("@{number}")),
        became.to_owned(),
        plain(run.value),
        interval(run.interval),
        plain(run.champion),
        match run.reasons.is_empty() {
            true => run.summary.clone(),
            false => run.reasons.join("; "),
        },
    ]
}
