//! Commands and processes of the real binary, with limits on every wait.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a command that is not a server may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// The line with which a server says that it is ready, up to its address.
const READY_LINE: &str = "listening on http://";

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
fn run_command(mut command: Command, patience: Duration) -> Output {
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

/// The binary under test.
pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_tidemill");

/// The binary, without what the environment of the test run could make it do differently.
pub(crate) fn command() -> Command {
    undisturbed(Command::new(BINARY))
}

/// Runs what is added as arguments with a file system of that size mounted over `folder`, in a namespace of its own.
pub(crate) fn on_small_disk(folder: &Path, bytes: usize) -> Command {
    let script = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec \"$@\"");
    let mut command = undisturbed(Command::new("unshare"));
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(folder);
    command
}

/// Whether a command can be run at all, and ends well.
pub(crate) fn succeeds(mut command: Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

fn undisturbed(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEMILL_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// Whether a process became ready.
pub(crate) enum Readiness {
    Ready(SocketAddr),
    Late,
    Ended,
}

/// A running server, its output read by threads so that a full pipe never stops it.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it.
    pub(crate) fn spawn(mut command: Command) -> Self {
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
    pub(crate) fn ready(&mut self, patience: Duration) -> Readiness {
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

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log
            .lock()
            .expect("no thread panics while it holds the log")
            .clone()
    }

    /// `Child::kill` is SIGKILL on Unix.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("the end of the server");
    }

    /// SIGTERM, and a wait for the end.
    pub(crate) fn terminate(mut self, patience: Duration) -> ExitStatus {
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
