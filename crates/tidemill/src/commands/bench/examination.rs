//! A recommender on a split: what it was worth, beside simple sources, and what it took.

use rayon::prelude::*;
use serde_json::{Value, json};
use tidemill_core::clock::Stopwatch;
use tidemill_evaluate::{Bootstrap, ListMeasures, RankingMetric};
use tidemill_learn::recommend::{
    Case, Interactions, ItemGraph, Popular, Query, Question, Recommendations, Recommender, Source,
};

use super::split::Split;
use crate::memory::{mebibytes, peak_bytes};
use crate::output::thousands;

/// How deep rankings go.
const DEPTHS: [usize; 2] = [10, 20];
/// Upper ends of the classes of history lengths in the table.
const LENGTHS: [usize; 5] = [2, 5, 10, 30, usize::MAX];

/// The rankings of one model over all cases, with what it took.
struct Ranked {
    name: String,
    rankings: Vec<Vec<u32>>,
    fit_seconds: f64,
    micros_per_query: f64,
}

/// Fits the default recommender, or the quick one, and simple sources beside it, and measures them all.
pub fn examine(split: &Split, (seed, quick): (u64, bool), say: &dyn Fn(&str)) -> Value {
    let recommender = match quick {
        true => Recommender::quick(split.question),
        false => Recommender::new(split.question),
    };
    let recommender = Recommender {
        goal: split.goal,
        seed,
        ..recommender
    };
    say("learning");
    let watch = Stopwatch::start();
    let fitted = recommender.fit(&split.train);
    let fit_seconds = watch.seconds();
    let fit_peak = peak_bytes().map(mebibytes);
    say("asking");
    let exclude_seen = fitted.record().exclude_seen;
    let name = if quick {
        "tidemill, quick"
    } else {
        "tidemill, default"
    };
    let mut models = vec![blend(name, &fitted, split, fit_seconds)];
    let record = fitted.record().clone();
    drop(fitted); // the simple models are not learnt beside it
    say("learning simple models to compare");
    models.push(simple("popular", split, exclude_seen, |data| {
        Box::new(Popular::default().fit(data))
    }));
    models.push(simple("item graph, default", split, exclude_seen, |data| {
        Box::new(ItemGraph::default().fit(data))
    }));
    if split.goal > 0.0 {
        let strong = strong_only(&split.train, split.goal);
        models.push(simple(
            "item graph, goal signals only",
            split,
            exclude_seen,
            |_| Box::new(ItemGraph::default().fit(&strong)),
        ));
    }
    say("measuring");
    let all = graph_of(split);
    json!({
        "result": result(&models[0], split),
        "train_seconds": fit_seconds,
        "train_memory_peak_mib": fit_peak,
        "cases": split.cases.len(),
        "items": split.train.items(),
        "histories": split.train.histories(),
        "signals": split.train.len(),
        "seed": seed,
        "quick": quick,
        "record": record,
        "models": models.iter().map(|model| measured(model, &models[0], split, &all)).collect::<Vec<_>>(),
    })
}

/// The metrics of the default as plain numbers.
fn result(model: &Ranked, split: &Split) -> Value {
    let mut result = serde_json::Map::new();
    for k in DEPTHS {
        for metric in RankingMetric::ALL {
            let values = values(model, split, metric, k);
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            result.insert(format!("{}@{k}", metric.key()), json!(mean));
        }
    }
    result.into()
}

fn strong_only(data: &Interactions, goal: f32) -> Interactions {
    let mut strong = Interactions::builder();
    for history in data.iter() {
        strong.push(
            history
                .iter()
                .filter(|signal| signal.weight >= goal)
                .copied(),
        );
    }
    strong.build(data.items())
}

/// Cosines of items over the people who have them, for the diversity of lists.
fn graph_of(split: &Split) -> impl Fn(u32, u32) -> f64 {
    let cosines = ItemGraph {
        history_power: 0.0,
        from_power: 0.5,
        to_power: 0.5,
        similarity_power: 1.0,
        neighbours: 100,
        ..ItemGraph::default()
    };
    let graph = cosines.fit(&split.train);
    move |one, other| {
        let of = |from, to| {
            graph
                .neighbours(from)
                .find(|(item, _)| *item == to)
                .map(|(_, w)| w)
        };
        f64::from(of(one, other).or_else(|| of(other, one)).unwrap_or(0.0)).min(1.0)
    }
}

fn blend(name: &str, fitted: &Recommendations, split: &Split, fit_seconds: f64) -> Ranked {
    let watch = Stopwatch::start();
    let depth = DEPTHS[DEPTHS.len() - 1];
    let rankings = split
        .cases
        .par_iter()
        .map_init(
            || fitted.scratch(),
            |scratch, case| {
                let ranked = fitted.recommend(&case.query(), depth, scratch);
                ranked.into_iter().map(|(item, _)| item).collect()
            },
        )
        .collect();
    let micros = watch.seconds() * 1e6 * rayon::current_num_threads() as f64;
    Ranked {
        name: name.to_owned(),
        rankings,
        fit_seconds,
        micros_per_query: micros / split.cases.len() as f64,
    }
}

fn simple(
    name: &str,
    split: &Split,
    exclude_seen: bool,
    fit: impl Fn(&Interactions) -> Box<dyn Source>,
) -> Ranked {
    let watch = Stopwatch::start();
    let source = fit(&split.train);
    let fit_seconds = watch.seconds();
    let watch = Stopwatch::start();
    let depth = DEPTHS[DEPTHS.len() - 1];
    let ranking = |case: &Case| {
        let mut best = Vec::new();
        let seen = if exclude_seen { case.history.len() } else { 0 };
        source.candidates(&Query::new(&case.history), depth + seen, &mut best);
        let seen =
            |item: u32| exclude_seen && case.history.iter().any(|signal| signal.item == item);
        let unseen = best
            .iter()
            .map(|(item, _)| *item)
            .filter(|item| !seen(*item));
        unseen.take(depth).collect()
    };
    let rankings = split.cases.par_iter().map(ranking).collect();
    let micros = watch.seconds() * 1e6 * rayon::current_num_threads() as f64;
    Ranked {
        name: name.to_owned(),
        rankings,
        fit_seconds,
        micros_per_query: micros / split.cases.len() as f64,
    }
}

fn values(model: &Ranked, split: &Split, metric: RankingMetric, k: usize) -> Vec<f64> {
    let pairs = model.rankings.iter().zip(&split.cases);
    pairs
        .map(|(ranking, case)| metric.at(k, ranking, &case.targets).unwrap_or(0.0))
        .collect()
}

fn measured(
    model: &Ranked,
    best: &Ranked,
    split: &Split,
    similarity: &impl Fn(u32, u32) -> f64,
) -> Value {
    let bootstrap = Bootstrap::default();
    let mut metrics = serde_json::Map::new();
    for k in DEPTHS {
        for metric in RankingMetric::ALL {
            let estimate = bootstrap.mean(&values(model, split, metric, k));
            metrics.insert(format!("{}@{k}", metric.name()), json!(estimate));
        }
    }
    let ahead = bootstrap.mean_difference(
        &values(best, split, RankingMetric::Ndcg, 20),
        &values(model, split, RankingMetric::Ndcg, 20),
    );
    let lists: Vec<Vec<u32>> = model
        .rankings
        .iter()
        .map(|ranking| ranking[..ranking.len().min(10)].to_vec())
        .collect();
    let owners = split.train.degrees();
    json!({
        "name": model.name,
        "metrics": metrics,
        "first_is_ahead_in_ndcg_at_20": ahead,
        "lists_of_10": ListMeasures::new(&lists, owners, split.train.histories(), similarity),
        "ndcg_at_20_by_history_length": by_length(model, split),
        "fit_seconds": model.fit_seconds,
        "query_micros_of_one_core": model.micros_per_query,
    })
}

fn by_length(model: &Ranked, split: &Split) -> Vec<Value> {
    let values = values(model, split, RankingMetric::Ndcg, 20);
    let class = |case: &Case| LENGTHS.iter().position(|end| case.history.len() <= *end);
    let classes = LENGTHS.iter().enumerate().map(|(place, end)| {
        let pairs = values.iter().zip(&split.cases);
        let own: Vec<f64> = pairs
            .filter(|(_, case)| class(case) == Some(place))
            .map(|(value, _)| *value)
            .collect();
        let up_to = (*end != usize::MAX).then_some(*end);
        json!({ "up_to": up_to, "cases": own.len(), "estimate": Bootstrap::default().mean(&own) })
    });
    classes.collect()
}

/// The metrics that a question is usually reported with.
fn headline(question: Question) -> [&'static str; 2] {
    match question {
        Question::Others | Question::Later => ["recall@20", "NDCG@20"],
        Question::Next => ["hit rate@10", "NDCG@10"],
        Question::NextInSession => ["hit rate@20", "MRR@20"],
    }
}

/// What is told to people: what was measured how, the table with the published rows under ours, what was chosen, and what it took.
pub fn told(report: &Value, question: Question, published: &str) -> String {
    let count = |name: &str| thousands(report[name].as_u64().unwrap_or(0));
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let mut kept = Vec::new();
    let mut left_out = Vec::new();
    for source in report["record"]["sources"].as_array().into_iter().flatten() {
        let name = name_of(&source["parameters"]);
        match source["kept"].as_bool() {
            Some(true) => kept.push(name),
            _ => left_out.push(name),
        }
    }
    format!(
        "{} signals of {} histories about {} items; {} cases, ranked over the whole catalogue.\n\n{}\n\n\
         Blended: {}. Left out, since the blend is no worse without: {}.\n{}\n\
         Chosen on {} cases held back from the training data. Learnt in {:.1} s and {:.0} MiB at most; the whole took {:.1} s and {:.0} MiB.",
        count("signals"),
        count("histories"),
        count("items"),
        count("cases"),
        table(report, question, published),
        listed(&kept),
        listed(&left_out),
        ranked(&report["record"]["ranker"]),
        thousands(report["record"]["cases"].as_u64().unwrap_or(0)),
        number("train_seconds"),
        number("train_memory_peak_mib"),
        number("seconds"),
        number("memory_peak_mib"),
    )
}

/// What the ranker was worth on lists that were held back.
fn ranked(ranker: &Value) -> String {
    let number = |name: &str| ranker[name].as_f64().unwrap_or(f64::NAN);
    let kept = match ranker["kept"].as_bool() {
        Some(true) => "The ranker puts the best candidates in order",
        Some(false) => "The ranker is left out",
        None => return "There is no ranker.".to_owned(),
    };
    format!(
        "{kept}: NDCG@20 {:.4} without it and {:.4} with it on what was held back (standard error of the difference {:.4}).",
        number("blend"),
        number("ranked"),
        number("standard_error"),
    )
}

fn name_of(parameters: &Value) -> String {
    let name = parameters["name"].as_str().or(parameters["kind"].as_str());
    name.unwrap_or_default().replace('_', " ")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join("; ")
    }
}

/// The table, with the published rows under ours.
fn table(report: &Value, question: Question, published: &str) -> String {
    let metrics = headline(question);
    let mut lines = vec![format!(
        "| model | {} | 95 % | {} | 95 % | coverage | Gini | novelty, bits | diversity | training, s | a query, µs |",
        metrics[0], metrics[1]
    )];
    lines.push("| --- |".to_owned() + &" ---: |".repeat(10));
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for model in report["models"].as_array().into_iter().flatten() {
        let mut cells = vec![model["name"].as_str().unwrap_or_default().to_owned()];
        for metric in metrics {
            let estimate = &model["metrics"][metric];
            let interval = &estimate["interval"];
            cells.push(format!("{:.4}", number(&estimate["value"])));
            cells.push(format!(
                "{:.4} – {:.4}",
                number(&interval[0]),
                number(&interval[1])
            ));
        }
        let lists = &model["lists_of_10"];
        for measure in ["coverage", "gini", "novelty", "diversity"] {
            cells.push(format!("{:.3}", number(&lists[measure])));
        }
        cells.push(format!("{:.1}", number(&model["fit_seconds"])));
        cells.push(format!("{:.0}", number(&model["query_micros_of_one_core"])));
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    for row in published
        .lines()
        .filter(|row| !row.trim().is_empty() && !row.starts_with('#'))
    {
        let cells: Vec<&str> = row.split('\t').collect();
        if let [name, one, other] = cells[..] {
            lines.push(format!(
                "| {name} (published) | {one} | | {other} |{}",
                " |".repeat(7)
            ));
        }
    }
    lines.join("\n")
}
