//! `server.json` in the data folder: how commands find the server that has it open.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What the server says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerFile {
    /// Where it listens.
    pub address: String,
    /// Its process.
    pub pid: u32,
}

fn path(data: &Path) -> PathBuf {
    data.join("server.json")
}

/// Writes the file; it is removed when the returned guard is dropped.
pub fn write(data: &Path, address: &str) -> Result<Guard> {
    let file = ServerFile {
        address: address.to_owned(),
        pid: std::process::id(),
    };
    let path = path(data);
    std::fs::write(&path, serde_json::to_vec(&file)?)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Guard(path))
}

/// Reads the file of a server that has the folder open.
pub fn read(data: &Path) -> Result<ServerFile> {
    let path = path(data);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "another process has the data folder {} open, and it is not a server",
            data.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Removes the file.
pub struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        // a file that stays behind does no harm: it is only read while the folder is locked
        let _ = std::fs::remove_file(&self.0);
    }
}
