//! Linear models: the baseline that everything complicated has to beat.

mod design;
mod solve;

use design::{Design, Part, SparseRows};
use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureValue};

use crate::constant::base_scores;
use crate::link::{logit, sigmoid, softmax};
use crate::target::{TargetForm, is_skewed, tweedie_deviance};
use crate::{LearnError, Learner, Model, Task, TrainingSet};

/// Logistic regression, ridge regression or multinomial logistic regression with an L2 penalty.
///
/// Numbers are standardised (skewed ones ≥ 0 also by their logarithm) and drawn in beyond 8 standard deviations; what is
/// missing is the mean, with an indicator. Categories have one coefficient each. A regression on skewed
/// non-negative targets also tries ln(1 + value) with Duan's smearing and keeps what has the smaller Tweedie
/// deviance on the newest quarter of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// The penalty is `l2 / 2 · Σ coefficient²` beside the summed loss; the intercept is free. ≥ 0, default 1.
    pub l2: f64,
    /// Steps of L-BFGS at most. Default 100.
    pub iterations_max: usize,
    /// A category with fewer rows is "other". Default 10.
    pub category_rows_min: usize,
    /// The most frequent categories have a coefficient of their own. Default 50.
    pub categories_max: usize,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            l2: 1.0,
            iterations_max: 100,
            category_rows_min: 10,
            categories_max: 50,
        }
    }
}

/// See [`Linear`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearModel {
    pub(crate) task: Task,
    design: Design,
    outputs: Vec<Output>,
    /// For regression.
    form: Option<TargetForm>,
}

/// The coefficients of one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Output {
    intercept: f64,
    coefficients: Vec<f64>,
}

impl Learner for Linear {
    fn name(&self) -> &str {
        "linear"
    }

    fn fit(&self, task: &Task, train: &TrainingSet, _seed: u64) -> Result<Model, LearnError> {
        train.check(task)?;
        if !(self.l2.is_finite() && self.l2 >= 0.0) {
            return Err(LearnError::Parameter {
                name: "l2",
                value: self.l2,
                allowed: "0 or more",
            });
        }
        Ok(Model::Linear(match task {
            Task::Regression => {
                let form = self.choose_form(train);
                self.regression(train, form)
            }
            Task::Binary | Task::Multiclass { .. } => self.classification(task, train),
        }))
    }
}

impl Linear {
    fn design(&self, train: &TrainingSet) -> Design {
        Design::fit(
            &train.features,
            &train.weights,
            self.category_rows_min,
            self.categories_max,
        )
    }

    /// Logistic regression for two classes, multinomial for more.
    fn classification(&self, task: &Task, train: &TrainingSet) -> LinearModel {
        let design = self.design(train);
        let rows = design.rows(&train.features);
        let stride = design.width + 1;
        let shares = base_scores(task, &train.targets, &train.weights);
        let mut start = vec![0.0; stride * shares.len()];
        for (output, share) in shares.iter().enumerate() {
            start[output * stride + design.width] = if shares.len() == 1 {
                logit(*share)
            } else {
                share.ln()
            };
        }
        let total: f64 = train.weights.iter().sum();
        let found = solve::minimise(start, self.iterations_max, |x, gradient| {
            gradient.fill(0.0);
            let loss = if shares.len() == 1 {
                logistic_loss(&rows, train, x, gradient)
            } else {
                multinomial_loss(&rows, train, stride, x, gradient)
            };
            self.penalised(loss, total, stride, x, gradient)
        });
        LinearModel {
            task: task.clone(),
            outputs: outputs(&found, stride),
            design,
            form: None,
        }
    }

    /// Adds the penalty and divides everything by the weight of all rows, so that steps are of order one.
    fn penalised(
        &self,
        mut loss: f64,
        total: f64,
        stride: usize,
        x: &[f64],
        gradient: &mut [f64],
    ) -> f64 {
        for (place, (entry, x)) in gradient.iter_mut().zip(x).enumerate() {
            if place % stride != stride - 1 {
                loss += 0.5 * self.l2 * x * x;
                *entry += self.l2 * x;
            }
            *entry /= total;
        }
        loss / total
    }

    fn regression(&self, train: &TrainingSet, form: TargetForm) -> LinearModel {
        let design = self.design(train);
        let rows = design.rows(&train.features);
        let stride = design.width + 1;
        let total: f64 = train.weights.iter().sum();
        let targets: Vec<f64> = train
            .targets
            .iter()
            .map(|&target| form.raw_target(target))
            .collect();
        let mean = base_scores(&Task::Regression, &targets, &train.weights)[0];
        let spread = targets
            .iter()
            .zip(&train.weights)
            .map(|(y, w)| w * (y - mean).powi(2))
            .sum::<f64>()
            / total;
        // In units of its own spread the target is of order one, as the minimiser's stopping rule expects.
        let unit = if spread > 0.0 { spread.sqrt() } else { 1.0 };
        let mut found = solve::minimise(vec![0.0; stride], self.iterations_max, |x, gradient| {
            gradient.fill(0.0);
            let mut loss = 0.0;
            for (row, (target, weight)) in targets.iter().zip(&train.weights).enumerate() {
                let error = rows.dot(row, x) + x[stride - 1] - (target - mean) / unit;
                loss += 0.5 * weight * error * error;
                rows.add_to(row, weight * error, gradient);
                gradient[stride - 1] += weight * error;
            }
            self.penalised(loss, total, stride, x, gradient)
        });
        found.iter_mut().for_each(|entry| *entry *= unit);
        found[stride - 1] += mean;
        let outputs = outputs(&found, stride);
        let raw: Vec<f64> = (0..rows.len())
            .map(|row| rows.dot(row, &outputs[0].coefficients) + outputs[0].intercept)
            .collect();
        let form = form
            .bounded(&raw)
            .smeared(&raw, &train.targets, &train.weights);
        LinearModel {
            task: Task::Regression,
            design,
            outputs,
            form: Some(form),
        }
    }

    fn choose_form(&self, train: &TrainingSet) -> TargetForm {
        /// Below this, the newest quarter is too small to tell forms apart.
        const ROWS_MIN: usize = 200;
        let identity = TargetForm::Identity {
            floor: train
                .targets
                .iter()
                .all(|target| *target >= 0.0)
                .then_some(0.0),
        };
        if train.rows() < ROWS_MIN || !is_skewed(&train.targets, &train.weights) {
            return identity;
        }
        let (older, newer) = train.older_and_newer(0.25);
        let (older, newer) = (train.take(&older), train.take(&newer));
        let log1p = TargetForm::log1p(&train.targets);
        let deviance = |form| {
            let mut predictions = Vec::with_capacity(newer.rows());
            self.regression(&older, form)
                .predict_table(&newer.features, &mut predictions);
            tweedie_deviance(&newer.targets, &predictions, &newer.weights)
        };
        if deviance(log1p) < deviance(identity) {
            log1p
        } else {
            identity
        }
    }
}

fn outputs(found: &[f64], stride: usize) -> Vec<Output> {
    found
        .chunks_exact(stride)
        .map(|chunk| Output {
            intercept: chunk[stride - 1],
            coefficients: chunk[..stride - 1].to_vec(),
        })
        .collect()
}

/// Σ w · (ln(1 + e^raw) − y · raw), and its gradient.
fn logistic_loss(rows: &SparseRows, train: &TrainingSet, x: &[f64], gradient: &mut [f64]) -> f64 {
    let last = x.len() - 1;
    let mut loss = 0.0;
    for row in 0..rows.len() {
        let raw = rows.dot(row, x) + x[last];
        let (target, weight) = (train.targets[row], train.weights[row]);
        loss += weight * (raw.max(0.0) + (-raw.abs()).exp().ln_1p() - target * raw);
        let error = weight * (sigmoid(raw) - target);
        rows.add_to(row, error, gradient);
        gradient[last] += error;
    }
    loss
}

/// Σ w · −ln softmax(raw)[class], and its gradient.
fn multinomial_loss(
    rows: &SparseRows,
    train: &TrainingSet,
    stride: usize,
    x: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let mut loss = 0.0;
    let mut scores = vec![0.0; x.len() / stride];
    for row in 0..rows.len() {
        for (score, x) in scores.iter_mut().zip(x.chunks_exact(stride)) {
            *score = rows.dot(row, &x[..stride - 1]) + x[stride - 1];
        }
        softmax(&mut scores);
        let (class, weight) = (train.targets[row] as usize, train.weights[row]);
        loss -= weight * scores[class].max(1e-300).ln();
        scores[class] -= 1.0;
        for (score, gradient) in scores.iter().zip(gradient.chunks_exact_mut(stride)) {
            rows.add_to(row, weight * score, gradient);
            gradient[stride - 1] += weight * score;
        }
    }
    loss
}

impl LinearModel {
    pub(crate) fn columns(&self) -> &[FeatureColumn] {
        self.design.encoder.columns()
    }

    fn raw(&self, encoded: &[f64], scores: &mut Vec<f64>) {
        let start = scores.len();
        scores.extend(self.outputs.iter().map(|output| output.intercept));
        for (column, &value) in encoded.iter().enumerate() {
            self.design.terms(column, value, |place, term| {
                for (score, output) in scores[start..].iter_mut().zip(&self.outputs) {
                    *score += output.coefficients[place] * term;
                }
            });
        }
    }

    fn answer(&self, encoded: &[f64], scores: &mut Vec<f64>) {
        let start = scores.len();
        self.raw(encoded, scores);
        let scores = &mut scores[start..];
        match (&self.task, self.form) {
            (Task::Regression, Some(form)) => scores[0] = form.value(scores[0]),
            (Task::Regression, None) => {}
            (Task::Binary, _) => scores[0] = sigmoid(scores[0]),
            (Task::Multiclass { .. }, _) => softmax(scores),
        }
    }

    fn encoded(&self, row: &[FeatureValue]) -> Vec<f64> {
        let mut encoded = Vec::with_capacity(row.len());
        self.design.encoder.encode_row(row, &mut encoded);
        encoded
    }

    pub(crate) fn predict_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        let mut scores = Vec::with_capacity(self.outputs.len());
        self.answer(&self.encoded(row), &mut scores);
        scores
    }

    pub(crate) fn predict_table(&self, table: &FeatureTable, scores: &mut Vec<f64>) {
        let encoder = &self.design.encoder;
        let columns: Vec<Vec<f64>> = (0..table.columns().len())
            .map(|column| encoder.encode_column(column, table.values(column)))
            .collect();
        let mut row = Vec::with_capacity(columns.len());
        for index in 0..table.rows() {
            row.clear();
            row.extend(columns.iter().map(|column| column[index]));
            self.answer(&row, scores);
        }
    }

    pub(crate) fn raw_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        let mut scores = Vec::with_capacity(self.outputs.len());
        self.raw(&self.encoded(row), &mut scores);
        scores
    }

    /// Coefficient × distance from the training mean: the Shapley values of a linear model with independent
    /// features (Štrumbelj and Kononenko 2014).
    pub(crate) fn contributions(&self, row: &[FeatureValue], output: usize) -> Vec<f64> {
        let output = &self.outputs[output];
        let mut contributions = vec![0.0; row.len() + 1];
        let mut bias = output.intercept;
        for (column, value) in self.encoded(row).into_iter().enumerate() {
            let mean = match &self.design.parts[column] {
                Part::Unused => 0.0,
                Part::Number {
                    at,
                    scales,
                    missing_share,
                } if *missing_share > 0.0 => missing_share * output.coefficients[at + scales.len()],
                Part::Number { .. } => 0.0,
                Part::Category { at, shares } => shares
                    .iter()
                    .zip(&output.coefficients[*at..])
                    .map(|(share, c)| share * c)
                    .sum(),
            };
            bias += mean;
            contributions[column] -= mean;
            self.design.terms(column, value, |place, term| {
                contributions[column] += output.coefficients[place] * term;
            });
        }
        contributions[row.len()] = bias;
        contributions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::feature::{FeatureType, Unit};

    fn numbers(rows: &[[f64; 2]]) -> FeatureTable {
        let column = |name: &str| FeatureColumn {
            name: name.into(),
            feature_type: FeatureType::Number,
            label: name.into(),
            unit: Unit::Plain,
        };
        let mut table = FeatureTable::new(vec![column("a"), column("b")]);
        for row in rows {
            table.push(&row.map(FeatureValue::number));
        }
        table
    }

    #[test]
    fn a_straight_line_is_found() {
        let rows: Vec<[f64; 2]> = (0..200)
            .map(|i| [f64::from(i % 17), f64::from(i % 23)])
            .collect();
        let targets = rows.iter().map(|[a, b]| 3.0 * a - 2.0 * b + 7.0).collect();
        let set = TrainingSet::unweighted(numbers(&rows), targets).unwrap();
        let learner = Linear {
            l2: 0.0,
            ..Linear::default()
        };
        let model = learner.fit(&Task::Regression, &set, 0).unwrap();
        let found = model.predict_row(&[FeatureValue::Number(5.0), FeatureValue::Number(11.0)])[0];
        assert!((found - 0.0).abs() < 1e-3, "{found}");
    }

    #[test]
    fn the_odds_of_a_logistic_law_are_found() {
        // Exactly the expected shares at each point, as weights: the maximum likelihood is the law itself.
        let mut rows = Vec::new();
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for step in -20..=20 {
            let a = f64::from(step) / 10.0;
            let p = sigmoid(0.5 + 1.5 * a);
            for (target, weight) in [(1.0, p), (0.0, 1.0 - p)] {
                rows.push([a, 0.0]);
                targets.push(target);
                weights.push(100.0 * weight);
            }
        }
        let mut set = TrainingSet::unweighted(numbers(&rows), targets).unwrap();
        set.weights = weights;
        let model = Linear {
            l2: 0.0,
            ..Linear::default()
        }
        .fit(&Task::Binary, &set, 0)
        .unwrap();
        let raw = |a: f64| model.raw_row(&[FeatureValue::Number(a), FeatureValue::Number(0.0)])[0];
        assert!((raw(0.0) - 0.5).abs() < 1e-3, "{}", raw(0.0));
        assert!((raw(1.0) - 2.0).abs() < 1e-3, "{}", raw(1.0));
    }

    #[test]
    fn a_skewed_target_is_learnt_by_its_logarithm() {
        let rows: Vec<[f64; 2]> = (0..2_000)
            .map(|i| [f64::from(i * 7 % 101) / 10.0, f64::from(i * 13 % 11)])
            .collect();
        let targets = rows
            .iter()
            .map(|[a, b]| (0.6 * a + 0.1 * b).exp() - 1.0)
            .collect();
        let set = TrainingSet::unweighted(numbers(&rows), targets).unwrap();
        let model = Linear::default().fit(&Task::Regression, &set, 0).unwrap();
        let Model::Linear(linear) = &model else {
            panic!("a linear model")
        };
        assert!(matches!(linear.form, Some(TargetForm::Log1p { .. })));
        let found = model.predict_row(&[FeatureValue::Number(5.0), FeatureValue::Number(5.0)])[0];
        let expected = 3.5_f64.exp() - 1.0;
        assert!(
            (found / expected - 1.0).abs() < 0.1,
            "{found} is not {expected}"
        );
    }
}
