//! An HTTP client for tests.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

/// How long one request may take, connecting included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An HTTP client that expects failures: for tests in which the server is not always there. Cheap to clone; a clone
/// shares its connections.
#[derive(Clone)]
pub(crate) struct Client {
    http: ureq::Agent,
}

impl Client {
    /// A client without connections yet.
    pub(crate) fn new() -> Self {
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .timeout_global(Some(ANSWER_WITHIN))
            .build()
            .new_agent();
        Self { http }
    }

    /// A request and its answer: the status and the text of the body. An empty key
    /// is none.
    ///
    /// # Errors
    /// When no answer came: refused, reset, or later than half a minute.
    pub(crate) fn ask(
        &self,
        server: SocketAddr,
        method: &str,
        path: &str,
        key: &str,
        body: &str,
    ) -> Result<(u16, String), ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{server}{path}"))
            .header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(body.to_owned())?;
        let mut response = self.http.run(request)?;
        Ok((
            response.status().as_u16(),
            response.body_mut().read_to_string()?,
        ))
    }

    /// POST of JSON: the status and the JSON of the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) fn post(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        let (status, text) = self.ask(server, "POST", path, key, &body.to_string())?;
        Ok((status, json(&text)))
    }
}

/// The JSON of a body, `Value::Null` where it is not JSON.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
