//! Brings alerts to webhooks, and by e-mail to people.

mod mail;

use async_trait::async_trait;
use serde_json::Value;
use tidemill_cycle::{Courier, DELIVERY};

pub use mail::MailServer;

/// Over HTTP, HTTPS and SMTP.
pub struct WebCourier {
    web: reqwest::Client,
    mail: MailServer,
}

impl WebCourier {
    /// One for the whole process.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(mail: MailServer) -> anyhow::Result<Self> {
        let web = reqwest::Client::builder().timeout(DELIVERY).build()?;
        Ok(Self { web, mail })
    }
}

#[async_trait]
impl Courier for WebCourier {
    async fn post(&self, url: &str, body: &Value) -> Result<(), String> {
        let answer = self.web.post(url).json(body).send().await;
        // its message has the URL, which may be a secret
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the webhook answered {status}")),
        }
    }

    async fn mail(&self, to: &str, subject: &str, text: &str) -> Result<(), String> {
        match tokio::time::timeout(DELIVERY, self.mail.send(to, subject, text)).await {
            Ok(sent) => sent.map_err(|error| format!("{error:#}")),
            Err(_) => Err("the mail server took too long".to_owned()),
        }
    }
}
