//! Versions that were spoilt on purpose, at the gate: none may pass, and the same one unspoilt does.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tidemill_core::event::PersonKey;
use tidemill_core::feature::{ColumnValues, FeatureColumn, FeatureTable, FeatureType, Unit};
use tidemill_core::project::Project;
use tidemill_core::{Offset, Span, Timestamp};
use tidemill_features::dataset::{Alone, ColumnStatistics, Dataset};

use self::spoilt::{PLANTED, UNREADABLE};
use super::*;
use crate::accepted::{Before, judge};
use crate::fit::{Order, fit, training_set};

#[path = "../../tests/support/spoilt.rs"]
mod spoilt;

const ROWS: usize = 6_000;
const PERSONS: usize = 900;
const COLUMNS: [&str; 6] = ["orders", "spent", "since", "visits", "noise", "country"];

const PROJECT: &str = r#"
[project]
name = "shop"
[models.m]
kind = "predict"
observe = { event = "A" }
target = { event = "B", within = "1d" }
training = { budget = 0.3 }
"#;

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (one, other): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

/// Makes a feature out of the target and a number between 0 and 1 that is drawn.
type Leak = fn(f64, f64) -> f64;

/// Rows whose target depends on four of the features; `also` makes another feature out of the target.
fn rows(also: Option<(&str, Leak)>) -> Dataset {
    let mut random = ChaCha8Rng::seed_from_u64(41);
    let mut numbers: Vec<Vec<f64>> = vec![Vec::new(); 5];
    let (mut countries, mut targets, mut leak) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let values: Vec<f64> = (0..5).map(|_| normal(&mut random)).collect();
        let country = random.random_range(0..3u8);
        let log_odds = -0.6 + 0.9 * values[0] - 0.8 * values[2]
            + 1.2 * values[3] * values[1]
            + 0.3 * f64::from(country);
        let target = f64::from(u8::from(
            random.random::<f64>() < 1.0 / (1.0 + (-log_odds).exp()),
        ));
        for (column, value) in numbers.iter_mut().zip(values) {
            column.push(value);
        }
        countries.push(Some(Arc::from(["DE", "FR", "UK"][usize::from(country)])));
        if let Some((_, of)) = also {
            leak.push(of(target, random.random()));
        }
        targets.push(target);
    }
    let column = |name: &str, feature_type| FeatureColumn {
        name: format!("user.{name}"),
        feature_type,
        label: name.to_owned(),
        unit: Unit::Plain,
    };
    let mut columns: Vec<FeatureColumn> = COLUMNS
        .iter()
        .map(|name| match *name {
            "country" => column(name, FeatureType::Category),
            _ => column(name, FeatureType::Number),
        })
        .collect();
    let mut values: Vec<ColumnValues> = numbers.into_iter().map(ColumnValues::Number).collect();
    values.push(ColumnValues::Category(countries));
    if let Some((name, _)) = also {
        columns.push(column(name, FeatureType::Number));
        values.push(ColumnValues::Number(leak));
    }
    let moment = |row: usize| Timestamp::EPOCH + Span::from_seconds(row as i64 * 3_600);
    let mut dataset = Dataset {
        features: FeatureTable::from_columns(columns, values),
        entities: (0..ROWS)
            .map(|row| PersonKey::user(&format!("u{}", row * 7 % PERSONS)))
            .collect(),
        moments: (0..ROWS).map(moment).collect(),
        offsets: (0..ROWS as u64).map(Offset).collect(),
        weights: vec![1.0; ROWS],
        targets,
        record: serde_json::from_value(record()).unwrap(),
    };
    dataset.record.columns = alone(&dataset);
    dataset
}

fn record() -> Value {
    json!({
        "model": "m", "definition_hash": "", "last_offset": ROWS, "known_until": moment_text(), "observed": ROWS, "dropped": {},
        "rows": ROWS, "expression_failures": 0, "features": [], "target": { "mean": 0.4, "std": 0.5, "min": 0.0, "max": 1.0, "classes": {} },
        "columns": [], "suspicious": []
    })
}

fn moment_text() -> String {
    (Timestamp::EPOCH + Span::from_seconds((ROWS as i64 + 24) * 3_600)).to_string()
}

/// How well each number alone tells the target, as the record of a dataset says it.
fn alone(dataset: &Dataset) -> Vec<ColumnStatistics> {
    let columns = dataset.features.columns().iter().enumerate();
    let of = |(place, column): (usize, &FeatureColumn)| {
        let ColumnValues::Number(numbers) = dataset.features.values(place) else {
            return None;
        };
        let entities: Vec<u64> = (0..ROWS as u64).collect();
        let rows = Rows::new(
            TaskKind::Binary,
            &dataset.targets,
            &dataset.weights,
            &entities,
        );
        let scores = ScoresView::new(1, numbers).unwrap();
        let auc = Metric::Auc
            .compute(&rows.unwrap(), &scores)
            .unwrap()
            .unwrap();
        Some(ColumnStatistics {
            name: column.name.clone(),
            alone: Some(Alone {
                measure: "auc".to_owned(),
                value: auc.max(1.0 - auc),
                class: None,
            }),
            ..ColumnStatistics::default()
        })
    };
    columns.filter_map(of).collect()
}

fn fitted(project: &Project, set: &TrainingSet) -> Package {
    let model = project.models.values().next().unwrap();
    let order = Order {
        project: &project.name,
        model: &model.name,
        task: &Task::Binary,
        training: &model.training,
        counts: &[],
        definition_hash: "",
        threads: 1,
    };
    fit(&order, set).unwrap()
}

struct Stand {
    project: Project,
    champion: Package,
    /// Fitted on newer rows.
    good: Package,
    examined: TrainingSet,
    dataset: Dataset,
}

impl Stand {
    fn new(also: Option<(&str, Leak)>) -> Self {
        let project = Project::parse(PROJECT).unwrap();
        let dataset = rows(also);
        let plain = rows(None);
        let from: Vec<usize> = (0..ROWS).collect();
        Self {
            champion: fitted(&project, &training_set(&plain, &from[..3_000])),
            good: fitted(&project, &training_set(&dataset, &from[..4_500])),
            examined: training_set(&dataset, &from[4_500..]),
            dataset,
            project,
        }
    }

    fn examine(&self, challenger: &Package) -> Examination {
        let model = self.project.models.values().next().unwrap();
        let data = judge(model, &self.dataset, &Before::default());
        examine(&Candidates {
            model,
            challenger,
            champion: Some(("m@1".to_owned(), &self.champion)),
            champion_features: None,
            not_compared: None,
            rows: &self.examined,
            record: &self.dataset.record,
            data: &data,
            resamples: 200,
        })
        .unwrap()
    }

    /// Fitted on the rows of the good version, of whose targets a share was drawn anew: what an event that is lost or told
    /// twice now and then makes of a target.
    fn trained_on_blurred(&self, share: f64) -> Package {
        let mut random = ChaCha8Rng::seed_from_u64(43);
        let from: Vec<usize> = (0..4_500).collect();
        let mut set = training_set(&self.dataset, &from);
        for target in &mut set.targets {
            if random.random::<f64>() < share {
                *target = f64::from(u8::from(random.random::<f64>() < 0.4));
            }
        }
        fitted(&self.project, &set)
    }

    /// The good version, spoilt.
    fn spoilt(&self, spoil: impl Fn(&mut Value)) -> Package {
        let mut package = serde_json::to_value(&self.good).unwrap();
        package["golden"] = json!([]);
        spoil(&mut package);
        serde_json::from_value(package).unwrap()
    }
}

/// The check that must refuse a planted version; others may refuse it too.
fn refused_by(called: &str) -> &'static str {
    match called {
        "it panics" | "it gives no numbers" | "it says the same about everybody" => "sound",
        "its labels were inverted"
        | "it was trained on inverted features"
        | "all weights are in the wrong place" => "champion",
        "it says yes to nearly everybody"
        | "it says no to nearly everybody"
        | "it is far too sure"
        | "it dares to say nothing"
        | "its weights overflow" => "calibrated",
        "answers that are not those of its trainer" => "packaged",
        other => panic!("{other}: what refuses it?"),
    }
}

fn failed(examination: &Examination) -> Vec<&Check> {
    let checks = examination.verdict.checks.iter();
    checks.filter(|check| !check.passed).collect()
}

#[track_caller]
fn check_refused(called: &str, examination: &Examination, by: &str) {
    let failed = failed(examination);
    let found = failed.iter().find(|check| check.name == by);
    let found = found.unwrap_or_else(|| panic!("{called}: {:#?}", examination.verdict));
    assert!(!examination.verdict.promoted);
    let names: Vec<&str> = failed.iter().map(|check| check.name.as_str()).collect();
    println!("| {called} | {} | {} |", names.join(", "), found.sentence);
}

#[test]
fn none_of_the_planted_versions_passes_the_gate() {
    let stand = Stand::new(None);
    let good = stand.examine(&stand.good);
    assert!(good.verdict.promoted, "{:#?}", good.verdict);
    let difference = good.difference.unwrap();
    assert!(
        difference.mean > 0.0 && difference.mean < 0.1,
        "{difference:?}"
    );
    assert!(difference.rank_correlation.unwrap() > 0.8, "{difference:?}");

    println!("| planted | refused by | in words |\n|---|---|---|");
    let golden = UNREADABLE
        .into_iter()
        .filter(|(called, _)| called.starts_with("answers"));
    for (called, spoil) in PLANTED.into_iter().chain(golden) {
        let examination = stand.examine(&stand.spoilt(spoil));
        check_refused(called, &examination, refused_by(called));
    }
}

#[test]
fn a_version_beside_itself_changes_nothing() {
    let stand = Stand::new(None);
    let same = stand.examine(&stand.champion).difference.unwrap();
    assert_eq!((same.mean, same.largest), (0.0, 0.0));
    assert_eq!((same.other_side, same.other_band), (Some(0.0), Some(0.0)));
}

/// How much better than chance a version is: its AUC beyond a half.
fn edge(stand: &Stand, package: &Package) -> f64 {
    let rows = &stand.examined;
    let joined = Rows::new(
        TaskKind::Binary,
        &rows.targets,
        &rows.weights,
        &rows.entities,
    );
    let scores = package_scores(package, rows);
    let scores = ScoresView::new(1, &scores).unwrap();
    Metric::Auc
        .compute(&joined.unwrap(), &scores)
        .unwrap()
        .unwrap()
        - 0.5
}

#[test]
fn a_version_that_was_trained_to_be_ten_per_cent_worse_is_refused() {
    let stand = Stand::new(None);
    let worse = stand.trained_on_blurred(0.55);
    let lost = 1.0 - edge(&stand, &worse) / edge(&stand, &stand.champion);
    assert!((0.09..0.12).contains(&lost), "{lost}");
    let called = format!("it was trained to be {:.1} % worse", lost * 100.0);
    check_refused(&called, &stand.examine(&worse), "champion");
}

#[test]
fn versions_that_were_trained_on_what_came_after_are_refused_by_name() {
    let leaks: [(&str, &str, Leak); 3] = [
        (
            "it was trained on the target itself",
            "refunded",
            |target, _| target,
        ),
        (
            "on the target with three in a hundred wrong",
            "returned",
            |target, chance| {
                if chance < 0.03 { 1.0 - target } else { target }
            },
        ),
        (
            "on something that mostly comes of the target",
            "letters",
            |target, chance| target * 0.6 + chance,
        ),
    ];
    for (called, name, of) in leaks {
        let mut stand = Stand::new(Some((name, of)));
        let examination = stand.examine(&stand.good);
        check_refused(called, &examination, "leak");
        let failed_checks = failed(&examination);
        let leak = failed_checks
            .iter()
            .find(|check| check.name == "leak")
            .unwrap();
        let leak = &leak.sentence;
        assert!(leak.starts_with(&format!("user.{name} alone")), "{leak}");
        // somebody vouches for it
        let model = stand.project.models.values_mut().next().unwrap();
        let reason = "asked of the warehouse before";
        model
            .gate
            .trusted
            .insert(format!("user.{name}"), reason.to_owned());
        let examination = stand.examine(&stand.good);
        // where a feature is the target there is nothing to be better at than a line is
        assert!(
            failed(&examination)
                .iter()
                .all(|check| check.name == "beats:linear"),
            "{called}: {:#?}",
            examination.verdict
        );
        let checks = examination.verdict.checks;
        let leak = checks.iter().find(|check| check.name == "leak").unwrap();
        assert!(leak.sentence.contains(reason), "{}", leak.sentence);
    }
}

#[test]
fn the_project_file_says_how_much_may_change() {
    let mut stand = Stand::new(None);
    let model = stand.project.models.values_mut().next().unwrap();
    model.gate.change_max = Some(0.001);
    let examination = stand.examine(&stand.good);
    check_refused("more changes than may", &examination, "answers:champion");
}

#[test]
fn a_check_of_the_data_that_fails_passes_where_somebody_says_why_it_may() {
    let mut stand = Stand::new(None);
    let before = Before {
        rows: vec![100_000],
        ..Before::default()
    };
    let volume = |stand: &Stand| {
        let model = stand.project.models.values().next().unwrap();
        let (checks, _) = judge(model, &stand.dataset, &before);
        checks
            .into_iter()
            .find(|check| check.name == "data:volume")
            .unwrap()
    };
    assert!(!volume(&stand).passed);
    let model = stand.project.models.values_mut().next().unwrap();
    let trusted = &mut model.gate.trusted;
    trusted.insert("data:volume".to_owned(), "bots are left out".to_owned());
    let vouched = volume(&stand);
    assert!(vouched.passed && vouched.sentence.ends_with("trusted: bots are left out"));
    let leak = stand.examine(&stand.good).verdict.checks;
    let leak = leak.iter().find(|check| check.name == "leak").unwrap();
    assert!(!leak.sentence.contains("no feature of this model"));
}
