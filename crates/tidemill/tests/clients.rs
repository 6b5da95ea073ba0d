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
//! Beside these, the lines that the console shows for each language are taken from its page and run as they stand, with a real key.
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

use support::{Counts, PROJECT, Scope, Server, console, offer_again, skip, tools};

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

#[test]
fn the_lines_that_the_console_shows_send_an_event() {
    let server = Server::start(PROJECT, &[]);
    let (write, read) = (server.key(Scope::Write), server.key(Scope::Read));
    let snippets = console::snippets(&server);
    let names: Vec<&str> = snippets.iter().map(|(name, _)| name.as_str()).collect();
    let known = [
        "curl",
        "JavaScript (Node)",
        "Python",
        "PHP",
        "Laravel",
        "Ruby",
    ];
    assert_eq!(names, known);
    let mut stored = 0;
    for (name, lines) in &snippets {
        assert!(lines.contains("WRITE_KEY"), "{name}: {lines}");
        let lines = lines.replace("WRITE_KEY", &write);
        let mut command = match snippet(server.folder(), name, &lines) {
            Ok(command) => command,
            Err(missing) => {
                skip(&format!("the lines for {name}: {missing}"));
                continue;
            }
        };
        let output = command
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let said = format!(
            "{name}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{said}");
        stored += 1;
        let counts = Counts::of(&server, &read);
        assert_eq!(
            (counts.stored, counts.quarantined),
            (stored, 0),
            "{counts:?} after {said}"
        );
        println!("{name}: the event is stored");
    }
    let admin = server.key(Scope::Admin);
    let (status, person) = server.get("/v1/users/u1/export", &admin);
    assert_eq!(status, 200, "{person}");
    let events = person["events"].as_array().expect("events");
    assert_eq!(events.len() as u64, stored, "{person}");
    for event in events {
        assert!(event.to_string().contains("Order Completed"), "{event}");
        assert!(event.to_string().contains("42.5"), "{event}");
    }
}

/// The command that runs lines as an app of that kind would; or what is missing for it.
fn snippet(folder: &Path, name: &str, lines: &str) -> Result<Command, String> {
    let needs = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&paths).any(|path| path.join(program).exists());
        is_there
            .then(|| Command::new(program))
            .ok_or_else(|| format!("there is no {program} (run scripts/install-test-tools)"))
    };
    let installed = |path: &Path| {
        let missing = format!(
            "there is no {} (run scripts/install-test-tools)",
            path.display()
        );
        path.exists().then_some(()).ok_or(missing)
    };
    let write = |file: &str, text: &str| {
        let path = folder.join(file);
        std::fs::write(&path, text).expect("the lines");
        path
    };
    let mut command;
    match name {
        "curl" => {
            needs("curl")?;
            command = needs("sh")?;
            // --fail, so that a refusal ends with another status
            command
                .arg("-c")
                .arg(lines.replacen("curl", "curl --fail", 1));
        }
        "JavaScript (Node)" => {
            let packages = tools().join("node/node_modules");
            installed(&packages.join("@segment/analytics-node"))?;
            command = needs("node")?;
            // modules look for packages beside themselves only
            std::os::unix::fs::symlink(packages, folder.join("node_modules")).expect("a link");
            command.arg(write("snippet.mjs", lines));
        }
        "Python" => {
            let packages = tools().join("python");
            installed(&packages.join("segment"))?;
            command = needs("python3")?;
            command
                .env("PYTHONPATH", packages)
                .arg(write("snippet.py", lines));
        }
        "PHP" => {
            command = needs("php")?;
            command.arg(write("snippet.php", &format!("<?php\n{lines}\n")));
        }
        "Laravel" => {
            installed(Path::new("/usr/share/php/Illuminate/Http/autoload.php"))?;
            command = needs("php")?;
            command
                .arg(programs().join("php/laravel.php"))
                .arg(write("laravel.php", &format!("<?php\n{lines}\n")));
        }
        "Ruby" => {
            command = needs("ruby")?;
            command.arg(write("snippet.rb", lines));
        }
        other => return Err(format!("no test knows how to run lines for {other}")),
    }
    Ok(command)
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
