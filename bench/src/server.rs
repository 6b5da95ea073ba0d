//! The real binary, in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::client::ask;
use crate::process::Running;

/// `tidemill serve` with a project and its data folder. Dropping it ends the process and removes the folder.
pub(crate) struct Server {
    // before the folder, because fields are dropped in order
    running: Option<Running>,
    binary: PathBuf,
    project: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// Prepares a folder with a project file; nothing runs yet.
    ///
    /// # Errors
    /// When there is no temporary folder.
    pub(crate) fn prepare(
        binary: &Path,
        project: &str,
        project_file: &str,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidemill-bench-")
            .tempdir()?;
        std::fs::write(folder.path().join("project.toml"), project_file)?;
        Ok(Self {
            running: None,
            binary: binary.to_owned(),
            project: project.to_owned(),
            folder,
        })
    }

    /// Starts it on a free port and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--project"])
            .arg(self.project_file())
            .arg("--data")
            .arg(self.data());
        self.running = Some(Running::start(command)?);
        Ok(())
    }

    /// The process.
    ///
    /// # Errors
    /// When it was not started.
    pub(crate) fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("the server was not started")
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the command fails.
    pub(crate) fn key(&self, scope: &str) -> anyhow::Result<String> {
        let data = self.data();
        let output = self.run(&[
            "keys",
            "create",
            "--project",
            &self.project,
            "--scope",
            scope,
            "--json",
            "--data",
            &data.to_string_lossy(),
        ])?;
        let answer: Value = serde_json::from_str(&output).context("read the key")?;
        Ok(answer["key"]
            .as_str()
            .context("keys create printed no key")?
            .to_owned())
    }

    /// Runs another command of the binary to its end; what it printed.
    ///
    /// # Errors
    /// When it fails; the message has what it wrote.
    pub(crate) fn run(&self, arguments: &[impl AsRef<str>]) -> anyhow::Result<String> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let output = Command::new(&self.binary).args(&arguments).output()?;
        ensure!(
            output.status.success(),
            "tidemill {} ended with {}:\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How many distinct events it says are on disk.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn stored(&self, key: &str) -> anyhow::Result<u64> {
        let counts = ask(
            self.running()?.address,
            "GET",
            "/v1/events/counts",
            key,
            b"",
        )?;
        counts["stored"]
            .as_u64()
            .with_context(|| format!("no count in {counts}"))
    }

    /// The temporary folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The project file.
    pub(crate) fn project_file(&self) -> PathBuf {
        self.folder.path().join("project.toml")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}
