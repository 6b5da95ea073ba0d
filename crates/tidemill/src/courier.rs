//! Brings alerts to webhooks.

use async_trait::async_trait;
use serde_json::Value;
use tidemill_cycle::{Courier, DELIVERY};

/// Over HTTP and HTTPS.
pub struct WebCourier(reqwest::Client);

impl WebCourier {
    /// One for the whole process.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(DELIVERY).build()?;
        Ok(Self(client))
    }
}

#[async_trait]
impl Courier for WebCourier {
    async fn post(&self, url: &str, body: &Value) -> Result<(), String> {
        let answer = self.0.post(url).json(body).send().await;
        // its message has the URL, which may be a secret
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the webhook answered {status}")),
        }
    }
}
