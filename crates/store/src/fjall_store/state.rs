//! Online state in fjall keyspaces, one per table.

use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, PersistMode, Readable};
use tidemill_core::ProjectName;
use tidemill_core::sync::RwLock;

use super::FjallOptions;
use super::database::{self, Reopenable, failed};
use super::journal::Synced;
use super::keys;
use super::writeback::Writeback;
use crate::state::StateEntry;
use crate::{DataFolder, StateBatch, StateStore, StoreError};

/// [`StateStore`] on fjall.
pub struct FjallState {
    tables: Reopenable<Tables>,
    _writeback: Writeback,
    _folder: DataFolder,
}

struct Tables {
    database: Database,
    /// Those that were used since opening.
    by_name: RwLock<HashMap<&'static str, Keyspace>>,
}

impl FjallState {
    /// Opens the state of a data folder, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where what is stored does not read back as it was written,
    /// [`StoreError::Full`], and those of the file system.
    pub fn open(folder: &DataFolder, options: &FjallOptions) -> Result<Self, StoreError> {
        let cache_bytes = options.state_cache_bytes;
        let tables = Reopenable::open(folder.state(), move |path| {
            Ok(Tables {
                database: database::open(path, cache_bytes, Synced::Sometimes)?,
                by_name: RwLock::default(),
            })
        })?;
        let writeback = Writeback::start(folder.state());
        Ok(Self {
            tables,
            _writeback: writeback.map_err(|e| StoreError::backend("start a thread", e))?,
            _folder: folder.clone(),
        })
    }

    /// Writes the state of one moment into a new database; `fixed` is called when the moment is there.
    ///
    /// # Errors
    /// [`StoreError::Closed`] where the database had to be closed meanwhile, and those of reading and writing.
    pub(crate) fn export(&self, to: &Path, fixed: &mut dyn FnMut()) -> Result<(), StoreError> {
        let tables = self.tables.get()?;
        database::export(&tables.database, to, fixed, &|| self.tables.is_closing())
    }

    fn try_commit(&self, project: &ProjectName, batch: &StateBatch) -> Result<(), fjall::Error> {
        let Ok(tables) = self.tables.get() else {
            return Err(fjall::Error::Poisoned);
        };
        let mut write = tables.database.batch();
        for (table, key, value) in &batch.changes {
            let keyspace = tables.table(table)?;
            match value {
                Some(value) => write.insert(&keyspace, key_of(project, key), value.as_slice()),
                None => write.remove(&keyspace, key_of(project, key)),
            }
        }
        write.commit()
    }
}

impl Tables {
    /// A table, which is created where it is not there.
    fn table(&self, name: &'static str) -> fjall::Result<Keyspace> {
        if let Some(keyspace) = self.by_name.read().get(name) {
            return Ok(keyspace.clone());
        }
        let keyspace = self.database.keyspace(name, database::keyspace_options)?;
        self.by_name.write().insert(name, keyspace.clone());
        Ok(keyspace)
    }

    /// A table, if anything was ever written to it.
    fn existing(&self, name: &'static str) -> fjall::Result<Option<Keyspace>> {
        if self.by_name.read().contains_key(name) || self.database.keyspace_exists(name) {
            self.table(name).map(Some)
        } else {
            Ok(None)
        }
    }
}

fn key_of(project: &ProjectName, key: &[u8]) -> Vec<u8> {
    let mut full = keys::project(project);
    full.extend_from_slice(key);
    full
}

impl StateStore for FjallState {
    fn get(
        &self,
        project: &ProjectName,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let tables = self.tables.get()?;
        let read = || {
            let Some(keyspace) = tables.existing(table)? else {
                return Ok(None);
            };
            // Through a snapshot, because a batch that is being applied must not be seen in part.
            tables
                .database
                .snapshot()
                .get(&keyspace, key_of(project, key))
        };
        Ok(read()
            .map_err(|e| failed("read the state", e))?
            .map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        project: &ProjectName,
        table: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StoreError> {
        let tables = self.tables.get()?;
        let read = || {
            let Some(keyspace) = tables.existing(table)? else {
                return Ok(Vec::new());
            };
            let prefix = key_of(project, prefix);
            let start = match after.map(|after| key_of(project, after)) {
                Some(after) if after >= prefix => Bound::Excluded(after),
                Some(_) | None => Bound::Included(prefix.clone()),
            };
            let mut entries = Vec::new();
            for guard in tables
                .database
                .snapshot()
                .range::<Vec<u8>, _>(&keyspace, (start, Bound::Unbounded))
                .take(limit)
            {
                let (key, value) = guard.into_inner()?;
                if !key.starts_with(&prefix) {
                    break;
                }
                entries.push((key[keys::project(project).len()..].to_vec(), value.to_vec()));
            }
            Ok(entries)
        };
        read().map_err(|e| failed("read the state", e))
    }

    fn commit(&self, project: &ProjectName, batch: StateBatch) -> Result<(), StoreError> {
        match self.try_commit(project, &batch) {
            Ok(()) => Ok(()),
            // An earlier write failed, and nothing of this one was written.
            Err(fjall::Error::Poisoned) => {
                self.tables.reopen()?;
                self.try_commit(project, &batch)
                    .map_err(|e| failed("write the state", e))
            }
            Err(e) => Err(failed("write the state", e)),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let persist = || -> Result<_, StoreError> {
            Ok(self.tables.get()?.database.persist(PersistMode::SyncAll))
        };
        match persist()? {
            Err(fjall::Error::Poisoned) => {
                self.tables.reopen()?;
                persist()?
            }
            result => result,
        }
        .map_err(|e| failed("sync the state", e))
    }
}

impl fmt::Debug for FjallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallState").finish_non_exhaustive()
    }
}
