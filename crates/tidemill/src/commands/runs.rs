//! `runs`: list, show, diff.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::RunsCommand;
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Parts of a run that differ in every run and say nothing: how long it took, and ids.
const NOISE: [&str; 4] = [
    "seconds",
    "dataset.digest",
    "dataset.project_file",
    "snapshot",
];
/// Lists whose entries have names: they are compared by name and not by place.
const NAMES: [&str; 4] = ["name", "feature", "metric", "check"];

/// Carries out a subcommand.
pub async fn run(client: &Client, command: &RunsCommand, output: Output) -> Result<()> {
    match command {
        RunsCommand::List { model, limit, .. } => list(client, model, *limit, output).await,
        RunsCommand::Show { model, run, .. } => {
            let id = match run {
                Some(id) => id.clone(),
                None => newest(client, model, 1).await?.remove(0),
            };
            let run = one(client, model, &id).await?;
            output.result(&run, shown);
            Ok(())
        }
        RunsCommand::Diff { model, a, b, .. } => {
            let [a, b] = match (a, b) {
                (Some(a), Some(b)) => [a.clone(), b.clone()],
                _ => {
                    let mut newest = newest(client, model, 2).await?;
                    let (later, earlier) = (newest.remove(0), newest.remove(0));
                    [earlier, later]
                }
            };
            let (one_run, other) = (one(client, model, &a).await?, one(client, model, &b).await?);
            let differs = diff(&one_run["detail"], &other["detail"]);
            let answer = json!({ "a": a, "b": b, "differs": differs });
            output.result(&answer, |_| compared(&one_run, &other, &differs));
            Ok(())
        }
    }
}

async fn list(client: &Client, model: &str, limit: u32, output: Output) -> Result<()> {
    let runs = client
        .get(&format!("/v1/models/{model}/runs?limit={limit}"))
        .await?;
    output.result(&runs, |runs| {
        let runs = runs["runs"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = runs.map(line).collect();
        if rows.is_empty() {
            return format!("{model} has no runs yet: `tidemill train {model}` begins one");
        }
        table(
            &["run", "began", "version", "state", "trigger", "summary"],
            &rows,
        )
    });
    Ok(())
}

fn line(run: &Value) -> Vec<String> {
    let text = |field: &str| run[field].as_str().unwrap_or("-").to_owned();
    ["id", "started_at", "version", "state", "trigger", "summary"]
        .map(text)
        .to_vec()
}

/// The ids of the newest runs of a model, the newest first.
async fn newest(client: &Client, model: &str, wanted: usize) -> Result<Vec<String>> {
    let path = format!("/v1/models/{model}/runs?limit={wanted}");
    let runs = client.get(&path).await?;
    let runs = runs["runs"].as_array().into_iter().flatten();
    let ids: Vec<String> = runs
        .filter_map(|run| run["id"].as_str().map(str::to_owned))
        .collect();
    if ids.len() < wanted {
        bail!(
            "{model} has {} runs, {wanted} are needed\n  `tidemill train {model}` begins one",
            ids.len()
        );
    }
    Ok(ids)
}

async fn one(client: &Client, model: &str, id: &str) -> Result<Value> {
    client.get(&format!("/v1/models/{model}/runs/{id}")).await
}

/// A run in a few lines.
pub(super) fn told(run: &Value) -> String {
    let text = |field: &str| run[field].as_str().unwrap_or("");
    let version = run["version"].as_str().unwrap_or(text("model"));
    let mut told = format!("{version} {}: {}", text("state"), text("summary"));
    for check in run["detail"]["examination"]["verdict"]["checks"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let mark = if check["passed"] == true {
            "ok     "
        } else {
            "refused"
        };
        told = format!(
            "{told}\n  {mark} {}",
            check["sentence"].as_str().unwrap_or("")
        );
    }
    told
}

/// A run, stage by stage.
fn shown(run: &Value) -> String {
    let text = |field: &str| run[field].as_str().unwrap_or("-");
    let detail = &run["detail"];
    let mut lines = vec![
        format!(
            "run {} of {}, set off by {}",
            text("id"),
            text("model"),
            text("trigger")
        ),
        format!(
            "  began {}, ended {}",
            text("started_at"),
            text("finished_at")
        ),
    ];
    if let Some(events) = detail["snapshot"]["last"].as_u64() {
        lines.push(format!("  events   up to place {}", thousands(events)));
    }
    if let Some(rows) = detail["dataset"]["rows"].as_u64() {
        let observed = detail["dataset"]["observed"].as_u64().unwrap_or(0);
        let version = &detail["dataset_version"];
        lines.push(format!(
            "  dataset  {} rows out of {} observations; `tidemill dataset show {}@{version}` says more",
            thousands(rows),
            thousands(observed),
            text("model")
        ));
    }
    if let Some(signals) = detail["signals"].as_u64() {
        let persons = detail["persons"].as_u64().unwrap_or(0);
        lines.push(format!(
            "  learnt   from {} signals of {} persons",
            thousands(signals),
            thousands(persons)
        ));
    }
    let gains = detail["gains"].as_array().into_iter().flatten().take(5);
    let gains: Vec<&str> = gains.filter_map(|gain| gain["name"].as_str()).collect();
    if !gains.is_empty() {
        lines.push(format!("  features {} …", gains.join(", ")));
    }
    let seconds = detail["seconds"].as_object().into_iter().flatten();
    let seconds: Vec<String> = seconds
        .filter_map(|(stage, seconds)| Some(format!("{stage} {:.1} s", seconds.as_f64()?)))
        .collect();
    if !seconds.is_empty() {
        lines.push(format!("  took     {}", seconds.join(", ")));
    }
    let resumed = detail["progress"]["resumed"]
        .as_array()
        .into_iter()
        .flatten();
    let resumed: Vec<&str> = resumed.filter_map(Value::as_str).collect();
    if !resumed.is_empty() {
        let stages = resumed.join(", ");
        lines.push(format!("  went on  after a start, at: {stages}"));
    }
    lines.push(told(run));
    lines.join("\n")
}

/// What differs: the path, and what stands there in each.
fn diff(a: &Value, b: &Value) -> BTreeMap<String, [Value; 2]> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), a, &mut left);
    flatten(String::new(), b, &mut right);
    let mut differs = BTreeMap::new();
    for path in left.keys().chain(right.keys()) {
        let is_noise = NOISE
            .iter()
            .any(|noise| path == noise || path.starts_with(&format!("{noise}.")));
        let of = |side: &BTreeMap<String, Value>| side.get(path).cloned().unwrap_or(Value::Null);
        let (one, other) = (of(&left), of(&right));
        if !is_noise && one != other {
            differs.insert(path.clone(), [one, other]);
        }
    }
    differs
}

/// Every plain value under its path.
fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, Value>) {
    let below = |key: &str| match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(below(key), value, into);
            }
        }
        Value::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                let name = NAMES.iter().find_map(|name| value[*name].as_str());
                let key = name.map_or_else(|| place.to_string(), str::to_owned);
                flatten(below(&key), value, into);
            }
        }
        plain => {
            into.insert(path, plain.clone());
        }
    }
}

/// The most differences of one part that are shown.
const SHOWN: usize = 25;

fn compared(a: &Value, b: &Value, differs: &BTreeMap<String, [Value; 2]>) -> String {
    let named = |run: &Value| {
        let version = run["version"].as_str().unwrap_or("no version");
        let text = |field: &str| run[field].as_str().unwrap_or("-").to_owned();
        format!(
            "{} ({version}, {}, {})",
            text("id"),
            text("state"),
            text("started_at")
        )
    };
    let mut lines = vec![format!("a  {}", named(a)), format!("b  {}", named(b))];
    if differs.is_empty() {
        lines.push("nothing differs but how long they took".to_owned());
    }
    let mut parts: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for (path, [one, other]) in differs {
        let (part, rest) = path.split_once('.').unwrap_or((path, ""));
        parts.entry(part).or_default().push(vec![
            rest.to_owned(),
            plain(one),
            plain(other),
            change(one, other),
        ]);
    }
    for (part, mut rows) in parts {
        let more = rows.len().saturating_sub(SHOWN);
        rows.truncate(SHOWN);
        lines.push(format!(
            "\n{part}\n{}",
            table(&["", "a", "b", "change"], &rows)
        ));
        if more > 0 {
            lines.push(format!("  and {more} more; --json has all"));
        }
    }
    lines.join("\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() != 0.0 => format!("{number:.4}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// By how much a number has changed, in per cent of what it was.
fn change(one: &Value, other: &Value) -> String {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) if one != 0.0 => {
            format!("{:+.1} %", (other - one) / one.abs() * 100.0)
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_differ_in_what_means_something() {
        let run = |rows: u64, gain: f64| {
            json!({
                "dataset": { "rows": rows, "digest": format!("{rows}") },
                "gains": [{ "feature": "user.b", "gain": 0.1 }, { "feature": "user.a", "gain": gain }],
                "seconds": { "fit": rows },
            })
        };
        assert!(diff(&run(5, 0.2), &run(5, 0.2)).is_empty());
        let differs = diff(&run(5, 0.2), &run(6, 0.3));
        let paths: Vec<&str> = differs.keys().map(String::as_str).collect();
        assert_eq!(paths, ["dataset.rows", "gains.user.a.gain"]);
        assert_eq!(change(&json!(5), &json!(6)), "+20.0 %");
        assert_eq!(change(&Value::Null, &json!(6)), "");
    }
}
