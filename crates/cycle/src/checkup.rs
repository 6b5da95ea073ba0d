//! The check-up: what nobody asks for in a hurry and everybody wants to know later. Now and then the loop measures by itself how much
//! versions lose as they grow old, whether examinations keep their promises, and whether the way from rows to answers still works.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::{ModelName, Span, Timestamp};

use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// How often a model is looked over.
pub const CHECKUP_EVERY: Span = Span::from_days(84);
/// The newest check-up, by model.
const CHECKUPS: &str = "checkups";
/// The newest versions of which it is compared what was promised with what came.
const PROMISES_MAX: usize = 8;
/// A version with fewer answers says nothing.
const ANSWERS_MIN: usize = 100;

/// What a model's check-up has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkup {
    /// When.
    pub at: Timestamp,
    /// What examinations promised and what came, by version, the oldest first.
    pub promises: Vec<Promise>,
    /// What could not be looked at, and why.
    pub left_out: Vec<String>,
}

/// What a version's examination promised, and what its answers were worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// The version.
    pub version: u32,
    /// The metric.
    pub metric: String,
    /// The 95 % interval of the examination.
    pub promised: (f64, f64),
    /// The 95 % interval of its answers.
    pub live: (f64, f64),
    /// The answers.
    pub answers: usize,
}

impl Promise {
    /// Whether both can be true.
    pub fn is_kept(&self) -> bool {
        self.live.1 >= self.promised.0 && self.promised.1 >= self.live.0
    }
}

impl ProjectLoop {
    /// Looks over the models whose last check-up is long enough ago and that answer with a version.
    ///
    /// # Errors
    /// When the state store fails. What cannot be looked at is written into the check-up.
    pub async fn check_up_due(self: &Arc<Self>) -> Result<(), CycleError> {
        let now = self.clock.now();
        let mut due = Vec::new();
        for model in self.project.model_names() {
            let since = match self.last_checkup(model)? {
                Some(last) => Some(last.at),
                None => self.first_answered(model).await?,
            };
            if since.is_some_and(|since| now.since(since) >= CHECKUP_EVERY) {
                due.push(model.clone());
            }
        }
        let lanes = self.training.lanes(due.len());
        let mut checking = Vec::new();
        for model in due {
            let (this, lane) = (self.clone(), lanes.free().await?);
            let check_up = async move { this.look_over(&model, lane).await };
            checking.push(self.background().spawn(check_up));
        }
        for check_up in checking {
            let ended = check_up.await;
            ended.map_err(|_| CycleError::Ended("a check-up"))??;
        }
        Ok(())
    }

    /// Since when a version has answered, be it another one now.
    async fn first_answered(&self, model: &ModelName) -> Result<Option<Timestamp>, CycleError> {
        let (catalog, name) = (&self.stores.catalog, &self.project.name);
        let champions = catalog.champions(name, model, u32::MAX).await?;
        Ok(champions.last().map(|(first, _)| *first))
    }

    /// Looks a model over.
    ///
    /// # Errors
    /// When the state store fails. What cannot be looked at is written into the check-up.
    pub async fn check_up(self: &Arc<Self>, model: &ModelName) -> Result<Checkup, CycleError> {
        self.check_model(model)?;
        let lane = self.training.lanes(1).free().await?;
        let (this, model) = (self.clone(), model.clone());
        self.beside(async move { this.look_over(&model, lane).await })
            .await
    }

    async fn look_over(
        self: &Arc<Self>,
        model: &ModelName,
        lane: Lane,
    ) -> Result<Checkup, CycleError> {
        let mut left_out = Vec::new();
        let mut note = |what: &str, error: &CycleError| {
            left_out.push(format!("{what}: {}", describe(error)));
        };
        if self.is_recommender(model) {
            if let Err(error) = self.age_of_lists(model).await {
                note("staleness", &error);
            }
        } else {
            match self.newest_rows(model).await {
                Ok(rows) => {
                    let rows = Arc::new(rows);
                    if let Err(error) = self.age_of_answers(model, rows.clone(), &lane).await {
                        note("staleness", &error);
                    }
                    if let Err(error) = self.rehearse_on(model, &rows, &lane).await {
                        note("rehearsal", &error);
                    }
                }
                Err(error) => {
                    note("staleness", &error);
                    note("rehearsal", &error);
                }
            }
        }
        let promises = match self.promises(model).await {
            Ok(promises) => promises,
            Err(error) => {
                note("promises", &error);
                Vec::new()
            }
        };
        let checkup = Checkup {
            at: self.clock.now(),
            promises,
            left_out,
        };
        let place = (CHECKUPS, model.as_str());
        self.keep(place, &checkup, "encode a check-up")?;
        Ok(checkup)
    }

    /// The newest check-up of a model.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub fn last_checkup(&self, model: &ModelName) -> Result<Option<Checkup>, CycleError> {
        let place = (CHECKUPS, model.as_str());
        self.kept(place, || format!("the check-up of {model}"))
    }

    /// What the examinations of the newest versions promised, and what their answers were worth. What was found before is not
    /// measured again: the horizon of those answers had passed.
    async fn promises(&self, model: &ModelName) -> Result<Vec<Promise>, CycleError> {
        let name = &self.project.name;
        let mut known = self
            .last_checkup(model)?
            .map_or_else(Vec::new, |last| last.promises);
        let champions = self.stores.catalog.champions(name, model, 1_000).await?;
        let mut until = self.clock.now();
        let mut found = Vec::new();
        for (since, number) in champions {
            let Some(number) = number else {
                until = since;
                continue;
            };
            if found.len() == PROMISES_MAX {
                break;
            }
            let before = known.iter().position(|known| known.version == number);
            let promise = match before {
                Some(place) => Some(known.swap_remove(place)),
                None => self.promise(model, number, since, until).await?,
            };
            found.extend(promise);
            until = since;
        }
        found.reverse();
        Ok(found)
    }

    async fn promise(
        &self,
        model: &ModelName,
        number: u32,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Promise>, CycleError> {
        let (metric, promised, live, answers) = if self.is_recommender(model) {
            let promised = self.recommend_promised(model, number).await?;
            let lists = self.list_quality(model, since, until)?;
            let promised = promised.and_then(|promised| promised.interval);
            (
                crate::recommend::METRIC_NAME,
                promised,
                lists.ndcg.interval,
                lists.answers,
            )
        } else {
            let promised = self.promised(model, number).await?;
            let live = self.live_quality(model, since, until).await?;
            let promised = promised.and_then(|promised| promised.interval);
            let interval = live.primary().and_then(|primary| primary.interval);
            (live.metric.name(), promised, interval, live.answers)
        };
        let intervals = promised.zip(live).filter(|_| answers >= ANSWERS_MIN);
        Ok(intervals.map(|(promised, live)| Promise {
            version: number,
            metric: metric.to_owned(),
            promised,
            live,
            answers,
        }))
    }
}
