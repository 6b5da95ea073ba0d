//! Who would have asked what, and when: at each moment at which a model is observed for training, and for lists before somebody takes
//! something. A history says what people did, not what an application would have asked.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use axum::http::Method;
use serde_json::json;
use tidemill_core::project::{Observe, PredictModel, RecommendModel};
use tidemill_core::{Event, ModelName, Span, Timestamp};
use tidemill_features::FeatureSet;
use tidemill_features::expression::EventCondition;

use crate::replay::Driver;

/// So many questions are asked of a model on one day; more are counted and left out.
const DAILY_MAX: u64 = 20_000;
/// How many items are asked for.
const SHOWN: usize = 10;
/// So many people are remembered for questions that are asked every period.
const PEOPLE_MAX: usize = 1_000_000;

/// What is asked while a history goes by.
pub struct Questions {
    predict: Vec<Predict>,
    recommend: Vec<Recommend>,
    /// When somebody did something last, where a model asks for it.
    active: HashMap<String, Timestamp>,
    day: i64,
    today: BTreeMap<ModelName, u64>,
    /// Questions that were asked.
    pub asked: u64,
    /// Questions that were too many for their day.
    pub left_out: u64,
}

struct Predict {
    model: PredictModel,
    condition: Option<EventCondition>,
    next: Option<Timestamp>,
}

struct Recommend {
    model: RecommendModel,
    goals: Vec<String>,
    /// Who was asked about today.
    today: HashSet<String>,
}

impl Questions {
    /// The questions of a project's models.
    pub fn new(
        models: impl IntoIterator<Item = PredictModel>,
        recommenders: impl IntoIterator<Item = RecommendModel>,
        set: &FeatureSet,
    ) -> Result<Self> {
        let mut predict = Vec::new();
        for model in models {
            let condition = set
                .occasion(&model)
                .context("compile where it is observed")?;
            predict.push(Predict {
                model,
                condition,
                next: None,
            });
        }
        let recommend = recommenders.into_iter().map(|model| Recommend {
            goals: model.goals().map(str::to_owned).collect(),
            model,
            today: HashSet::new(),
        });
        Ok(Self {
            predict,
            recommend: recommend.collect(),
            active: HashMap::new(),
            day: i64::MIN,
            today: BTreeMap::new(),
            asked: 0,
            left_out: 0,
        })
    }

    /// Whether something is asked before an event, so that what has gone before must be known by then.
    pub fn comes_before(&self, event: &Event) -> bool {
        let is_goal = |lists: &Recommend| {
            let user = event.user_id.as_ref();
            user.is_some_and(|user| !lists.today.contains(user))
                && lists.goals.contains(&event.name)
        };
        self.recommend.iter().any(is_goal)
    }

    /// Whether something is asked after an event.
    pub fn comes_after(&self, event: &Event) -> bool {
        self.predict.iter().any(|asked| asked.is_occasion(event))
    }

    /// Asks for lists of whoever is about to take something, once a day each.
    pub async fn before(&mut self, event: &Event, driver: &Driver) -> Result<()> {
        self.begin_day(event.received_at.day());
        let Some(user) = &event.user_id else {
            return Ok(());
        };
        for place in 0..self.recommend.len() {
            let lists = &mut self.recommend[place];
            if !lists.goals.contains(&event.name) || !lists.today.insert(user.clone()) {
                continue;
            }
            let model = lists.model.name.clone();
            if self.is_asked(&model) {
                let body = json!({ "user": user, "limit": SHOWN });
                let path = format!("/v1/recommend/{model}");
                driver.send(Method::POST, &path, &body).await?;
            }
        }
        Ok(())
    }

    /// Asks the models that are observed at an event.
    pub async fn after(&mut self, event: &Event, driver: &Driver) -> Result<()> {
        self.begin_day(event.received_at.day());
        let Some(person) = person(event) else {
            return Ok(());
        };
        for place in 0..self.predict.len() {
            let asked = &self.predict[place];
            if asked.is_occasion(event) {
                let model = asked.model.name.clone();
                if self.is_asked(&model) {
                    let path = format!("/v1/predict/{model}");
                    driver.send(Method::POST, &path, &person).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes who did something, for questions that are asked every period.
    pub fn saw(&mut self, event: &Event) {
        let is_periodic = |asked: &Predict| matches!(asked.model.observe, Observe::Every { .. });
        if let Some(user) = &event.user_id
            && self.predict.iter().any(is_periodic)
            && (self.active.len() < PEOPLE_MAX || self.active.contains_key(user))
        {
            self.active.insert(user.clone(), event.timestamp);
        }
    }

    /// Asks what is asked every period, as far as a day has come.
    pub async fn periodic(&mut self, now: Timestamp, driver: &Driver) -> Result<()> {
        self.begin_day(now.day());
        for place in 0..self.predict.len() {
            let asked = &mut self.predict[place];
            let Observe::Every {
                period,
                active_within,
            } = asked.model.observe
            else {
                continue;
            };
            let next = *asked.next.get_or_insert(now);
            if now < next {
                continue;
            }
            asked.next = Some(now + period.max(Span::from_days(1)));
            let model = asked.model.name.clone();
            let active = self.active.iter();
            let mut people: Vec<String> = active
                .filter(|(_, last)| now.since(**last) <= active_within)
                .map(|(user, _)| user.clone())
                .collect();
            people.sort();
            let path = format!("/v1/predict/{model}");
            for user in people {
                if self.is_asked(&model) {
                    let body = json!({ "user": user });
                    driver.send(Method::POST, &path, &body).await?;
                }
            }
        }
        Ok(())
    }

    fn begin_day(&mut self, day: i64) {
        if day > self.day {
            self.day = day;
            self.today.clear();
            for lists in &mut self.recommend {
                lists.today.clear();
            }
        }
    }

    /// Whether there is room for one more question today; counts it either way.
    fn is_asked(&mut self, model: &ModelName) -> bool {
        let today = self.today.entry(model.clone()).or_insert(0);
        *today += 1;
        let is_asked = *today <= DAILY_MAX;
        self.asked += u64::from(is_asked);
        self.left_out += u64::from(!is_asked);
        is_asked
    }
}

impl Predict {
    fn is_occasion(&self, event: &Event) -> bool {
        let Observe::Event { event: name, .. } = &self.model.observe else {
            return false;
        };
        let fulfils = |condition: &EventCondition| {
            let (fulfilled, _) = condition.evaluate(std::slice::from_ref(event));
            fulfilled == [true]
        };
        event.name == *name && self.condition.as_ref().is_none_or(fulfils)
    }
}

/// Whom an event is about, as a question names them.
fn person(event: &Event) -> Option<serde_json::Value> {
    match (&event.user_id, &event.anonymous_id) {
        (Some(user), _) => Some(json!({ "user": user })),
        (None, Some(anonymous)) => Some(json!({ "anonymous_id": anonymous })),
        (None, None) => None,
    }
}
