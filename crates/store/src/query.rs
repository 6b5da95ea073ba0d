//! Questions in SQL over a project's tables: what is asked within, and what comes back.

use std::time::Duration;

use crate::StoreError;

/// What a question may take. Whatever it asks for, it ends within these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLimits {
    /// The most rows that come back; further ones are left off, and [`QueryAnswer::more`] says so.
    pub rows_max: usize,
    /// The most bytes of the texts of all cells together.
    pub answer_bytes_max: usize,
    /// The most bytes that sorting, joining and counting may hold at once; nothing goes to the disk.
    pub memory_bytes_max: usize,
    /// The longest that it may take.
    pub time_max: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            rows_max: 10_000,
            answer_bytes_max: 16 << 20,
            memory_bytes_max: 256 << 20,
            time_max: Duration::from_secs(20),
        }
    }
}

/// A column of a table or of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryColumn {
    /// Its name.
    pub name: String,
    /// What its values are: `number`, `text`, `time`, `date`, `yes or no`, or another type as the engine calls it.
    pub kind: String,
    /// Whether its values are numbers.
    pub is_number: bool,
}

/// A table that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryTable {
    /// Its name as SQL writes it.
    pub name: String,
    /// Its columns.
    pub columns: Vec<QueryColumn>,
}

/// What a question brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// The columns.
    pub columns: Vec<QueryColumn>,
    /// Cells as texts, absent where there is no value; times in RFC 3339.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there were more rows than may come back.
    pub more: bool,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is no SQL, names what is not there, or would change something.
    #[error("{0}")]
    Refused(String),
    /// It took longer than it may.
    #[error("it took longer than {} s: ask for fewer days, columns or rows", .0.as_secs())]
    TooSlow(Duration),
    /// It needs more memory, or its answer is larger, than it may be.
    #[error("{0}")]
    TooLarge(String),
    /// The tables could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
