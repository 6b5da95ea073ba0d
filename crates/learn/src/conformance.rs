//! What every learner promises, as a suite that any of them can be put through.
//!
//! ```
//! use tidemill_learn::{Constant, conformance};
//!
//! conformance::check(&Constant).expect("the constant learner keeps every promise");
//! ```

use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureType, FeatureValue, Unit};

use crate::{LearnError, Learner, Model, Task, TrainingSet};

/// The number columns that the suite's data has, for learners that are told names: seconds since the last event
/// (missing for some) and a count.
pub const COLUMNS: (&str, &str) = ("user.last_order", "user.orders_90d");

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("keep the promise '{promise}' with {learner}: {found}")]
pub struct BrokenPromise {
    /// The learner's name.
    pub learner: String,
    /// Which promise.
    pub promise: &'static str,
    /// What happened instead.
    pub found: String,
}

/// Puts a learner through all tasks and edge cases:
/// the same inputs and seed give the same bytes; answers are finite and in range, and those of several classes sum to
/// one; what is missing, never seen or of the wrong type is answered; constant targets, constant features, a single
/// row and rows of weight zero are learnt from; no rows are refused; a stored model answers bit for bit the same; one
/// row is answered bit for bit as in a batch; contributions and bias add up to the raw score.
///
/// # Errors
/// The first promise that is not kept.
pub fn check(learner: &dyn Learner) -> Result<(), BrokenPromise> {
    let classes = || vec!["buys".to_owned(), "leaves".to_owned(), "stays".to_owned()];
    for task in [
        Task::Binary,
        Task::Regression,
        Task::Multiclass { classes: classes() },
    ] {
        let suite = Suite { learner, task };
        suite.usual()?;
        suite.constant_target()?;
        suite.constant_features()?;
        suite.single_row()?;
        suite.weight_zero()?;
        suite.no_rows()?;
    }
    Ok(())
}

struct Suite<'a> {
    learner: &'a dyn Learner,
    task: Task,
}

impl Suite<'_> {
    fn broken(&self, promise: &'static str, found: impl std::fmt::Display) -> BrokenPromise {
        BrokenPromise {
            learner: self.learner.name().to_owned(),
            promise,
            found: format!("{found} (task {:?})", self.task),
        }
    }

    fn fit(&self, set: &TrainingSet, promise: &'static str) -> Result<Model, BrokenPromise> {
        let model = self
            .learner
            .fit(&self.task, set, 7)
            .map_err(|error| self.broken(promise, error))?;
        if model.task() != &self.task || model.columns() != set.features.columns() {
            return Err(self.broken(promise, "the model has another task or other columns"));
        }
        Ok(model)
    }

    fn usual(&self) -> Result<(), BrokenPromise> {
        let set = rows(400, &self.task);
        let model = self.fit(&set, "learns from rows")?;
        let again = self.fit(&set, "learns from rows")?;
        let stored =
            serde_json::to_string(&model).map_err(|error| self.broken("can be stored", error))?;
        if serde_json::to_string(&again).ok().as_deref() != Some(&stored) {
            return Err(self.broken(
                "the same inputs and seed give the same bytes",
                "two models differ",
            ));
        }
        let loaded: Model = serde_json::from_str(&stored)
            .map_err(|error| self.broken("can be read back", error))?;
        if loaded != model || serde_json::to_string(&loaded).ok().as_deref() != Some(&stored) {
            return Err(self.broken("can be read back", "the model read back differs"));
        }
        self.answers(&model, &set.features)?;
        self.answers(&loaded, &strange())?;
        for table in [&set.features, &strange()] {
            if !same_bits(
                model.predict(table).values(),
                loaded.predict(table).values(),
            ) {
                return Err(self.broken("a stored model answers the same", "scores differ"));
            }
        }
        Ok(())
    }

    fn constant_target(&self) -> Result<(), BrokenPromise> {
        let mut set = rows(60, &self.task);
        set.targets.fill(1.0);
        let model = self.fit(&set, "learns from a constant target")?;
        self.answers(&model, &set.features)
    }

    fn constant_features(&self) -> Result<(), BrokenPromise> {
        let mut set = rows(60, &self.task);
        set.features = set.features.take(&[0; 60]);
        let model = self.fit(&set, "learns from constant features")?;
        self.answers(&model, &rows(30, &self.task).features)
    }

    fn single_row(&self) -> Result<(), BrokenPromise> {
        let set = rows(1, &self.task);
        let model = self.fit(&set, "learns from a single row")?;
        self.answers(&model, &strange())
    }

    fn weight_zero(&self) -> Result<(), BrokenPromise> {
        let mut set = rows(60, &self.task);
        for weight in set.weights.iter_mut().step_by(2) {
            *weight = 0.0;
        }
        let model = self.fit(&set, "learns beside rows of weight zero")?;
        self.answers(&model, &set.features)
    }

    fn no_rows(&self) -> Result<(), BrokenPromise> {
        let set = rows(1, &self.task).take(&[]);
        match self.learner.fit(&self.task, &set, 7) {
            Err(LearnError::NoRows) => Ok(()),
            Err(error) => Err(self.broken("refuses no rows", error)),
            Ok(_) => Err(self.broken("refuses no rows", "made a model of nothing")),
        }
    }

    /// Checks all answers about a table.
    fn answers(&self, model: &Model, table: &FeatureTable) -> Result<(), BrokenPromise> {
        let scores = model.predict(table);
        if scores.rows() != table.rows() || scores.width() != self.task.width() {
            return Err(self.broken(
                "answers every row",
                format!("{} × {}", scores.rows(), scores.width()),
            ));
        }
        for index in 0..table.rows() {
            let (row, answer) = (table.row(index), scores.row(index));
            if !self.in_range(answer) {
                return Err(self.broken("answers in range", format!("{answer:?} for {row:?}")));
            }
            if !same_bits(&model.predict_row(&row), answer) {
                return Err(
                    self.broken("one row is answered as in a batch", format!("row {index}"))
                );
            }
            for (output, raw) in model.raw_row(&row).into_iter().enumerate() {
                let sum: f64 = model.contributions_to(&row, output).iter().sum();
                if (sum - raw).abs() > 1e-9 * (1.0 + raw.abs()) {
                    return Err(
                        self.broken("contributions add up", format!("{sum} instead of {raw}"))
                    );
                }
            }
        }
        Ok(())
    }

    fn in_range(&self, answer: &[f64]) -> bool {
        let probability = |value: &f64| (0.0..=1.0).contains(value);
        match self.task {
            Task::Regression => answer[0].is_finite(),
            Task::Binary => probability(&answer[0]),
            Task::Multiclass { .. } => {
                answer.iter().all(probability) && (answer.iter().sum::<f64>() - 1.0).abs() < 1e-9
            }
        }
    }
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A table of five columns and a target that depends on them; the same for the same arguments.
fn rows(count: usize, task: &Task) -> TrainingSet {
    let mut state = 42;
    let mut features = FeatureTable::new(columns());
    let (mut targets, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let orders = (uniform(&mut state) * uniform(&mut state) * 12.0).floor();
        let recency = if orders == 0.0 {
            f64::NAN
        } else {
            uniform(&mut state) * 90.0 * 86_400.0
        };
        let country = ["de", "fr", "at", "ch", "li"][(uniform(&mut state).powi(2) * 5.0) as usize];
        let spend = orders * (1.0 + 40.0 * uniform(&mut state));
        features.push(&[
            FeatureValue::number(recency),
            FeatureValue::number(orders),
            if uniform(&mut state) < 0.1 {
                FeatureValue::Missing
            } else {
                FeatureValue::Category(country.into())
            },
            FeatureValue::number(if uniform(&mut state) < 0.2 {
                f64::NAN
            } else {
                spend
            }),
            FeatureValue::Number(5.0),
        ]);
        let lift =
            0.1 * orders + if country == "de" { 0.3 } else { 0.0 } + 0.4 * uniform(&mut state);
        targets.push(match task {
            Task::Binary => f64::from(u8::from(lift > 0.6)),
            Task::Regression => {
                if lift > 0.5 {
                    30.0 * lift * lift
                } else {
                    0.0
                }
            }
            Task::Multiclass { .. } => (lift * 2.5).floor().min(2.0),
        });
        weights.push(if uniform(&mut state) < 0.5 { 1.0 } else { 2.5 });
    }
    let entities = (0..count as u64).map(|row| row / 3).collect();
    TrainingSet {
        features,
        targets,
        weights,
        entities,
    }
}

/// Rows unlike any in training: all missing, never-seen categories, extreme numbers.
fn strange() -> FeatureTable {
    let mut table = FeatureTable::new(columns());
    let number = FeatureValue::Number;
    let category = |name: &str| FeatureValue::Category(name.into());
    let missing = || FeatureValue::Missing;
    table.push(&[missing(), missing(), missing(), missing(), missing()]);
    table.push(&[
        number(1e300),
        number(-1e300),
        category("never seen"),
        number(f64::MIN_POSITIVE),
        number(-0.0),
    ]);
    table.push(&[
        number(-5.0),
        number(1e9),
        category(""),
        number(f64::MAX),
        number(f64::MIN),
    ]);
    table
}

fn columns() -> Vec<FeatureColumn> {
    let column = |name: &str, label: &str, feature_type, unit| FeatureColumn {
        name: name.to_owned(),
        feature_type,
        label: label.to_owned(),
        unit,
    };
    vec![
        column(
            COLUMNS.0,
            "last order",
            FeatureType::Number,
            Unit::SecondsAgo,
        ),
        column(
            COLUMNS.1,
            "orders in the last 90 days",
            FeatureType::Number,
            Unit::Plain,
        ),
        column(
            "user.country",
            "country",
            FeatureType::Category,
            Unit::Plain,
        ),
        column(
            "user.spend_90d",
            "spend in the last 90 days",
            FeatureType::Number,
            Unit::Plain,
        ),
        column(
            "user.constant",
            "constant",
            FeatureType::Number,
            Unit::Plain,
        ),
    ]
}

/// SplitMix64 (Steele, Lea and Flood 2014), scaled to [0, 1).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Boosted, Constant, Linear, RecencyFrequency};

    #[test]
    fn constant_keeps_every_promise() {
        check(&Constant).unwrap();
    }

    #[test]
    fn recency_frequency_keeps_every_promise() {
        check(&RecencyFrequency::new(COLUMNS.0, COLUMNS.1)).unwrap();
    }

    #[test]
    fn linear_keeps_every_promise() {
        check(&Linear::default()).unwrap();
    }

    #[test]
    fn boosted_keeps_every_promise() {
        check(&Boosted::default()).unwrap();
    }

    /// The suite finds what it looks for.
    #[test]
    fn a_learner_that_keeps_no_promise_is_found_out() {
        struct Careless;
        impl Learner for Careless {
            fn name(&self) -> &str {
                "careless"
            }
            fn fit(
                &self,
                task: &Task,
                train: &TrainingSet,
                seed: u64,
            ) -> Result<Model, LearnError> {
                let mut set = train.clone();
                set.targets.iter_mut().for_each(|target| *target += 1.0);
                Constant
                    .fit(&Task::Regression, &set, seed)
                    .and(Constant.fit(task, train, seed))?;
                Constant.fit(&Task::Regression, &set, seed)
            }
        }
        assert!(check(&Careless).is_err());
    }
}
