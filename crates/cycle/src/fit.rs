//! From a dataset to a package: the boosted model, its calibration, the baselines beside it, the golden rows.

use sha2::{Digest, Sha256};
use tidemill_core::decision::Answer;
use tidemill_core::feature::{FeatureTable, Unit};
use tidemill_core::project::Training;
use tidemill_core::{ModelName, ProjectName};
use tidemill_features::dataset::Dataset;
use tidemill_learn::calibration::{self, Calibrator};
use tidemill_learn::{
    Blend, Boosted, Constant, LearnError, Learner, Linear, Model, RecencyFrequency, Scores, Task,
    TrainingSet,
};
use tidemill_serve::package::{PACKAGE_FORMAT, answer};
use tidemill_serve::{Baseline, GoldenRow, Package};

use crate::project_loop::CycleError;

/// Of ten persons, so many are kept out of fitting to calibrate the scores on.
const CALIBRATION_TENTHS: u64 = 2;
/// The fewest rows on which a calibration is chosen; with fewer the scores stay as they are.
const CALIBRATION_ROWS_MIN: usize = 200;
/// The baseline that may serve itself.
const LINEAR: &str = "linear";
/// How many golden rows a package carries.
const GOLDEN_ROWS: usize = 20;
/// How many pairs of columns the recency/frequency rule is tried with.
const RULE_PAIRS_MAX: usize = 24;

/// What is fitted, and for whom.
pub(crate) struct Order<'a> {
    pub(crate) project: &'a ProjectName,
    pub(crate) model: &'a ModelName,
    pub(crate) task: &'a Task,
    pub(crate) training: &'a Training,
    /// Columns that count events, for the recency/frequency rule.
    pub(crate) counts: &'a [String],
    pub(crate) definition_hash: &'a str,
    pub(crate) threads: usize,
}

/// Rows of a dataset as a learner takes them.
pub(crate) fn training_set(dataset: &Dataset, rows: &[usize]) -> TrainingSet {
    TrainingSet {
        features: dataset.features.take(rows),
        targets: rows.iter().map(|&row| dataset.targets[row]).collect(),
        weights: rows.iter().map(|&row| dataset.weights[row]).collect(),
        entities: rows
            .iter()
            .map(|&row| entity_hash(dataset.entities[row].as_str()))
            .collect(),
    }
}

/// A hash of a person's key that is the same in every process and every release.
pub(crate) fn entity_hash(person: &str) -> u64 {
    let digest = Sha256::digest(person.as_bytes());
    digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Fits a package on the rows that were certain before the examined period began.
pub(crate) fn fit(order: &Order<'_>, known: &TrainingSet) -> Result<Package, CycleError> {
    let learn = |what: &str| {
        let what = what.to_owned();
        move |source: LearnError| CycleError::Learn { what, source }
    };
    let seed = order.training.seed;
    let (rows, held_out) = split_persons(known);
    let fitted = learner(order)
        .fit(order.task, &known.take(&rows), seed)
        .map_err(learn("the model"))?;
    let calibrator = calibrate(order.task, &fitted, &known.take(&held_out));
    let constant = Constant
        .fit(order.task, known, seed)
        .map_err(learn("constant"))?;
    let linear = Linear::default()
        .fit(order.task, known, seed)
        .map_err(learn("linear"))?;
    let fallback = fallback(order.task, &constant, &known.features);
    let mut baselines = vec![Baseline {
        name: "constant".to_owned(),
        fitted: constant,
    }];
    if let Some(rule) = recency_frequency(order, known) {
        baselines.push(Baseline {
            name: "recency_frequency".to_owned(),
            fitted: rule,
        });
    }
    baselines.push(Baseline {
        name: LINEAR.to_owned(),
        fitted: linear,
    });
    let mut package = Package {
        format: PACKAGE_FORMAT,
        project: order.project.clone(),
        model: order.model.clone(),
        task: order.task.clone(),
        columns: known.features.columns().to_vec(),
        definition_hash: order.definition_hash.to_owned(),
        fitted,
        calibrator,
        baselines,
        fallback,
        golden: Vec::new(),
    };
    package.golden = golden(&package, &known.features);
    Ok(package)
}

fn learner(order: &Order<'_>) -> Blend {
    let default = Blend::default();
    let budget = order
        .training
        .budget
        .map_or(default.boosted.budget, |budget| budget as f32);
    let boosted = Boosted {
        budget,
        threads: order.threads,
        ..default.boosted
    };
    Blend { boosted, ..default }
}

/// The same package with logistic or ridge regression in place of the model: what serves when the model is not
/// clearly better than that. Only the simpler rules remain to be beaten.
pub(crate) fn simpler(package: &Package, known: &TrainingSet) -> Option<Package> {
    let (linear, baselines): (Vec<Baseline>, Vec<Baseline>) = package
        .baselines
        .iter()
        .cloned()
        .partition(|baseline| baseline.name == LINEAR);
    let fitted = linear.into_iter().next()?.fitted;
    let mut simpler = Package {
        fitted,
        baselines,
        calibrator: Calibrator::None,
        ..package.clone()
    };
    simpler.golden = golden(&simpler, &known.features);
    Some(simpler)
}

/// Persons are kept apart, so that calibration is learnt on people whom the trees have not seen. Both parts end at
/// the same time: recent rows are too precious to spend a gap on (see docs/adr/0007).
fn split_persons(known: &TrainingSet) -> (Vec<usize>, Vec<usize>) {
    let held_out = |row: &usize| known.entities[*row].rotate_left(17) % 10 < CALIBRATION_TENTHS;
    let (held_out, rows): (Vec<usize>, Vec<usize>) = (0..known.rows()).partition(held_out);
    if held_out.len() < CALIBRATION_ROWS_MIN {
        ((0..known.rows()).collect(), Vec::new())
    } else {
        (rows, held_out)
    }
}

fn calibrate(task: &Task, fitted: &Model, held_out: &TrainingSet) -> Calibrator {
    if held_out.rows() == 0 || *task == Task::Regression {
        return Calibrator::None;
    }
    let scores: Scores = fitted.predict(&held_out.features);
    calibration::choose(task, &scores, &held_out.targets, &held_out.weights).calibrator
}

fn fallback(task: &Task, constant: &Model, features: &FeatureTable) -> Answer {
    // a constant model answers any row alike
    answer(task, &constant.predict_row(&features.row(0)))
}

/// The rule with the pair of columns that explains its own training rows best: the strongest rule is the fairest
/// opponent.
fn recency_frequency(order: &Order<'_>, known: &TrainingSet) -> Option<Model> {
    let recency = known
        .features
        .columns()
        .iter()
        .filter(|column| column.unit == Unit::SecondsAgo);
    let pairs =
        recency.flat_map(|recency| order.counts.iter().map(move |count| (&recency.name, count)));
    let mut best: Option<(f64, Model)> = None;
    for (recency, frequency) in pairs.take(RULE_PAIRS_MAX) {
        let learner = RecencyFrequency::new(recency.clone(), frequency.clone());
        let Ok(model) = learner.fit(order.task, known, order.training.seed) else {
            continue;
        };
        let loss = training_loss(order.task, &model.predict(&known.features), &known.targets);
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, model));
        }
    }
    best.map(|(_, model)| model)
}

fn training_loss(task: &Task, scores: &Scores, targets: &[f64]) -> f64 {
    const LEAST: f64 = 1e-9;
    let loss = |row: usize, target: f64| {
        let scores = scores.row(row);
        match task {
            Task::Binary => -(if target > 0.5 {
                scores[0]
            } else {
                1.0 - scores[0]
            })
            .max(LEAST)
            .ln(),
            Task::Regression => (scores[0] - target).abs(),
            // a target is the place of its class, checked by the learner
            Task::Multiclass { .. } => -scores
                .get(target as usize)
                .copied()
                .unwrap_or(0.0)
                .max(LEAST)
                .ln(),
        }
    };
    targets
        .iter()
        .enumerate()
        .map(|(row, &target)| loss(row, target))
        .sum::<f64>()
        / targets.len().max(1) as f64
}

/// Rows spread over the whole training period, with what the package answers to them now.
fn golden(package: &Package, features: &FeatureTable) -> Vec<GoldenRow> {
    let step = (features.rows() / GOLDEN_ROWS).max(1);
    let rows = (0..features.rows()).step_by(step).take(GOLDEN_ROWS);
    rows.map(|row| {
        let features = features.row(row);
        let scores = package.scores(&features);
        GoldenRow { features, scores }
    })
    .collect()
}
