//! How an app is connected: lines to copy, each of which the tests run (`crates/tidemill/tests/clients.rs`).

use axum::http::{HeaderMap, header};
use axum::response::Response;
use tidemill_core::notation::thousands;

use crate::events;
use crate::html::{Html, html};
use crate::parts::{Tone, state};
use crate::problem::Problem;
use crate::visit::Visit;

/// How an app is connected, and whether it is.
pub(crate) async fn page(visit: Visit, headers: HeaderMap) -> Result<Response, Problem> {
    let counts = visit
        .project
        .stores
        .log
        .counts(&visit.project.project.name)?;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("127.0.0.1:7878");
    let project = visit.project.project.name.as_str();
    let connected = html!(
        "<p class=\"connected\" data-follow=\"{}\" role=\"status\">{}</p>",
        visit.path("/live"),
        if counts.stored > 0 {
            state(
                Tone::Good,
                &format!("connected: {} events are stored", thousands(counts.stored)),
            )
        } else {
            html!(
                "<span data-first-event>{}</span>",
                state(Tone::Quiet, "waiting for the first event")
            )
        }
    );
    let snippets = snippets(host);
    let snippets = snippets.iter().map(|(name, code)| {
        html!("<h2>{}</h2><div class=\"snippet\"><pre tabindex=\"0\"><code>{}</code></pre><button type=\"button\" class=\"button\" data-copy>Copy</button></div>", *name, code)
    });
    let body = html!(
        "{}<p>Make a key that may only send events, and put it in place of <code>WRITE_KEY</code>:</p><div class=\"snippet\"><pre tabindex=\"0\"><code>tidemill keys create --project {} --scope write</code></pre><button type=\"button\" class=\"button\" data-copy>Copy</button></div>{}",
        connected,
        project,
        snippets.collect::<Html>()
    );
    events::page(&visit, "Connect your app", "/events/connect", &body)
}

/// How an event is sent in the languages of most apps: name and lines. PHP and Ruby use what comes with them: Segment's library for Ruby
/// speaks HTTPS only.
fn snippets(host: &str) -> [(&'static str, String); 6] {
    let lines = [
        ("curl", CURL),
        ("JavaScript (Node)", NODE),
        ("Python", PYTHON),
        ("PHP", PHP),
        ("Laravel", LARAVEL),
        ("Ruby", RUBY),
    ];
    lines.map(|(name, lines)| (name, lines.replace("HOST", host)))
}

const CURL: &str = r#"curl -u WRITE_KEY: http://HOST/v1/track \
  -H 'content-type: application/json' \
  -d '{"userId": "u1", "event": "Order Completed", "properties": {"total": 42.5}}'"#;

const NODE: &str = r#"import { Analytics } from "@segment/analytics-node";

const analytics = new Analytics({ writeKey: "WRITE_KEY", host: "http://HOST" });
analytics.track({ userId: "u1", event: "Order Completed", properties: { total: 42.5 } });
await analytics.closeAndFlush(); // where the app ends"#;

const PYTHON: &str = r#"from segment import analytics

analytics.write_key = "WRITE_KEY"
analytics.host = "http://HOST"
analytics.track("u1", "Order Completed", {"total": 42.5})
analytics.flush()  # where the app ends"#;

const PHP: &str = r#"$request = curl_init("http://HOST/v1/track");
curl_setopt_array($request, [
    CURLOPT_USERPWD => "WRITE_KEY:",
    CURLOPT_HTTPHEADER => ["content-type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "userId" => "u1",
        "event" => "Order Completed",
        "properties" => ["total" => 42.5],
    ]),
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_TIMEOUT => 5,
]);
$answer = curl_exec($request);
if (curl_getinfo($request, CURLINFO_RESPONSE_CODE) !== 200) {
    error_log("the event was not taken: " . ($answer ?: curl_error($request)));
}"#;

const LARAVEL: &str = r#"use Illuminate\Support\Facades\Http;

Http::withBasicAuth("WRITE_KEY", "")->timeout(5)->post("http://HOST/v1/track", [
    "userId" => "u1",
    "event" => "Order Completed",
    "properties" => ["total" => 42.5],
])->throw();"#;

const RUBY: &str = r#"require "json"
require "net/http"

uri = URI("http://HOST/v1/track")
request = Net::HTTP::Post.new(uri, "content-type" => "application/json")
request.basic_auth("WRITE_KEY", "")
request.body = { userId: "u1", event: "Order Completed", properties: { total: 42.5 } }.to_json
Net::HTTP.start(uri.host, uri.port, open_timeout: 5, read_timeout: 5) { |http| http.request(request) }.value"#;
