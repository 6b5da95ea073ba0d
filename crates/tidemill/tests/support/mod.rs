//! The real binary, seen from outside: started in a temporary folder on a free port, spoken to over HTTP, killed when
//! the test ends.
//!
//! ```text
//! let mut server = Server::start(PROJECT, &[]);
//! let key = server.key(Scope::Write);
//! let (status, answer) = server.post("/v1/track", &key, &json!({ "userId": "u1", "event": "Order Completed" }));
//! server.kill_9();
//! server.restart();                      // the same port, the same data folder
//! ```
//!
//! Nothing here sleeps: readiness is the line that the server prints, and every wait has a limit.

#![allow(dead_code, reason = "each test file uses the part that it needs")]

mod client;
pub(crate) mod console;
pub(crate) mod past;
mod process;
pub(crate) mod rollouts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;

pub(crate) use client::{Client, json};
use process::{Process, Readiness};
pub(crate) use process::{command, run};

/// The smallest project file that takes events.
pub(crate) const PROJECT: &str = "[project]\nname = \"shop\"\n";

/// The name in [`PROJECT`], and the project whose keys [`Server::key`] makes unless the file says otherwise.
const PROJECT_NAME: &str = "shop";

/// How long a server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Events only.
    Write,
    /// Answers.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// A `tidemill serve` process with its temporary folder. Dropping it kills the process and removes the folder.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    project: String,
    arguments: Vec<String>,
    address: SocketAddr,
    process: Option<Process>,
    client: Client,
    /// Variables of the process's environment.
    environment: Vec<(&'static str, String)>,
    /// The data folder is a file system of this size of its own, which only the process sees.
    disk_bytes: Option<usize>,
}

impl Server {
    /// Writes `project_toml` to a file, starts `tidemill serve` on a free port with it and with `arguments`, and
    /// waits until it says that it is ready.
    ///
    /// # Panics
    /// When it is not ready within a minute; the message has what it wrote to standard error.
    pub(crate) fn start(project_toml: &str, arguments: &[&str]) -> Self {
        let mut server = Self::prepare(project_toml, arguments);
        server.restart();
        server
    }

    /// As [`Server::start`], with variables in the environment.
    pub(crate) fn start_with(
        project_toml: &str,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let mut server = Self::prepare(project_toml, &[]);
        server.environment.extend(environment);
        server.restart();
        server
    }

    /// Sets a variable in the environment of the process, from its next start on.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// As [`Server::start`], with a data folder on a file system of `disk_bytes` that only the process sees. `None` where such
    /// a thing cannot be mounted.
    pub(crate) fn start_on_small_disk(project_toml: &str, disk_bytes: usize) -> Option<Self> {
        let mut server = Self::prepare(project_toml, &[]);
        server.disk_bytes = Some(disk_bytes);
        let mut trial = process::on_small_disk(&server.folder().join("data"), disk_bytes);
        trial.arg("true");
        if !process::succeeds(trial) {
            return None;
        }
        server.restart();
        Some(server)
    }

    fn prepare(project_toml: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("project.toml"), project_toml).expect("the project file");
        std::fs::create_dir(folder.path().join("data")).expect("the data folder");
        Self {
            folder,
            project: project_name(project_toml),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            process: None,
            client: Client::new(),
            environment: Vec::new(),
            disk_bytes: None,
        }
    }

    /// Starts the process again on the same port and data folder, after [`Server::kill_9`] or [`Server::stop`], and
    /// waits until it is ready.
    ///
    /// # Panics
    /// When it still runs, or is not ready within a minute.
    pub(crate) fn restart(&mut self) {
        self.launch();
        let process = self.process.as_mut().expect("it was just launched");
        match process.ready(READY_WITHIN) {
            Readiness::Ready(address) => self.address = address,
            Readiness::Late => panic!("not ready within {READY_WITHIN:?}:\n{}", process.log()),
            Readiness::Ended => panic!("ended before it was ready:\n{}", process.log()),
        }
    }

    /// Starts the process as [`Server::restart`] does and gives it `patience` to become ready. Says whether it did;
    /// it runs on either way.
    ///
    /// # Panics
    /// When it still runs, or ended by itself.
    pub(crate) fn restart_within(&mut self, patience: Duration) -> bool {
        self.launch();
        let process = self.process.as_mut().expect("it was just launched");
        match process.ready(patience) {
            Readiness::Ready(address) => {
                self.address = address;
                true
            }
            Readiness::Late => false,
            Readiness::Ended => panic!("ended before it was ready:\n{}", process.log()),
        }
    }

    fn launch(&mut self) {
        assert!(self.process.is_none(), "the server still runs");
        let data = self.folder.path().join("data");
        let mut command = match self.disk_bytes {
            None => command(),
            Some(bytes) => {
                let mut command = process::on_small_disk(&data, bytes);
                command.arg(process::BINARY);
                command
            }
        };
        command
            .arg("serve")
            .arg("--project")
            .arg(self.project_file())
            .arg("--data")
            .arg(data)
            .arg("--listen")
            .arg(self.address.to_string())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn(command));
    }

    /// Ends the process with SIGKILL and waits until it is gone. Nothing that the process holds in memory survives.
    pub(crate) fn kill_9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks the process with SIGTERM to end and waits for it.
    ///
    /// # Panics
    /// When it does not run, or has not ended within `patience`.
    pub(crate) fn stop(&mut self, patience: Duration) -> ExitStatus {
        let process = self.process.take().expect("the server runs");
        process.terminate(patience)
    }

    /// Makes a key of the project through the command line, beside the running server.
    pub(crate) fn key(&self, scope: Scope) -> String {
        let output = self.run(&[
            "keys",
            "create",
            "--project",
            &self.project,
            "--scope",
            scope.as_str(),
            "--json",
            "--data",
            &self.data().to_string_lossy(),
        ]);
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON from keys create");
        answer["key"]
            .as_str()
            .unwrap_or_else(|| panic!("no key in {answer}"))
            .to_owned()
    }

    /// Runs another command of the binary in the server's folder and waits for it.
    ///
    /// # Panics
    /// When it fails or takes longer than two minutes; the message has what it wrote.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = run(self.folder.path(), arguments);
        assert!(
            output.status.success(),
            "tidemill {} ended with {}:\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients are pointed at: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The data folder, as it is seen from here.
    pub(crate) fn data(&self) -> PathBuf {
        let data = self.folder.path().join("data");
        match (self.disk_bytes, &self.process) {
            (Some(_), Some(process)) => {
                let root = PathBuf::from(format!("/proc/{}/root", process.id()));
                root.join(data.strip_prefix("/").unwrap_or(&data))
            }
            _ => data,
        }
    }

    /// The temporary folder around the data folder and the project file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The project file.
    pub(crate) fn project_file(&self) -> PathBuf {
        self.folder.path().join("project.toml")
    }

    /// What the running process has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// GET with a key (empty: without one). The answer is `Value::Null` where the body is not JSON.
    pub(crate) fn get(&self, path: &str, key: &str) -> (u16, Value) {
        let (status, text) = self.ask("GET", path, key, "");
        (status, json(&text))
    }

    /// POST of a JSON body.
    pub(crate) fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask("POST", path, key, &body.to_string());
        (status, json(&text))
    }

    /// Changes something.
    pub(crate) fn put(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask("PUT", path, key, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Takes something away.
    pub(crate) fn delete(&self, path: &str, key: &str) -> (u16, Value) {
        let (status, text) = self.ask("DELETE", path, key, "");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// What a command of the binary prints about the server's data.
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let data = self.data();
        let data = data.to_string_lossy();
        let output = self.run(&[arguments, &["--data", &*data]].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command of the binary that must fail says on its error output.
    ///
    /// # Panics
    /// When it does not fail.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let data = self.data();
        let data = data.to_string_lossy();
        let output = run(self.folder(), &[arguments, &["--data", &*data]].concat());
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The JSON that a command of the binary prints about the server's data.
    pub(crate) fn json_of(&self, arguments: &[&str]) -> Value {
        let told = self.told(&[arguments, &["--json"]].concat());
        serde_json::from_str(&told).unwrap_or_else(|_| panic!("not JSON: {told}"))
    }

    /// Any request, its body and its answer as text.
    ///
    /// # Panics
    /// When no answer comes.
    pub(crate) fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> (u16, String) {
        self.client
            .ask(self.address, method, path, key, body)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// The counts of events of a server: `GET /v1/events/counts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Distinct events that are on disk.
    pub(crate) stored: u64,
    /// Events that came again.
    pub(crate) duplicates: u64,
    /// What was sent and is not an event.
    pub(crate) quarantined: u64,
}

impl Counts {
    /// Asks a server with a read or admin key.
    pub(crate) fn of(server: &Server, key: &str) -> Self {
        let (status, answer) = server.get("/v1/events/counts", key);
        assert_eq!(status, 200, "{answer}");
        let number = |name: &str| {
            answer[name]
                .as_u64()
                .unwrap_or_else(|| panic!("no number '{name}' in {answer}"))
        };
        Self {
            stored: number("stored"),
            duplicates: number("duplicates"),
            quarantined: number("quarantined"),
        }
    }
}

/// Sends events with these message ids, with any content, and says how many of them were new to the server: the way to
/// ask from outside which ids are stored.
///
/// # Panics
/// When any of them is refused or quarantined.
pub(crate) fn offer_again<'i>(
    server: &Server,
    key: &str,
    ids: impl IntoIterator<Item = &'i str>,
) -> u64 {
    let ids: Vec<&str> = ids.into_iter().collect();
    let mut new = 0;
    for portion in ids.chunks(1_000) {
        let batch: Vec<Value> = portion
            .iter()
            .map(|id| {
                serde_json::json!({
                    "type": "track", "event": "Offered Again", "userId": "u", "messageId": id
                })
            })
            .collect();
        let (status, answer) =
            server.post("/v1/batch", key, &serde_json::json!({ "batch": batch }));
        assert_eq!(status, 200, "{answer}");
        let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(
            number("accepted") + number("duplicates"),
            portion.len() as u64,
            "{answer}"
        );
        new += number("accepted");
    }
    new
}

/// Asks again until it holds: the loop works in the background, and each question takes it a moment.
pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    const QUESTIONS_MAX: u32 = 20_000;
    assert!(
        (0..QUESTIONS_MAX).any(|_| holds()),
        "it did not come about within {QUESTIONS_MAX} questions"
    );
}

/// Why a test does not run, and whether that is allowed here: where `TIDEMILL_REQUIRE_ALL` is set it is a failure.
///
/// # Panics
/// Where everything is required.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("TIDEMILL_REQUIRE_ALL").is_none(),
        "TIDEMILL_REQUIRE_ALL is set, but: {reason}"
    );
    eprintln!("skipped: {reason}");
}

fn project_name(project_toml: &str) -> String {
    let table: toml::Table = toml::from_str(project_toml).unwrap_or_default();
    table
        .get("project")
        .and_then(|project| project.get("name"))
        .and_then(toml::Value::as_str)
        .unwrap_or(PROJECT_NAME)
        .to_owned()
}

/// The folder into which `scripts/install-test-tools` installs.
pub(crate) fn tools() -> PathBuf {
    if let Some(folder) = std::env::var_os("TIDEMILL_TOOLS") {
        return PathBuf::from(folder);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("tidemill/tools")
}
