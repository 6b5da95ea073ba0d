//! Model files on the local file system.

use std::fs;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::{ArtifactHash, Artifacts, DataFolder, StoreError, durable};

/// [`Artifacts`] in a folder: `artifacts/<first two digits>/<hash>`.
#[derive(Debug, Clone)]
pub struct LocalArtifacts {
    folder: DataFolder,
}

impl LocalArtifacts {
    /// The model files of a data folder.
    pub fn open(folder: &DataFolder) -> Self {
        Self {
            folder: folder.clone(),
        }
    }

    fn path(&self, hash: &ArtifactHash) -> PathBuf {
        self.folder
            .artifacts()
            .join(&hash.as_str()[..2])
            .join(hash.as_str())
    }
}

#[async_trait]
impl Artifacts for LocalArtifacts {
    async fn put(&self, bytes: Vec<u8>) -> Result<ArtifactHash, StoreError> {
        let store = self.clone();
        blocking(move || {
            let hash = ArtifactHash::of(&bytes);
            let path = store.path(&hash);
            // What is there under this hash and is not these bytes is damaged: writing it again mends it.
            if !fs::read(&path).is_ok_and(|stored| stored == bytes) {
                durable::replace(&path, &bytes)
                    .map_err(|e| StoreError::file("write the artifact", &path, e))?;
            }
            Ok(hash)
        })
        .await
    }

    async fn get(&self, hash: &ArtifactHash) -> Result<Vec<u8>, StoreError> {
        let store = self.clone();
        let hash = hash.clone();
        blocking(move || {
            let path = store.path(&hash);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(StoreError::NotFound(format!("artifact '{hash}'")));
                }
                Err(e) => return Err(StoreError::file("read the artifact", &path, e)),
            };
            let found = ArtifactHash::of(&bytes);
            if found == hash {
                Ok(bytes)
            } else {
                Err(StoreError::corrupt(
                    format!("artifact '{hash}'"),
                    format!("its bytes have the hash {found}"),
                ))
            }
        })
        .await
    }
}

/// Runs what waits for the disk where it does not hold up the executor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Closed),
        },
    }
}
