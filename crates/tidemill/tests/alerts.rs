//! Alerts against the real binary: an event that stops is told to webhooks and by e-mail, once, and again when it is over. The mail server
//! is aiosmtpd (`tests/mail/server.py`), which `scripts/install-test-tools` installs.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span, Timestamp};

use support::{Scope, Server, skip, tools};

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
    let next = || messages.recv_timeout(Duration::from_secs(60));
    std::iter::repeat_with(|| next().expect("a message"))
        .find(|(_, message)| !is_of_the_machine(message))
        .expect("they do not end")
}

/// Whether it tells that the disk of whoever runs the tests is nearly full.
fn is_of_the_machine(message: &Value) -> bool {
    let message = message.to_string();
    message.contains("disk_full") || message.contains("disk full")
}

fn ping(server: &Server, key: &str, name: &str, at: Timestamp, number: i64) {
    let body = json!({
        "userId": "u", "event": name, "timestamp": at, "messageId": format!("{name} {number} {at}")
    });
    let (status, answer) = server.post("/v1/track", key, &body);
    assert_eq!(status, 200, "{answer}");
}

/// An event every ten minutes, until five hours ago; another one until now.
fn stop_paying(server: &Server, key: &str) {
    let now = SystemClock.now();
    for number in 0..120 {
        let at = now - Span::from_seconds((150 - number) * 600);
        ping(server, key, "Paid", at, number);
        let at = now - Span::from_seconds((119 - number) * 600);
        ping(server, key, "Seen", at, number);
    }
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
    stop_paying(&server, &write);
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

/// A mail server; it ends when this is dropped.
struct MailServer {
    process: Child,
    _ends_with: ChildStdin,
    port: u64,
    letters: Receiver<Value>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl MailServer {
    /// `None` where it is not installed.
    fn start(certificates: &Path, how: &str) -> Option<Self> {
        let packages = tools().join("mail");
        if !packages.join("aiosmtpd").exists() {
            return None;
        }
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| certificates.join(name));
        let made = Command::new("openssl")
            .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(' '))
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout".as_ref(), key.as_os_str()])
            .args(["-out".as_ref(), certificate.as_os_str()])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            return None;
        }
        let mut process = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/mail/server.py"))
            .args([certificate.as_os_str(), key.as_os_str(), how.as_ref()])
            .env("PYTHONPATH", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // it warns of what is meant to be so
            .spawn()
            .expect("python3 runs");
        let said = BufReader::new(process.stdout.take().expect("its output"));
        let (sender, letters) = channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let first = letters.recv_timeout(Duration::from_secs(60));
        Some(Self {
            _ends_with: process.stdin.take().expect("its input"),
            process,
            port: first.expect("a port")["port"].as_u64().expect("a number"),
            letters,
        })
    }
}

#[test]
fn an_event_that_stops_is_told_by_email() {
    const PROJECT: &str = "[project]\nname = \"shop\"\n[alerts]\nemail = [\"ops@example.com\"]\n";
    let folder = tempfile::tempdir().expect("a folder");
    for (how, url) in [
        ("smtps", "smtps://me%40example.com:p%2Fw@localhost:PORT"),
        (
            "starttls",
            "smtp://me%40example.com:p%2Fw@localhost:PORT?tls=required",
        ),
        ("plain", "smtp://localhost:PORT"),
    ] {
        let Some(mail) = MailServer::start(folder.path(), how) else {
            return skip("aiosmtpd or openssl is not installed (run scripts/install-test-tools)");
        };
        let url = url.replace("PORT", &mail.port.to_string());
        let trusted = folder.path().join("cert.pem");
        let environment = [
            ("TIDEMILL_SMTP_URL", url),
            (
                "TIDEMILL_SMTP_FROM",
                "Tidemill <shop@example.com>".to_owned(),
            ),
            ("SSL_CERT_FILE", trusted.to_string_lossy().into_owned()),
        ];
        let server = Server::start_with(PROJECT, environment);
        let write = server.key(Scope::Write);
        stop_paying(&server, &write);
        let next = || {
            let letter = || mail.letters.recv_timeout(Duration::from_secs(60));
            let letter =
                || letter().unwrap_or_else(|_| panic!("{how}: no e-mail\n{}", server.log()));
            let mut letters = std::iter::repeat_with(letter);
            let found = letters.find(|letter| !is_of_the_machine(letter));
            found.expect("they do not end")
        };
        let letter = next();
        let is_secret = how != "plain";
        let login = if is_secret {
            json!("me@example.com")
        } else {
            Value::Null
        };
        assert_eq!(
            (
                &letter["from"],
                &letter["to"],
                &letter["secret"],
                &letter["login"]
            ),
            (
                &json!("shop@example.com"),
                &json!(["ops@example.com"]),
                &json!(is_secret),
                &login
            ),
            "{how}: {letter:#}"
        );
        assert_eq!(letter["subject"], "shop: event stopped, Paid", "{letter:#}");
        let text = letter["text"].as_str().expect("a text");
        assert!(
            text.contains("never silent for longer than 10 minutes")
                && text.contains("What to do: "),
            "{text}"
        );
        ping(&server, &write, "Paid", SystemClock.now(), 1_000);
        let letter = next();
        assert_eq!(
            letter["subject"], "shop: over: event stopped, Paid",
            "{letter:#}"
        );
    }
}
