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

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// The smallest project file that takes events.
pub(crate) const PROJECT: &str = "[project]\nname = \"shop\"\n";

/// The name in [`PROJECT`], and the project whose keys [`Server::key`] makes unless the file says otherwise.
const PROJECT_NAME: &str = "shop";

/// How long a server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a command that is not a server may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// How long one request may take, connecting included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The line with which a server says that it is ready, up to its address.
const READY_LINE: &str = "listening on http://";

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
}

impl Server {
    /// Writes `project_toml` to a file, starts `tidemill serve` on a free port with it and with `arguments`, and
    /// waits until it says that it is ready.
    ///
    /// # Panics
    /// When it is not ready within a minute; the message has what it wrote to standard error.
    pub(crate) fn start(project_toml: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("project.toml"), project_toml).expect("the project file");
        let mut server = Self {
            folder,
            project: project_name(project_toml),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            process: None,
            client: Client::new(),
        };
        server.restart();
        server
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
        let mut command = command();
        command
            .arg("serve")
            .arg("--project")
            .arg(self.project_file())
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(self.address.to_string())
            .args(&self.arguments);
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

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The temporary folder around the data folder and the project file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The project file.
    pub(crate) fn project_file(&self) -> PathBuf {
        self.folder.path().join("project.toml")
    }

    /// The process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// What the running process has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// GET with a key (empty: without one). The answer is `Value::Null` where the body is not JSON.
    pub(crate) fn get(&self, path: &str, key: &str) -> (u16, Value) {
        self.must(self.client.get(self.address, path, key), path)
    }

    /// GET of something that is not JSON, like `/metrics`.
    pub(crate) fn get_text(&self, path: &str, key: &str) -> (u16, String) {
        self.must(self.client.get_text(self.address, path, key), path)
    }

    /// POST of a JSON body.
    pub(crate) fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        self.must(self.client.post(self.address, path, key, body), path)
    }

    /// PUT of a JSON body.
    pub(crate) fn put(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        self.must(self.client.put(self.address, path, key, body), path)
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str, key: &str) -> (u16, Value) {
        self.must(self.client.delete(self.address, path, key), path)
    }

    fn must<T>(&self, answer: Result<T, ureq::Error>, path: &str) -> T {
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_9();
    }
}

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
            .proxy(None)
            .timeout_global(Some(ANSWER_WITHIN))
            .build()
            .new_agent();
        Self { http }
    }

    /// GET: the status and the JSON of the body (`Value::Null` where it is not JSON).
    ///
    /// # Errors
    /// When no answer came: refused, reset, or later than half a minute.
    pub(crate) fn get(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
    ) -> Result<(u16, Value), ureq::Error> {
        json(
            self.http
                .get(url(server, path))
                .header("authorization", authorization(key))
                .call()?,
        )
    }

    /// GET of text.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn get_text(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
    ) -> Result<(u16, String), ureq::Error> {
        let mut response = self
            .http
            .get(url(server, path))
            .header("authorization", authorization(key))
            .call()?;
        Ok((
            response.status().as_u16(),
            response.body_mut().read_to_string()?,
        ))
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn post(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        json(
            self.http
                .post(url(server, path))
                .header("authorization", authorization(key))
                .send_json(body)?,
        )
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn put(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        json(
            self.http
                .put(url(server, path))
                .header("authorization", authorization(key))
                .send_json(body)?,
        )
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn delete(
        &self,
        server: SocketAddr,
        path: &str,
        key: &str,
    ) -> Result<(u16, Value), ureq::Error> {
        json(
            self.http
                .delete(url(server, path))
                .header("authorization", authorization(key))
                .call()?,
        )
    }
}

fn url(server: SocketAddr, path: &str) -> String {
    format!("http://{server}{path}")
}

/// An empty key is sent as an empty bearer: the same as none to the server, and one path fewer here.
fn authorization(key: &str) -> String {
    format!("Bearer {key}")
}

fn json(mut response: ureq::http::Response<ureq::Body>) -> Result<(u16, Value), ureq::Error> {
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string()?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
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

/// Runs the binary with these arguments in a folder and waits for it, whatever its exit status.
///
/// # Panics
/// When it takes longer than two minutes.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = command();
    command.args(arguments).current_dir(folder);
    run_command(command, COMMAND_WITHIN)
}

/// Runs any command to its end.
///
/// # Panics
/// When it cannot be started or takes longer than `patience`; then it is killed.
pub(crate) fn run_command(mut command: Command, patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let (sender, receiver) = channel();
    let stdout = read_to_end(child.stdout.take().expect("it is piped"), sender.clone());
    let stderr = read_to_end(child.stderr.take().expect("it is piped"), sender);
    // both pipes closed: the process has ended, or is about to. The senders are dropped then.
    let in_time = !matches!(
        receiver.recv_timeout(patience),
        Err(RecvTimeoutError::Timeout)
    );
    if !in_time {
        child.kill().expect("kill what took too long");
    }
    let status = child.wait().expect("the end of the command");
    let output = Output {
        status,
        stdout: stdout.join().expect("read standard output"),
        stderr: stderr.join().expect("read standard error"),
    };
    assert!(
        in_time,
        "{command:?} took longer than {patience:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Reads a pipe on a thread of its own; `done` is dropped when it has ended.
fn read_to_end(
    mut pipe: impl Read + Send + 'static,
    done: Sender<()>,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // a broken pipe ends the output; what was read until then is what there is
        let _ = pipe.read_to_end(&mut bytes);
        drop(done);
        bytes
    })
}

/// The binary, without what the environment of the test run could make it do differently.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEMILL_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
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

/// Whether a process became ready.
enum Readiness {
    Ready(SocketAddr),
    Late,
    Ended,
}

/// A running server, its output read by threads so that a full pipe never stops it.
struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the server");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // nobody listens any more once the address is known; the pipe is read to its end all the same
                let _ = sender.send(line);
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = written
                    .lock()
                    .expect("no thread panics while it holds the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, lines, log }
    }

    /// Waits for the line that says that it listens.
    fn ready(&mut self, patience: Duration) -> Readiness {
        let deadline = tidemill_core::clock::Stopwatch::start();
        loop {
            let left = patience.saturating_sub(Duration::from_micros(deadline.micros()));
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some((_, address)) = line.split_once(READY_LINE) {
                        let address = address.trim().trim_end_matches('/');
                        let address = address
                            .parse()
                            .unwrap_or_else(|_| panic!("no address in '{line}'"));
                        return Readiness::Ready(address);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Readiness::Late,
                Err(RecvTimeoutError::Disconnected) => return Readiness::Ended,
            }
        }
    }

    fn log(&self) -> String {
        self.log
            .lock()
            .expect("no thread panics while it holds the log")
            .clone()
    }

    /// `Child::kill` is SIGKILL on Unix.
    fn kill(mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("the end of the server");
    }

    fn terminate(mut self, patience: Duration) -> ExitStatus {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.child.id().to_string()]);
        let sent = run_command(kill, COMMAND_WITHIN);
        assert!(sent.status.success(), "SIGTERM could not be sent");
        let deadline = tidemill_core::clock::Stopwatch::start();
        loop {
            let left = patience.saturating_sub(Duration::from_micros(deadline.micros()));
            match self.lines.recv_timeout(left) {
                Ok(_) => {}
                // its standard output is closed: it has ended or is about to
                Err(RecvTimeoutError::Disconnected) => {
                    return self.child.wait().expect("the end of the server");
                }
                Err(RecvTimeoutError::Timeout) => {
                    let log = self.log();
                    self.kill();
                    panic!("not ended within {patience:?} of SIGTERM:\n{log}");
                }
            }
        }
    }
}
