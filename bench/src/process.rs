//! A server in a process of its own, and what the kernel says it spent.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a server may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The line with which a server says that it is ready, up to its address.
const READY_LINE: &str = "listening on http://";

/// The unit of processor times in /proc: Linux's USER_HZ, which is 100 on every architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts it and waits for the line that says where it listens.
    ///
    /// # Errors
    /// When it ends before, or takes longer than two minutes.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let stdout = child.stdout.take().context("its output is not piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // nobody listens once the address is known; the pipe is read to its end all the same
                let _ = sender.send(line);
            }
        });
        // from here on it is killed when something goes wrong
        let mut running = Self {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let begin = Instant::now();
        loop {
            match lines.recv_timeout(READY_WITHIN.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    if let Some((_, address)) = line.split_once(READY_LINE) {
                        running.address = address.trim().trim_end_matches('/').parse()?;
                        return Ok(running);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{command:?} is not ready"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "{command:?} ended with {} before it was ready",
                        running.child.wait()?
                    )
                }
            }
        }
    }

    /// Processor time that it has used so far, in seconds, user and system together.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        processor_ticks(&stat)
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .context("read its processor time")
    }

    /// The most memory that it has held, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory_peak_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<f64>().ok())
            .map(|kib| kib / 1024.0)
            .context("read its peak memory")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended by itself; then there is nothing to kill
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of the fields utime and stime of a line of /proc/PID/stat. The second field is the program's name in
/// parentheses and may contain anything.
fn processor_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_of_an_odd_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(processor_ticks(stat), Some(300.0));
        assert_eq!(processor_ticks("12 (a) S 1"), None);
    }

    #[test]
    fn a_server_is_found_by_its_line_and_killed() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo hello; echo listening on http://127.0.0.1:4321; exec sleep 60",
        ]);
        let running = Running::start(command).unwrap();
        assert_eq!(running.address.port(), 4321);
        assert!(running.memory_peak_mib().unwrap() > 0.0);
        assert!(running.processor_seconds().unwrap() >= 0.0);
        let pid = running.child.id();
        drop(running);
        assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    }

    #[test]
    fn a_server_that_ends_is_an_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no; exit 3"]);
        let error = Running::start(command).err().unwrap().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
