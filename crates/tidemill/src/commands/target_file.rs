//! A file that a command writes: checked before the work begins, and there under its name only when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Parquet,
    Csv,
}

impl FileFormat {
    /// As the file's name ends.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// See the module. What is incomplete is removed when this is dropped.
#[derive(Debug)]
pub struct TargetFile {
    to: PathBuf,
    staged: PathBuf,
    pub format: FileFormat,
}

impl TargetFile {
    /// A file that is to be written.
    pub fn new(to: &Path, overwrite: bool) -> Result<Self> {
        let format = match to.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => FileFormat::Parquet,
            Some("csv") => FileFormat::Csv,
            _ => bail!("--to {} does not end in .parquet or .csv", to.display()),
        };
        if to.exists() && !overwrite {
            bail!(
                "{} is there already\n  --overwrite replaces it",
                to.display()
            );
        }
        let mut staged = to.as_os_str().to_owned();
        staged.push(".part");
        Ok(Self {
            to: to.to_owned(),
            staged: PathBuf::from(staged),
            format,
        })
    }

    /// Begins to write it.
    pub fn create(&self) -> Result<File> {
        File::create(&self.staged).with_context(|| format!("write {}", self.staged.display()))
    }

    /// Gives it its name. Returns its bytes.
    pub fn finish(self) -> Result<u64> {
        std::fs::rename(&self.staged, &self.to)
            .and_then(|()| std::fs::metadata(&self.to))
            .map(|file| file.len())
            .with_context(|| format!("write {}", self.to.display()))
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        // after it has got its name there is nothing; and nothing more can be done when removing fails
        let _ = std::fs::remove_file(&self.staged);
    }
}
