//! Local files below the lake that survive power loss: what was written is synced before the next thing that refers
//! to it. (The local store of `object_store` never syncs.)

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake_core::logstore::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart, local::LocalFileSystem, path::Path,
};
use futures::stream::BoxStream;

use crate::durable;

/// The local file system, with every write synced before it counts.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncedDisk {
    files: Arc<LocalFileSystem>,
}

impl fmt::Display for SyncedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncedDisk")
    }
}

impl SyncedDisk {
    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.files.path_to_filesystem(location)?;
        on_disk(path, |path| {
            std::fs::File::open(path)?.sync_all()?;
            // The folder may be a new one: a partition.
            for folder in path.ancestors().skip(1).take(2) {
                durable::sync_folder(folder)?;
            }
            Ok(())
        })
        .await
    }
}

async fn on_disk(
    path: PathBuf,
    work: impl FnOnce(&PathBuf) -> io::Result<()> + Send + 'static,
) -> Result<()> {
    let worked = tokio::task::spawn_blocking(move || {
        work(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists {
                path: path.display().to_string(),
                source: Box::new(source),
            },
            _ => Error::Generic {
                store: "SyncedDisk",
                source: Box::new(source),
            },
        })
    });
    worked.await.map_err(|source| Error::Generic {
        store: "SyncedDisk",
        source: Box::new(source),
    })?
}

#[async_trait]
impl ObjectStore for SyncedDisk {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let path = self.files.path_to_filesystem(location)?;
        let bytes = Bytes::from(payload);
        match opts.mode {
            PutMode::Overwrite => on_disk(path, move |path| durable::replace(path, &bytes)).await?,
            PutMode::Create => on_disk(path, move |path| durable::create(path, &bytes)).await?,
            PutMode::Update(_) => {
                return Err(Error::NotSupported {
                    source: "a local file has no version to update from".into(),
                });
            }
        }
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SyncedUpload {
            upload,
            disk: self.clone(),
            location: location.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        // A file that comes back after power loss does no harm: nothing refers to it.
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

#[derive(Debug)]
struct SyncedUpload {
    upload: Box<dyn MultipartUpload>,
    disk: SyncedDisk,
    location: Path,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.upload.complete().await?;
        self.disk.sync(&self.location).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
