//! Drives the shop's year through the real handlers.

use anyhow::{Context, Result, bail};
use axum::http::Method;
use serde_json::json;
use tidemill_core::{ModelName, Timestamp};

use super::shop::Visit;
use super::timeline::Timeline;
use crate::replay::Driver;

/// Sends the shop's year to the handlers that live traffic meets.
pub struct Replay {
    driver: Driver,
    models: Vec<ModelName>,
    last: LastAnswer,
}

/// What the closing lines show: the last customer who was asked about.
#[derive(Debug, Clone, Default)]
pub struct LastAnswer {
    /// The customer.
    pub user: String,
    /// The decision.
    pub decision: String,
}

/// The model that is asked for products.
pub const FOR_YOU: &str = "for_you";
/// How many of them.
const SHOWN: usize = 10;

/// What was shown to a customer before they ordered.
pub struct Asked {
    /// Whether a version answered.
    pub by_version: bool,
    /// The products.
    pub shown: Vec<String>,
    /// What would have been shown to everybody.
    pub popular: Vec<String>,
}

/// The products of an order.
fn basket(visit: &Visit) -> Vec<&str> {
    let events = visit.batch["batch"].as_array().into_iter().flatten();
    events
        .filter(|event| event["event"] == "Product Ordered")
        .filter_map(|event| event["properties"]["product"].as_str())
        .collect()
}

impl Replay {
    /// Sends it to a project that is driven.
    pub fn new(driver: Driver, models: Vec<ModelName>) -> Self {
        Self {
            driver,
            models,
            last: LastAnswer::default(),
        }
    }

    /// Moves the clock on day by day; each morning the loop does what is due.
    pub async fn pass_time_until(
        &mut self,
        time: Timestamp,
        timeline: &mut Timeline,
    ) -> Result<()> {
        self.driver.pass_time_until(time, timeline).await
    }

    /// One invoice: new products, the events, and after an order the questions about the customer.
    pub async fn visit(&mut self, visit: &Visit, timeline: &mut Timeline) -> Result<()> {
        if !visit.new_items.is_empty() {
            let body = json!({ "items": visit.new_items });
            self.driver.send(Method::PUT, "/v1/items", &body).await?;
        }
        let asked = self.ask_for_items(visit).await?;
        let sent = visit.batch["batch"].as_array().map_or(0, Vec::len) as u64;
        let receipt = self
            .driver
            .send(Method::POST, "/v1/batch", &visit.batch)
            .await?;
        let count = |name: &str| receipt[name].as_u64().unwrap_or(0);
        if count("accepted") + count("duplicates") + count("quarantined") != sent {
            bail!("{sent} events were sent and this was answered: {receipt}");
        }
        self.driver.project_loop.catch_up().await?;
        timeline.visited(
            visit,
            count("accepted"),
            count("quarantined") + count("duplicates"),
        );
        if let Some(asked) = asked {
            timeline.recommended(&asked, &basket(visit));
        }
        if let (true, Some(user)) = (visit.is_order, &visit.customer) {
            for place in 0..self.models.len() {
                let path = format!("/v1/predict/{}", self.models[place]);
                let answer = self
                    .driver
                    .send(Method::POST, &path, &json!({ "user": user }))
                    .await?;
                let decision = answer["decision_id"]
                    .as_str()
                    .context("an answer has a decision")?;
                timeline.answered(&answer);
                if answer["version"].is_string() && self.models[place].as_str() == "will_return" {
                    self.last = LastAnswer {
                        user: user.clone(),
                        decision: decision.to_owned(),
                    };
                }
            }
        }
        Ok(())
    }

    /// Before a known customer orders, which products are shown: the basket that follows says how good they were.
    async fn ask_for_items(&self, visit: &Visit) -> Result<Option<Asked>> {
        let (true, Some(user)) = (visit.is_order, &visit.customer) else {
            return Ok(None);
        };
        let body = json!({ "user": user, "limit": SHOWN });
        let path = format!("/v1/recommend/{FOR_YOU}");
        let answer = self.driver.send(Method::POST, &path, &body).await?;
        let items = answer["items"].as_array().into_iter().flatten();
        let popular = self
            .driver
            .project_loop
            .recommender(&FOR_YOU.parse()?)?
            .popular();
        Ok(Some(Asked {
            by_version: answer["version"].is_string(),
            shown: items
                .filter_map(|item| item["item"].as_str().map(str::to_owned))
                .collect(),
            popular: popular
                .iter()
                .take(SHOWN)
                .map(ToString::to_string)
                .collect(),
        }))
    }

    /// The day after the last visit.
    pub async fn finish(&mut self, timeline: &mut Timeline) -> Result<()> {
        self.driver.finish(timeline).await
    }

    /// The last customer who was asked about.
    pub fn last_answer(&self) -> LastAnswer {
        self.last.clone()
    }
}
