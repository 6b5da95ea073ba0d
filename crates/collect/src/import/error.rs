//! What can go wrong with an import as a whole. Bad rows do not fail it: they are quarantined.

use std::path::PathBuf;

use tidemill_store::StoreError;

use crate::intake::IntakeError;

/// Why an import failed. What had been stored before stays, and importing again continues there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source names no path and none was given.
    #[error("the source names no files: add path = \"history/*.csv\" to it, or name the files")]
    NoPath,
    /// There is no such file.
    #[error("no file matches {}", pattern.display())]
    NoFiles {
        /// What was looked for.
        pattern: PathBuf,
    },
    /// The ending of the file says nothing.
    #[error("tell the format of {}: name it .csv, .jsonl or .parquet (also .gz, .zst), or add format = \"csv\" to the source", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be opened or listed.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its format says.
    #[error("read {}: {detail}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was wrong, with the place.
        detail: String,
    },
    /// The mapping names a column that the file does not have.
    #[error("{} has no column '{column}' (mapped to {target}){hint}; its columns are {}", path.display(), columns.join(", "))]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The column that was named.
        column: String,
        /// Where it was to go.
        target: String,
        /// `, did you mean …?`, or nothing.
        hint: String,
        /// The columns that there are.
        columns: Vec<String>,
    },
    /// Nothing says when, who or what.
    #[error("{} has nothing for {target}: {remedy}; its columns are {}", path.display(), columns.join(", "))]
    NothingFor {
        /// The file.
        path: PathBuf,
        /// The field of the event that would be empty in every row.
        target: &'static str,
        /// What to do.
        remedy: &'static str,
        /// The columns that there are.
        columns: Vec<String>,
    },
    /// The mapping itself is not usable.
    #[error("the source maps '{target}': {detail}")]
    BadMapping {
        /// The target that was named.
        target: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A mapped column holds something that events cannot hold.
    #[error("column '{column}' of {} has the type {data_type}, which events cannot hold: convert it, or leave it out", path.display())]
    UnsupportedColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Temporary files for sorting cannot be written or read back.
    #[error("sort the rows in {}", folder.display())]
    Sort {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Events cannot be stored.
    #[error("store imported events")]
    Intake(#[from] IntakeError),
    /// The progress of the import cannot be stored or read.
    #[error("keep the progress of the import")]
    Progress(#[from] StoreError),
    /// The thread that reads the files ended unexpectedly.
    #[error("read the files: the reading thread stopped unexpectedly")]
    Stopped,
}
