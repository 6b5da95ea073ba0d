//! On what it was measured.

use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use crate::latency::median;

/// How often the disk is asked.
const SYNCS: usize = 50;

/// The machine, as far as it explains figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// What the processor calls itself.
    pub(crate) processor: String,
    /// All of it, in GiB.
    pub(crate) memory_gib: f64,
    /// Processes that wanted to run in the minute before: what the machine was busy with anyway.
    pub(crate) load_before: f64,
    /// The kernel's version.
    pub(crate) kernel: String,
    /// The median of appending 4 KiB to a file in the folder that was measured in and syncing it, in microseconds: what
    /// an acknowledgement costs at least when it waits alone.
    pub(crate) sync_4k_us: f64,
    /// Which source this is.
    pub(crate) revision: String,
}

impl Machine {
    /// Looks at this machine, and at the disk below `folder`.
    ///
    /// # Errors
    /// When `folder` cannot be written to.
    pub(crate) fn here(folder: &Path) -> anyhow::Result<Self> {
        let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = read_to_string("/proc/loadavg").unwrap_or_default();
        let memory_kib: f64 = field(&memory, "MemTotal")
            .and_then(|value| value.split(' ').next()?.parse().ok())
            .unwrap_or(f64::NAN);
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&processors, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            memory_gib: (memory_kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            load_before: load
                .split(' ')
                .next()
                .and_then(|minute| minute.parse().ok())
                .unwrap_or(f64::NAN),
            kernel: kernel.trim().to_owned(),
            sync_4k_us: sync_cost(folder)?,
            revision: revision(),
        })
    }
}

/// The value of the first `name: value` line.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim())
}

fn sync_cost(folder: &Path) -> anyhow::Result<f64> {
    let path = folder.join("sync-cost");
    let mut file = File::create(&path)?;
    let mut micros = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        micros.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(median(micros).round())
}

fn revision() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn here() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::here(folder.path()).unwrap();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && machine.sync_4k_us > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
