//! Datasets in words: how they came about, what is in them, what differs.

use serde_json::Value;

use crate::output::{table, thousands};

/// A plan with its metrics on lines of their own, below each operator.
pub fn plan(plan: &str) -> String {
    let mut lines = Vec::new();
    for line in plan.lines().filter(|line| !line.trim().is_empty()) {
        let depth = line.len() - line.trim_start().len();
        let Some((operator, metrics)) = line.split_once(", metrics=[") else {
            lines.push(line.to_owned());
            continue;
        };
        lines.push(operator.to_owned());
        let told = metrics.trim_end_matches(']').split(", ");
        // what was not needed says nothing
        let told =
            told.filter(|metric| !["=0", "=0.0 B"].iter().any(|zero| metric.ends_with(zero)));
        lines.extend(
            told.map(|metric| format!("{:depth$}    {}", "", metric.replacen('=', " ", 1))),
        );
    }
    lines.join("\n")
}

/// The most categories of a feature that are shown.
const CATEGORIES: usize = 3;
/// The features that tell most alone that are shown although none of them is suspicious.
const TELLING: usize = 5;
/// From this population stability index on a feature has moved somewhat, and much.
const MOVED: [(f64, &str); 2] = [(0.25, "much"), (0.1, "somewhat")];

/// Which dataset it is.
pub fn heading(called: &str, kept: &Value) -> String {
    let record = &kept["record"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let from = match kept["run"].as_str() {
        Some(run) => format!("run {run}"),
        None => "a person".to_owned(),
    };
    let events = match record["events"]["version"].as_u64() {
        Some(version) => format!(
            "version {version} of the lake's events, up to event {}",
            thousands(record["last_offset"].as_u64().unwrap_or(0))
        ),
        None => "no events".to_owned(),
    };
    let mut lines = vec![
        format!("{called}, built {} for {from}", time(&kept["created_at"])),
        format!(
            "  from        {events}, as known on {}",
            time(&record["known_until"])
        ),
        format!("  definitions {}", short(&text(&record["definition_hash"]))),
        format!("  seed        {}", record["seed"]),
        format!("  rows        SHA-256 {}", short(&text(&record["digest"]))),
    ];
    if kept["has_rows"] == false {
        lines.push("  the rows were removed to make room; `tidemill dataset build MODEL --again VERSION` builds them again".to_owned());
    }
    lines.join("\n")
}

/// A time without the microseconds that it does not have.
fn time(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    text.replace(".000000Z", "Z")
}

/// The beginning of a hash.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// How many rows are left after each stage, and why the others are not.
pub fn stages(kept: &Value, divided: Option<&Value>) -> String {
    let record = &kept["record"];
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let mut rows = vec![vec![
        "observed".to_owned(),
        thousands(count(&record["observed"])),
        observed_sentence(record),
    ]];
    for (reason, sentence) in [
        ("no_person", "its event is about nobody"),
        (
            "late",
            "its event arrived more than a day after it happened",
        ),
        (
            "before_start",
            "it is before the history that the model learns from",
        ),
        ("censored", "its horizon has not passed"),
        ("sampled", "it is not in the share that is learnt from"),
    ] {
        let dropped = count(&record["dropped"][reason]);
        if dropped > 0 {
            let less = format!("-{}", thousands(dropped));
            rows.push(vec![format!("  {reason}"), less, sentence.to_owned()]);
        }
    }
    let failures = count(&record["expression_failures"]);
    let failed = match failures {
        0 => String::new(),
        failures => format!(
            "{} conditions or expressions failed on a row",
            thousands(failures)
        ),
    };
    rows.push(vec![
        "rows".to_owned(),
        thousands(count(&record["rows"])),
        failed,
    ]);
    if let Some(parts) = divided.filter(|parts| parts.is_object()) {
        let from = time(&parts["examined_from"]);
        for (part, sentence) in [
            ("known", "for fitting and calibrating".to_owned()),
            (
                "gap",
                "their horizon reaches into the examined period".to_owned(),
            ),
            ("examined", format!("from {from} on")),
        ] {
            rows.push(vec![
                format!("  {part}"),
                thousands(count(&parts[part])),
                sentence,
            ]);
        }
    }
    table(&["stage", "rows", ""], &rows)
}

fn observed_sentence(record: &Value) -> String {
    match &record["sample"] {
        Value::Null => String::new(),
        Value::Number(share) => format!(
            "a share of {share} of them is learnt from, each for {} others",
            inverse(share.as_f64())
        ),
        shares => format!(
            "of those with yes {} and of those with no {} are learnt from",
            shares["yes"], shares["no"]
        ),
    }
}

fn inverse(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| number(1.0 / share))
}

/// What the targets are like.
pub fn target(kept: &Value) -> String {
    let target = &kept["record"]["target"];
    let classes: Vec<String> = target["classes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(class, count)| format!("{class} {}", thousands(count.as_u64().unwrap_or(0))))
        .collect();
    if !classes.is_empty() {
        return format!("target: {}", classes.join(", "));
    }
    let mut told = format!("target: mean {}", optional(&target["mean"]));
    if !target["weighted_mean"].is_null() {
        told = format!(
            "{told}, of what the rows stand for {}",
            optional(&target["weighted_mean"])
        );
    }
    format!(
        "{told}, standard deviation {}, from {} to {}",
        optional(&target["std"]),
        optional(&target["min"]),
        optional(&target["max"])
    )
}

/// Features that know too much, and those that come closest to it.
pub fn leaks(kept: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let suspicious = list(&kept["record"]["suspicious"]);
    let mut lines = Vec::new();
    if suspicious.is_empty() {
        lines.push("leaks: no feature alone nearly decides the target".to_owned());
    } else {
        lines.push("leaks: these features alone nearly decide the target; they may know what they should not".to_owned());
    }
    for feature in &suspicious {
        lines.push(format!(
            "  SUSPICIOUS {}: {}",
            feature["name"].as_str().unwrap_or("-"),
            alone(feature)
        ));
    }
    let mut columns = list(&kept["record"]["columns"]);
    columns.retain(|column| {
        let is_suspicious = |feature: &Value| feature["name"] == column["name"];
        column["alone"].is_object() && !suspicious.iter().any(is_suspicious)
    });
    let value = |column: &Value| column["alone"]["value"].as_f64().unwrap_or(0.0);
    columns.sort_by(|a, b| value(b).total_cmp(&value(a)));
    for column in columns.iter().take(TELLING) {
        lines.push(format!(
            "  {}: {}",
            column["name"].as_str().unwrap_or("-"),
            alone(&column["alone"])
        ));
    }
    lines.join("\n")
}

/// How well a feature alone tells the target.
fn alone(alone: &Value) -> String {
    let measure = match alone["measure"].as_str() {
        Some("auc") => "AUC",
        Some(other) => other,
        None => return String::new(),
    };
    let value = alone["value"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    match alone["class"].as_str() {
        Some(class) => format!("{measure} {value} ({class})"),
        None => format!("{measure} {value}"),
    }
}

/// What each feature is like.
pub fn columns(kept: &Value) -> String {
    let rows_all = kept["record"]["rows"].as_u64().unwrap_or(0);
    let rows: Vec<Vec<String>> = kept["record"]["columns"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| {
            let mut row = vec![column["name"].as_str().unwrap_or("").to_owned()];
            row.push(share(&column["missing"], rows_all));
            row.push(share(&column["zeros"], rows_all));
            row.extend(quantiles(column).into_iter().take(3));
            row.push(distribution(column, rows_all));
            row.push(alone(&column["alone"]));
            row
        })
        .collect();
    if rows.is_empty() {
        return "no features".to_owned();
    }
    table(
        &[
            "feature",
            "missing",
            "zero",
            "p1",
            "p50",
            "p99",
            "distribution",
            "alone",
        ],
        &rows,
    )
}

/// The 1st, 50th and 99th of 100 numbers.
pub fn quantiles(column: &Value) -> [String; 3] {
    ["p01", "p50", "p99"].map(|quantile| optional(&column["quantiles"][quantile]))
}

/// A histogram of numbers, or the most frequent categories.
pub fn distribution(column: &Value, rows: u64) -> String {
    let counts: Vec<u64> = column["histogram"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    if !counts.is_empty() {
        return bars(&counts);
    }
    let Some(distinct) = column["distinct"].as_u64() else {
        return String::new();
    };
    let top: Vec<String> = column["top"]
        .as_array()
        .into_iter()
        .flatten()
        .take(CATEGORIES)
        .map(|entry| {
            format!(
                "{} {}",
                entry[0]
                    .as_str()
                    .unwrap_or("")
                    .chars()
                    .take(20)
                    .collect::<String>(),
                share(&entry[1], rows)
            )
        })
        .collect();
    let others = distinct.saturating_sub(top.len() as u64);
    if others > 0 {
        return format!("{} and {} more", top.join(", "), thousands(others));
    }
    top.join(", ")
}

/// Counts as bars of eighths of a line; what is there at all has one.
fn bars(counts: &[u64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    counts
        .iter()
        .map(|count| BARS[(count * 8).div_ceil(most).min(8) as usize])
        .collect()
}

/// All datasets in a table.
pub fn list(list: &Value) -> String {
    let rows: Vec<Vec<String>> = list["datasets"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|kept| {
            let text = |field: &str| kept[field].as_str().unwrap_or("-").to_owned();
            let count = |field: &str| thousands(kept[field].as_u64().unwrap_or(0));
            let rows = if kept["has_rows"] == false {
                format!("{} (removed)", count("rows"))
            } else {
                count("rows")
            };
            vec![
                text("dataset"),
                rows,
                optional(&kept["target_mean"]),
                count("features"),
                time(&kept["known_until"]),
                text("run"),
            ]
        })
        .collect();
    table(
        &[
            "dataset",
            "rows",
            "target",
            "features",
            "known until",
            "run",
        ],
        &rows,
    )
}

/// What differs between two datasets.
pub fn diff(a: &str, b: &str, diff: &Value) -> String {
    let pair = |field: &str, show: fn(&Value) -> String| {
        vec![
            field.replace('_', " "),
            show(&diff[field]["a"]),
            show(&diff[field]["b"]),
        ]
    };
    let count = |value: &Value| thousands(value.as_u64().unwrap_or(0));
    let hash = |value: &Value| short(value.as_str().unwrap_or("-")).to_owned();
    let mut told = vec![table(
        &["", a, b],
        &[
            pair("rows", count),
            pair("known_until", time),
            pair("definition_hash", hash),
            pair("target_mean", optional),
        ],
    )];
    for (field, sentence) in [("added", "only in"), ("removed", "only in")] {
        let names: Vec<&str> = diff[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !names.is_empty() {
            let of = if field == "added" { b } else { a };
            told.push(format!("{sentence} {of}: {}", names.join(", ")));
        }
    }
    let mut rows = vec![drift_row(&diff["target"])];
    rows.extend(
        diff["features"]
            .as_array()
            .into_iter()
            .flatten()
            .map(drift_row),
    );
    told.push(table(
        &[
            "feature", "PSI", "KS", "moved", "missing", "then", "mean", "then",
        ],
        &rows,
    ));
    told.join("\n\n")
}

fn drift_row(drift: &Value) -> Vec<String> {
    let psi = drift["psi"].as_f64().unwrap_or(0.0);
    let moved = MOVED.iter().find(|(from, _)| psi >= *from);
    let percent = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), percent);
    vec![
        drift["name"].as_str().unwrap_or("").to_owned(),
        format!("{psi:.3}"),
        drift["ks"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |ks| format!("{ks:.3}")),
        moved.map_or("", |(_, word)| word).to_owned(),
        percent(&drift["missing"]["a"]),
        percent(&drift["missing"]["b"]),
        optional(&drift["mean"]["a"]),
        optional(&drift["mean"]["b"]),
    ]
}

/// A count as a share of all.
pub fn share(count: &Value, all: u64) -> String {
    match count.as_u64() {
        Some(count) => percent(count as f64 / all.max(1) as f64),
        None => "-".to_owned(),
    }
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.01 {
        return "<1 %".to_owned();
    }
    format!("{:.0} %", (share * 100.0).floor())
}

/// A number that may be absent.
pub fn optional(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), number)
}

/// A number with about four digits.
pub fn number(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || ((1.0..1e7).contains(&size) && number.fract() == 0.0) {
        return format!("{number:.0}");
    }
    if !(1e-3..1e7).contains(&size) {
        return format!("{number:.2e}");
    }
    if size >= 1_000.0 {
        return format!("{number:.0}");
    }
    let text = if size >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.3}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (3.0, "3"),
            (-12.5, "-12.5"),
            (0.123_456, "0.123"),
            (0.5, "0.5"),
            (1_234.567, "1235"),
            (86_400.0, "86400"),
            (0.000_012, "1.20e-5"),
            (1e9, "1.00e9"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_histogram_shows_what_is_there_at_all() {
        assert_eq!(bars(&[0, 1, 50, 100]), " ▁▄█");
        let column = json!({ "distinct": 5, "top": [["DE", 60], ["FR", 20], ["IT", 10], ["ES", 5]], "histogram": [] });
        assert_eq!(
            distribution(&column, 100),
            "DE 60 %, FR 20 %, IT 10 % and 2 more"
        );
    }

    #[test]
    fn stages_add_up_in_words() {
        let kept = json!({ "record": {
            "observed": 1200, "rows": 1000, "dropped": { "censored": 150, "no_person": 50 }, "expression_failures": 0, "sample": null
        }});
        let parts = json!({ "known": 700, "gap": 100, "examined": 200, "examined_from": "2011-11-01T00:00:00Z" });
        assert_eq!(
            stages(&kept, Some(&parts)),
            "stage        rows\n\
             observed     1,200\n  \
               no_person  -50    its event is about nobody\n  \
               censored   -150   its horizon has not passed\n\
             rows         1,000\n  \
               known      700    for fitting and calibrating\n  \
               gap        100    their horizon reaches into the examined period\n  \
               examined   200    from 2011-11-01T00:00:00Z on"
        );
    }
}
