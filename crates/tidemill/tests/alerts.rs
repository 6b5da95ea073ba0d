//! Alerts against the real binary: an event that stops is told to webhooks, once, and again when it is over.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span, Timestamp};

use support::{Scope, Server};

/// A webhook that takes what it is sent: the path and the body.
fn webhook() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let mut line = String::new();
            reader.read_line(&mut line).expect("a request");
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).expect("a header");
                let header = header.trim().to_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                if header.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).expect("an answer");
            let body = serde_json::from_slice(&body).expect("JSON");
            if sender.send((path, body)).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

/// The next message of a webhook.
fn next(messages: &Receiver<(String, Value)>) -> (String, Value) {
    messages
        .recv_timeout(Duration::from_secs(60))
        .expect("a message")
}

fn ping(server: &Server, key: &str, name: &str, at: Timestamp, number: i64) {
    let body = json!({
        "userId": "u", "event": name, "timestamp": at, "messageId": format!("{name} {number} {at}")
    });
    let (status, answer) = server.post("/v1/track", key, &body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn an_event_that_stops_is_told_once_and_again_when_it_is_over() {
    let (url, messages) = webhook();
    let project = format!(
        "[project]\nname = \"shop\"\n[alerts]\nwebhooks = [\"{url}/hook\"]\nslack = [\"{url}/slack\"]\n"
    );
    let server = Server::start(&project, &[]);
    let [read, write, admin] =
        [Scope::Read, Scope::Write, Scope::Admin].map(|scope| server.key(scope));
    let nothing = server.told(&["alerts", "--project", "project.toml"]);
    assert!(nothing.contains("nothing is wrong"), "{nothing}");
    // every ten minutes, until five hours ago; another one until now
    let now = SystemClock.now();
    for number in 0..120 {
        let at = now - Span::from_seconds((150 - number) * 600);
        ping(&server, &write, "Paid", at, number);
        let at = now - Span::from_seconds((119 - number) * 600);
        ping(&server, &write, "Seen", at, number);
    }
    let (path, message) = next(&messages);
    assert_eq!(
        (&*path, &message["state"], &message["id"]),
        ("/hook", &json!("open"), &json!("event_stopped:Paid"))
    );
    let cause = message["cause"].as_str().expect("a cause");
    assert!(
        cause.contains("never silent for longer than 10 minutes"),
        "{cause}"
    );
    let (path, message) = next(&messages);
    let text = message["text"].as_str().expect("a text");
    assert!(
        path == "/slack" && text.starts_with("shop: event stopped, Paid."),
        "{path} {text}"
    );

    let shown = server.told(&["alerts", "--project", "project.toml"]);
    assert!(
        shown.contains("event_stopped:Paid") && !shown.contains("Seen"),
        "{shown}"
    );
    let doctor = server.refused(&["doctor", "--project", "project.toml"]);
    assert!(doctor.contains("something keeps project shop"), "{doctor}");
    let silence = json!({ "for": "2h" });
    let path = "/v1/alerts/event_stopped:Nothing/silence";
    assert_eq!(server.post(path, &admin, &silence).0, 404);
    assert_eq!(
        server
            .post("/v1/alerts/event_stopped:Paid/silence", &read, &silence)
            .0,
        403
    );

    // the next message is that it is over: being found again and again is told once
    ping(&server, &write, "Paid", SystemClock.now(), 1_000);
    let (_, message) = next(&messages);
    assert_eq!(
        (&message["state"], &message["subject"]),
        (&json!("resolved"), &json!("Paid")),
        "{message}"
    );
    let (_, answer) = server.get("/v1/alerts?resolved=true", &read);
    assert_eq!(answer["alerts"], json!([]), "{answer}");
    assert_eq!(
        answer["resolved"][0]["id"], "event_stopped:Paid",
        "{answer}"
    );
}
