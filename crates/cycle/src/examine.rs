//! Examines a challenger on the newest rows, which neither it nor the champion was trained on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use tidemill_core::FeatureTable;
use tidemill_core::project::{GateRules, PredictModel, Problem, ProjectError};
use tidemill_evaluate::gate::{DataQuality, Gate, Strictness};
use tidemill_evaluate::slices::{Slice, SliceQuality, SliceSearch, slices};
use tidemill_evaluate::{
    AnswerDifference, Bootstrap, Check, Estimate, EvaluateError, Metric, Report, Rows, ScoresView,
    TaskKind, Verdict,
};
use tidemill_features::dataset::DatasetRecord;
use tidemill_learn::{Model, Task, TrainingSet};
use tidemill_serve::Package;

use crate::accepted::leak;
use crate::project_loop::CycleError;
use crate::speed::{fast, small};

/// Into how many groups numbers are cut for slices.
const NUMBER_GROUPS: usize = 4;

/// How good something was on the examined rows, by the metric that the gate compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// A baseline's name, or the champion's version.
    pub name: String,
    /// The metric.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// What the examination found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The metric that the gate compares.
    pub metric: Metric,
    /// The challenger.
    pub challenger: Report,
    /// The champion on the same rows.
    pub champion: Option<Compared>,
    /// The baselines on the same rows.
    pub baselines: Vec<Compared>,
    /// Where the challenger is worst.
    pub worst_slices: Vec<SliceQuality>,
    /// What people would be told otherwise than by the champion, on the same rows.
    #[serde(default)]
    pub difference: Option<AnswerDifference>,
    /// How the rows are beside those before them.
    #[serde(default)]
    pub data: Option<DataQuality>,
    /// The gate's decision with all its checks.
    pub verdict: Verdict,
}

impl Examination {
    /// The challenger by the metric that the gate compares.
    pub fn value(&self) -> Option<f64> {
        self.challenger.value(self.metric)
    }

    /// Its 95 % interval.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.challenger
            .metrics
            .iter()
            .find(|value| value.metric == self.metric)
            .and_then(|value| value.interval)
    }
}

/// The kind of question, as evaluation sees it.
pub fn task_kind(task: &Task) -> TaskKind {
    match task {
        Task::Binary => TaskKind::Binary,
        Task::Regression => TaskKind::Regression,
        Task::Multiclass { classes } => TaskKind::Multiclass {
            classes: classes.len(),
        },
    }
}

/// The metric that a model is judged by.
///
/// # Errors
/// When the project file names one that there is not, or one for another kind of question.
pub fn metric_of(model: &PredictModel, task: &Task) -> Result<Metric, ProjectError> {
    let Some(named) = &model.metric else {
        return Ok(Metric::primary(task_kind(task)));
    };
    let place = format!("models.{}.metric", model.name);
    parse_metric(&named.text, named.line, &place, task)
}

/// The minimums that a model must reach.
///
/// # Errors
/// Every metric that there is not.
pub fn minimums_of(model: &PredictModel, task: &Task) -> Result<Vec<(Metric, f64)>, ProjectError> {
    let place = format!("models.{}.gate.min", model.name);
    let minimums = model.gate.min.iter();
    minimums
        .map(|(name, value)| Ok((parse_metric(name, model.line, &place, task)?, *value)))
        .collect()
}

fn parse_metric(name: &str, line: usize, place: &str, task: &Task) -> Result<Metric, ProjectError> {
    let problem = |message: String| ProjectError {
        problems: vec![Problem {
            line,
            place: place.to_owned(),
            message,
            hint: None,
        }],
    };
    let metric: Metric = name
        .parse()
        .map_err(|error: EvaluateError| problem(error.to_string()))?;
    if metric.fits(task_kind(task)) {
        return Ok(metric);
    }
    let names: Vec<&str> = Metric::of(task_kind(task))
        .into_iter()
        .map(Metric::name)
        .collect();
    Err(problem(format!(
        "'{name}' does not fit this kind of question; these do: {}",
        names.join(", ")
    )))
}

/// What is examined, and by what rules.
pub(crate) struct Candidates<'a> {
    pub(crate) model: &'a PredictModel,
    pub(crate) challenger: &'a Package,
    pub(crate) champion: Option<(String, &'a Package)>,
    /// What the champion reads of the same rows, where it reads features that the challenger does not.
    pub(crate) champion_features: Option<&'a FeatureTable>,
    /// Why the champion that there is cannot be asked, in a sentence.
    pub(crate) not_compared: Option<&'a str>,
    /// The rows of the newest period with the challenger's columns.
    pub(crate) rows: &'a TrainingSet,
    /// The dataset that they are from.
    pub(crate) record: &'a DatasetRecord,
    /// What was found about that dataset.
    pub(crate) data: &'a (Vec<Check>, DataQuality),
    pub(crate) resamples: usize,
}

impl Candidates<'_> {
    /// The table in which the champion finds its features.
    fn features_of_champion(&self) -> &FeatureTable {
        self.champion_features.unwrap_or(&self.rows.features)
    }
}

/// Whether a version reads features that a table does not have.
pub(crate) fn reads_more(package: &Package, features: &FeatureTable) -> bool {
    let mut columns = package.columns.iter();
    columns.any(|column| features.index_of(&column.name).is_none())
}

/// Examines a challenger.
pub(crate) fn examine(candidates: &Candidates<'_>) -> Result<Examination, CycleError> {
    let Candidates {
        model,
        challenger,
        rows,
        ..
    } = candidates;
    let kind = task_kind(&challenger.task);
    let metric = metric_of(model, &challenger.task)?;
    let minimums = minimums_of(model, &challenger.task)?;
    let bootstrap = Bootstrap {
        resamples: candidates.resamples,
        seed: model.training.seed,
        ..Bootstrap::default()
    };
    let joined = Rows::new(kind, &rows.targets, &rows.weights, &rows.entities)?;

    let ours = scores_or_none(challenger, rows);
    let ours = ScoresView::new(kind.width(), &ours)?;
    let theirs: Vec<Vec<f64>> = challenger
        .baselines
        .iter()
        .map(|baseline| model_scores(&baseline.fitted, rows))
        .collect();
    let theirs: Vec<ScoresView<'_>> = theirs
        .iter()
        .map(|scores| ScoresView::new(kind.width(), scores))
        .collect::<Result<_, _>>()?;
    let reigning = candidates
        .champion
        .as_ref()
        .map(|(_, package)| champion_scores(package, candidates.features_of_champion()));
    let reigning = match (&candidates.champion, &reigning) {
        (Some((name, package)), Some(scores)) => Some(Reigning {
            name,
            package,
            scores: ScoresView::new(kind.width(), scores)?,
        }),
        _ => None,
    };
    let (further, difference) = further(candidates, &joined, &ours, reigning.as_ref())?;
    let baselines = challenger.baselines.iter().zip(&theirs);
    let mut verdict = Gate {
        rows: joined,
        metric,
        challenger: ours,
        baselines: baselines
            .clone()
            .map(|(b, scores)| (b.name.as_str(), called(&b.name), *scores))
            .collect(),
        champion: reigning.as_ref().map(|one| (one.name, one.scores)),
        slices: &declared_slices(model, rows)?,
        minimums: &minimums,
        further,
        strictness: Strictness {
            bootstrap,
            tolerance: model.gate.tolerance,
            ..Strictness::default()
        },
    }
    .decide()?;
    if let Some(why) = candidates.not_compared {
        let mut checks = verdict.checks.iter_mut();
        let of_champion = checks.find(|check| check.name == "champion");
        of_champion
            .into_iter()
            .for_each(|check| check.sentence = why.to_owned());
    }

    let compare = |name: &str, scores: &ScoresView<'_>| -> Result<Compared, EvaluateError> {
        let Estimate {
            value, interval, ..
        } = bootstrap.estimate(&joined, metric, scores)?;
        Ok(Compared {
            name: name.to_owned(),
            value,
            interval,
        })
    };
    let worst = SliceSearch::default().worst(&rows.features, &joined, &ours, metric);
    Ok(Examination {
        metric,
        challenger: match Report::new(&joined, &ours, &bootstrap) {
            Err(EvaluateError::Score { .. }) => Report::of_nothing(&joined),
            report => report?,
        },
        champion: reigning
            .map(|one| compare(one.name, &one.scores))
            .transpose()?,
        baselines: baselines
            .map(|(b, scores)| compare(&b.name, scores))
            .collect::<Result<_, _>>()?,
        worst_slices: without_unsound(worst)?,
        difference,
        data: Some(candidates.data.1.clone()),
        verdict,
    })
}

/// The version that answers, and what it says of the examined rows.
struct Reigning<'a> {
    name: &'a str,
    package: &'a Package,
    scores: ScoresView<'a>,
}

/// What is checked beyond targets and scores: the artifact, what changes for people, leaks, the data.
fn further(
    candidates: &Candidates<'_>,
    joined: &Rows<'_>,
    ours: &ScoresView<'_>,
    reigning: Option<&Reigning<'_>>,
) -> Result<(Vec<Check>, Option<AnswerDifference>), CycleError> {
    let rules = &candidates.model.gate;
    let (challenger, rows) = (candidates.challenger, candidates.rows);
    let mut checks = packaged(challenger, (rows, rules), joined, ours)?;
    checks.extend(fast(rows.rows(), rules, |row| {
        std::hint::black_box(challenger.scores(&rows.features.row(row)));
    }));
    let mut difference = None;
    if let Some(one) = reigning {
        difference = without_unsound(AnswerDifference::of(joined, &one.scores, ours).map(Some))?;
        checks.extend(difference.map(|difference| {
            let mut said = difference.sentence(one.name);
            said.push_str(&unread(one.package, candidates.features_of_champion()));
            changed(difference.changed(), said, rules)
        }));
    }
    checks.push(leak(
        rules,
        candidates.record,
        reigning.map(|one| one.package),
        joined,
        reigning.map(|one| &one.scores),
    )?);
    checks.extend(candidates.data.0.iter().cloned());
    Ok((checks, difference))
}

/// Which features the champion reads that the rows do not have: it answers them as if these were missing, and may be better than it looks.
fn unread(champion: &Package, features: &FeatureTable) -> String {
    let columns = champion.columns.iter().map(|column| column.name.as_str());
    let absent: Vec<&str> = columns
        .filter(|name| features.index_of(name).is_none())
        .collect();
    match absent.first() {
        None => String::new(),
        Some(first) => format!(
            "; it was asked without {} features that this version does not read, like {first}, and may be better with them",
            absent.len()
        ),
    }
}

/// What a baseline is called in a sentence.
pub fn called(baseline: &str) -> &'static str {
    match baseline {
        "constant" => "the constant",
        "recency_frequency" => "the recency/frequency rule",
        _ => "linear regression",
    }
}

/// Nothing, where scores are no numbers: the gate has a check for that.
fn without_unsound<T: Default>(found: Result<T, EvaluateError>) -> Result<T, EvaluateError> {
    match found {
        Err(EvaluateError::Score { .. }) => Ok(T::default()),
        found => found,
    }
}

/// The packaged bytes must read back and answer every golden row to the bit, and every examined row as the trained one did: a
/// version beside itself differs by nothing.
fn packaged(
    package: &Package,
    (rows, rules): (&TrainingSet, &GateRules),
    joined: &Rows<'_>,
    ours: &ScoresView<'_>,
) -> Result<Vec<Check>, CycleError> {
    let golden = package.golden.len() as f64;
    let bytes = package.to_bytes();
    let size = bytes.as_ref().ok().map(|bytes| small(bytes.len(), rules));
    let result = bytes.and_then(|bytes| Package::from_bytes(&bytes));
    let sentence = match &result {
        Ok(_) => format!("the packaged model answers all {golden} golden rows as the trainer did"),
        Err(error) => format!("the packaged model is not the trained one: {error}"),
    };
    let value = if result.is_ok() { golden } else { 0.0 };
    let mut checks = vec![Check {
        passed: result.is_ok(),
        ..Check::at_least("packaged", value, golden, sentence)
    }];
    checks.extend(size);
    // bytes that cannot be read have failed already
    if let Ok(packaged) = result {
        let again = scores_or_none(&packaged, rows);
        let again = ScoresView::new(ours.width(), &again)?;
        let itself = without_unsound(AnswerDifference::of(joined, ours, &again).map(Some))?;
        checks.extend(itself.map(|itself| {
            let sentence = format!(
                "asked again as it is packaged, it differs from itself by {} at most on {} rows",
                itself.largest, itself.rows
            );
            Check::at_most("answers:again", itself.largest, 0.0, sentence)
        }));
    }
    Ok(checks)
}

/// What people would be told otherwise than by the champion, a share from 0 to 1 and in words: reported, and limited where the project
/// file says so.
pub(crate) fn changed(share: f64, said: String, rules: &GateRules) -> Check {
    let sentence = match rules.change_max {
        Some(most) => format!("{said}; {:.1} % may change (gate.change_max)", most * 100.0),
        None => format!("{said}; as many as there are may change, as there is no gate.change_max"),
    };
    Check::at_most(
        "answers:champion",
        share,
        rules.change_max.unwrap_or(1.0),
        sentence,
    )
}

/// The scores of a challenger; no numbers where it panics, which is for the gate to say.
fn scores_or_none(package: &Package, rows: &TrainingSet) -> Vec<f64> {
    let scores = AssertUnwindSafe(|| package_scores(package, rows));
    let none = || vec![f64::NAN; rows.rows() * package.task.width()];
    catch_unwind(scores).unwrap_or_else(|_| none())
}

fn package_scores(package: &Package, rows: &TrainingSet) -> Vec<f64> {
    let mut scores = Vec::with_capacity(rows.rows() * package.task.width());
    for row in 0..rows.rows() {
        scores.extend(package.scores(&rows.features.row(row)));
    }
    scores
}

/// The champion may know fewer or other columns; by name, what it does not find is missing.
fn champion_scores(package: &Package, rows: &FeatureTable) -> Vec<f64> {
    let places: Vec<Option<usize>> = package
        .columns
        .iter()
        .map(|column| rows.index_of(&column.name))
        .collect();
    let mut scores = Vec::with_capacity(rows.rows() * package.task.width());
    for row in 0..rows.rows() {
        let value = |place: &Option<usize>| {
            place.map_or_else(Default::default, |place| rows.value(row, place))
        };
        let features: Vec<_> = places.iter().map(value).collect();
        scores.extend(package.scores(&features));
    }
    scores
}

fn model_scores(model: &Model, rows: &TrainingSet) -> Vec<f64> {
    model.predict(&rows.features).values().to_vec()
}

fn declared_slices(model: &PredictModel, rows: &TrainingSet) -> Result<Vec<Slice>, ProjectError> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for name in &model.gate.slices {
        match rows.features.index_of(name) {
            Some(column) => found.extend(slices(&rows.features, column, NUMBER_GROUPS)),
            None => problems.push(Problem {
                line: model.line,
                place: format!("models.{}.gate.slices", model.name),
                message: format!("'{name}' is not a feature of this model"),
                hint: None,
            }),
        }
    }
    ProjectError::check(problems)?;
    Ok(found)
}

#[cfg(test)]
mod planted;
