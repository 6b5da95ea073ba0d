//! The clients that teams already have, unmodified: only the host is changed. Each sends 10,000 events; in the middle
//! the server is killed with SIGKILL and comes back on the same port once the client has noticed. Afterwards every
//! event is stored once.
//!
//! What the clients do on their own, read from their sources:
//! - segment-analytics-python 2.4.0 sends batches of up to 100 from one thread; on a network error or a 5xx it tries again
//!   at once, then after 0.5 s, 1 s, 2 s, … at most 60 s, 10 times in all; a `Retry-After` is waited for without counting;
//! - @segment/analytics-node 3.1.0 sends batches of up to 15, many at a time; on a network error or a 5xx it tries again after
//!   1–2 s, 2–4 s, 4–8 s, … at most 60 s, 10 times in all; a 429 with `Retry-After` does not count, and without one does.
//!
//! Both authenticate with Basic, the write key as the user and no password, and put `writeKey` into the body as well.
//!
//! `scripts/install-test-tools` installs them; where they are absent the tests say so and pass, unless
//! `TIDEMILL_REQUIRE_ALL` is set.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use support::{Counts, PROJECT, Scope, Server, offer_again, skip, tools};

/// How many events each client sends.
const EVENTS: u64 = 10_000;

/// The server is killed when a client reports that so many were delivered.
const KILL_AFTER: u64 = 2_500;

/// How long a client may be silent. Its longest wait between two attempts at an event is below a minute.
const SILENT_MAX: Duration = Duration::from_secs(120);

#[test]
fn segment_analytics_python_survives_a_kill() {
    let packages = tools().join("python");
    if !packages.join("segment/analytics/__init__.py").exists() {
        return skip("segment-analytics-python is not installed (run scripts/install-test-tools)");
    }
    let mut command = Command::new("python3");
    command
        .arg(programs().join("python/send.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    check(command);
}

#[test]
fn segment_analytics_node_survives_a_kill() {
    let packages = tools().join("node/node_modules");
    if !packages
        .join("@segment/analytics-node/package.json")
        .exists()
    {
        return skip("@segment/analytics-node is not installed (run scripts/install-test-tools)");
    }
    let mut command = Command::new("node");
    command
        .arg(programs().join("node/send.js"))
        .env("NODE_PATH", packages);
    check(command);
}

/// Runs a client program against a server that is killed in the middle.
fn check(command: Command) {
    let mut server = Server::start(PROJECT, &[]);
    let key = server.key(Scope::Write);
    let reader = server.key(Scope::Read);
    let ids_file = server.folder().join("ids");
    let mut client = Program::start(command, &server.url(), &key, &ids_file);

    client.wait_for("delivered", KILL_AFTER);
    server.kill_9();
    client.wait_for("retry", 1);
    server.restart();
    let done = client.finish();
    println!("{done}");

    assert_eq!(done["sent"], EVENTS, "{done}");
    assert_eq!(done["failed"], 0, "{done}");
    assert!(done["retries"].as_u64() >= Some(1), "{done}");
    let text = std::fs::read_to_string(&ids_file).expect("the ids that the client wrote");
    let ids: BTreeSet<&str> = text.lines().collect();
    assert_eq!(ids.len() as u64, EVENTS, "the client's ids are distinct");

    let counts = Counts::of(&server, &reader);
    assert_eq!(
        (counts.stored, counts.quarantined),
        (EVENTS, 0),
        "{counts:?}"
    );
    assert_eq!(
        offer_again(&server, &key, ids.iter().copied()),
        0,
        "ids that are not stored"
    );
    assert_eq!(Counts::of(&server, &reader).stored, EVENTS);
}

/// Where the client programs are.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// A client program that reports on its standard output, one JSON object a line. Dropping it kills it.
struct Program {
    child: Child,
    lines: Receiver<Value>,
}

impl Program {
    fn start(mut command: Command, host: &str, key: &str, ids_file: &Path) -> Self {
        let mut child = command
            .arg(host)
            .arg(key)
            .arg(EVENTS.to_string())
            .arg(ids_file)
            // a proxy of the surroundings must not stand between a test and its own server
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line)
                    .unwrap_or_else(|_| Value::String(format!("not JSON: {line}")));
                // nobody listens after a failed test
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits until it reports at least that number under that name.
    fn wait_for(&self, name: &str, at_least: u64) {
        loop {
            let line = self.line();
            assert!(
                line.get("done").is_none(),
                "ended before '{name}' was {at_least}: {line}"
            );
            if line[name].as_u64() >= Some(at_least) {
                return;
            }
        }
    }

    /// Waits until it is done, and gives what it says then.
    fn finish(&mut self) -> Value {
        let done = loop {
            let line = self.line();
            if let Some(done) = line.get("done") {
                break done.clone();
            }
        };
        let status = self.child.wait().expect("the end of the client");
        assert!(status.success(), "the client ended with {status}");
        done
    }

    fn line(&self) -> Value {
        self.lines
            .recv_timeout(SILENT_MAX)
            .unwrap_or_else(|error| panic!("the client says nothing more: {error}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // it has usually ended; then there is nothing to kill
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
