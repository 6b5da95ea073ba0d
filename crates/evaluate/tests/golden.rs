//! Golden numbers: the quality of our learners on public data, with a fixed seed and a tolerance.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureType, FeatureValue, Unit};
use tidemill_evaluate::gate::{Gate, Strictness};
use tidemill_evaluate::{Bootstrap, Metric, Report, Rows, ScoresView, TaskKind};
use tidemill_learn::{
    Boosted, Constant, Learner, Linear, Model, Scores, Task, TrainingSet, calibration,
};

use support::data;

/// Rows of text as a training set; the last column is the answer.
fn read(text: &str, separator: char, numbers: &[&str], names: &[&str], yes: &str) -> TrainingSet {
    let features = &names[..names.len() - 1];
    let mut table = FeatureTable::new(
        features
            .iter()
            .map(|name| FeatureColumn {
                name: (*name).to_owned(),
                feature_type: if numbers.contains(name) {
                    FeatureType::Number
                } else {
                    FeatureType::Category
                },
                label: (*name).to_owned(),
                unit: Unit::Plain,
            })
            .collect(),
    );
    let mut targets = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(separator).map(str::trim).collect();
        if cells.len() != names.len() {
            continue;
        }
        let value = |(name, cell): (&&str, &&str)| match (numbers.contains(name), *cell) {
            (true, cell) => FeatureValue::number(cell.parse().unwrap()),
            (false, "?") => FeatureValue::Missing,
            (false, cell) => FeatureValue::Category(cell.into()),
        };
        table.push(&features.iter().zip(&cells).map(value).collect::<Vec<_>>());
        targets.push(f64::from(u8::from(cells[names.len() - 1].starts_with(yes))));
    }
    TrainingSet::unweighted(table, targets).unwrap()
}

/// Pseudo-random thirds of the rows for training and testing, always the same.
fn parts(set: &TrainingSet, train_of_ten: u64) -> (TrainingSet, TrainingSet) {
    let drawn =
        |row: &usize| ((*row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 10 < train_of_ten;
    let (train, test): (Vec<usize>, Vec<usize>) = (0..set.rows()).partition(drawn);
    (set.take(&train), set.take(&test))
}

fn shoppers(test: &str) -> Option<TrainingSet> {
    let text = data(test, "online-shoppers/online_shoppers_intention.csv.zst")?;
    let (header, body) = text.split_once('\n').unwrap();
    let names: Vec<&str> = header.trim().split(';').collect();
    let numbers = [
        "Administrative",
        "Administrative_Duration",
        "Informational",
        "Informational_Duration",
        "ProductRelated",
        "ProductRelated_Duration",
        "BounceRates",
        "ExitRates",
        "PageValues",
        "SpecialDay",
    ];
    Some(read(body, ';', &numbers, &names, "TRUE"))
}

fn rows(set: &TrainingSet) -> Rows<'_> {
    Rows::new(TaskKind::Binary, &set.targets, &set.weights, &set.entities).unwrap()
}

fn view(scores: &Scores) -> ScoresView<'_> {
    ScoresView::new(scores.width(), scores.values()).unwrap()
}

fn check(model: &Model, test: &TrainingSet, metric: Metric, expected: f64, tolerance: f64) -> f64 {
    let found = metric
        .compute(&rows(test), &view(&model.predict(&test.features)))
        .unwrap()
        .unwrap();
    println!("{} {metric} {found:.4}", model.kind());
    assert!(
        (found - expected).abs() <= tolerance,
        "{} has {metric} {found}, not {expected}",
        model.kind()
    );
    found
}

#[test]
fn online_shoppers_boosted_is_better_than_linear_and_passes_the_gate() {
    let Some(all) = shoppers("online_shoppers_boosted_is_better_than_linear_and_passes_the_gate")
    else {
        return;
    };
    let (train, test) = parts(&all, 7);
    let fit = |learner: &dyn Learner| learner.fit(&Task::Binary, &train, 1).unwrap();
    let (boosted, linear, constant) = (
        fit(&Boosted::default()),
        fit(&Linear::default()),
        fit(&Constant),
    );
    let best = check(&boosted, &test, Metric::Auc, 0.935, 0.01);
    let plain = check(&linear, &test, Metric::Auc, 0.91, 0.02);
    assert!(best > plain + 0.01);

    let scores = [&boosted, &linear, &constant].map(|model| model.predict(&test.features));
    let verdict = Gate {
        rows: rows(&test),
        metric: Metric::Auc,
        challenger: view(&scores[0]),
        baselines: vec![
            ("constant", "the base rate", view(&scores[2])),
            ("linear", "logistic regression", view(&scores[1])),
        ],
        champion: None,
        slices: &[],
        minimums: &[(Metric::Auc, 0.9)],
        further: Vec::new(),
        strictness: Strictness::default(),
    }
    .decide()
    .unwrap();
    for check in &verdict.checks {
        println!("{}", check.sentence);
    }
    assert!(verdict.promoted, "{}", verdict.summary());

    let report = Report::new(&rows(&test), &view(&scores[0]), &Bootstrap::default()).unwrap();
    assert!(
        report.value(Metric::CalibrationError).unwrap() < 0.03,
        "{report:?}"
    );
    assert!(report.value(Metric::Lift10).unwrap() > 4.0);

    // Every answer can be explained to the last bit of its score.
    for row in (0..test.rows()).step_by(97) {
        let row = test.features.row(row);
        let sum: f64 = boosted.contributions(&row).iter().sum();
        assert!((sum - boosted.raw_row(&row)[0]).abs() < 1e-9);
    }
}

#[test]
fn adult_boosted_is_better_than_linear() {
    let name = "adult_boosted_is_better_than_linear";
    let names = [
        "age",
        "workclass",
        "fnlwgt",
        "education",
        "education_num",
        "marital",
        "occupation",
        "relationship",
        "race",
        "sex",
        "capital_gain",
        "capital_loss",
        "hours",
        "country",
        "income",
    ];
    let numbers = [
        "age",
        "fnlwgt",
        "education_num",
        "capital_gain",
        "capital_loss",
        "hours",
    ];
    let (Some(train), Some(test)) = (
        data(name, "adult/adult-train.csv.zst"),
        data(name, "adult/adult-test.csv.zst"),
    ) else {
        return;
    };
    let read = |text: &str| read(text, ',', &numbers, &names, ">50K");
    let (train, test) = (read(&train), read(&test));
    assert_eq!((train.rows(), test.rows()), (32_561, 16_281));
    // Half of the rows and budget 1 keep the test short; the documentation of `Boosted` has the figures of its defaults.
    let (train, _) = parts(&train, 5);
    let fit = |learner: &dyn Learner| learner.fit(&Task::Binary, &train, 1).unwrap();
    let boosted = fit(&Boosted {
        budget: 1.0,
        ..Boosted::default()
    });
    let best = check(&boosted, &test, Metric::Auc, 0.925, 0.005);
    check(&boosted, &test, Metric::LogLoss, 0.285, 0.015);
    let plain = check(&fit(&Linear::default()), &test, Metric::Auc, 0.907, 0.01);
    assert!(best > plain + 0.005);
}

#[test]
fn too_bold_probabilities_of_shoppers_are_calibrated() {
    let Some(all) = shoppers("too_bold_probabilities_of_shoppers_are_calibrated") else {
        return;
    };
    let (train, rest) = parts(&all, 5);
    let (held_out, test) = parts(&rest, 5);
    let model = Linear::default().fit(&Task::Binary, &train, 1).unwrap();
    let bold = |set: &TrainingSet| {
        let scores = model.predict(&set.features);
        let bold = scores
            .values()
            .iter()
            .map(|p| p.powi(2) / (p.powi(2) + (1.0 - p).powi(2)))
            .collect();
        Scores::new(1, bold)
    };
    let choice = calibration::choose(
        &Task::Binary,
        &bold(&held_out),
        &held_out.targets,
        &held_out.weights,
    );
    println!("{choice:?}");
    assert!(choice.log_loss_after < choice.log_loss_before);
    let error = |scores: &Scores| {
        Metric::CalibrationError
            .compute(&rows(&test), &view(scores))
            .unwrap()
            .unwrap()
    };
    let before = bold(&test);
    let after = choice.calibrator.apply(before.clone());
    println!("{} → {}", error(&before), error(&after));
    assert!(error(&after) < 0.6 * error(&before));
}
