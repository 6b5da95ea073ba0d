//! How full the process is.

/// How full the process is; what the system does not tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessLoad {
    /// The memory that is resident, in bytes.
    pub memory_bytes: Option<u64>,
    /// The size of the files in the data folder, in bytes.
    pub data_bytes: Option<u64>,
    /// What is free where the data folder is, in bytes.
    pub disk_free_bytes: Option<u64>,
    /// The size of the disk where the data folder is, in bytes.
    pub disk_bytes: Option<u64>,
}

impl ProcessLoad {
    /// Keeps the worse numbers of both: more memory and data, less that is free.
    pub(super) fn raise(&mut self, other: &Self) {
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.data_bytes = self.data_bytes.max(other.data_bytes);
        self.disk_free_bytes = match (self.disk_free_bytes, other.disk_free_bytes) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.disk_bytes = self.disk_bytes.max(other.disk_bytes);
    }
}
