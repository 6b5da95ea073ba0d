//! `backup`: a copy of a data folder as it was at one moment, with the hash of every file, and whether a copy is still what it was.
//!
//! A backup is a folder with `data/`, which a server can be started on when it is copied elsewhere, and `backup.json`, which is written
//! last: without it the copy was broken off.

mod beside;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_console::LastBackup;
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Timestamp};
use tidemill_store::catalog::AuditEntry;
use tidemill_store::moment::{MOMENT, TAKEN_BY};
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{Catalog, DataFolder, StoreError};

use crate::cli::BackupArgs;
use crate::config::Config;
use crate::node::ACTOR;
use crate::output::{Output, thousands};

/// The form of `backup.json` that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// What belongs to the process that has the folder open, and not to the data.
const LEFT_OUT: [&str; 5] = ["LOCK", "server.json", LastBackup::FILE, MOMENT, TAKEN_BY];
/// How many differences are named.
const NAMED: usize = 10;

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// What was acknowledged before is in it.
    at: Timestamp,
    /// The version of Tidemill that made it.
    tidemill: String,
    /// Every file below `data/`, by its path there.
    files: BTreeMap<String, Copied>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// Carries out the command.
pub async fn run(config: &Config, args: &BackupArgs, output: Output) -> Result<()> {
    if args.verify {
        return verify(&args.folder, output);
    }
    let data = config.data();
    // opening makes a folder of data where there is none
    if !data.join("FORMAT").is_file() {
        bail!(
            "there is no data folder {}: --data names another one",
            data.display()
        );
    }
    let manifest = match DataFolder::open(&data) {
        Ok(folder) => of_stopped(&folder, &args.folder).await?,
        Err(StoreError::Locked { .. }) => beside::run(&data, &args.folder).await?,
        Err(error) => return Err(error.into()),
    };
    let (files, bytes) = (manifest.files.len() as u64, manifest.bytes());
    let shown = args.folder.display().to_string();
    output.result(
        &json!({ "folder": shown, "at": manifest.at, "files": files, "bytes": bytes }),
        |_| {
            format!(
                "{} files with {} bytes are in {shown}\n`tidemill backup --verify {shown}` says whether they still are what they were",
                thousands(files),
                thousands(bytes)
            )
        },
    );
    Ok(())
}

/// Copies a data folder that no server has open.
async fn of_stopped(folder: &DataFolder, to: &Path) -> Result<Manifest> {
    let data = folder.path();
    check_target(data, to)?;
    let at = SystemClock.now();
    let manifest = copy(&[Source::of(data, &LEFT_OUT)?], to, at)?;
    let catalog = SqliteCatalog::open(folder).await?;
    note(data, &catalog, to, &manifest).await?;
    Ok(manifest)
}

/// A folder whose files are copied, and their paths below it.
struct Source<'s> {
    folder: &'s Path,
    files: Vec<String>,
}

impl<'s> Source<'s> {
    /// All files of a folder but those that are left out, by the first part of their paths.
    fn of(folder: &'s Path, left_out: &[&str]) -> Result<Self> {
        let files = files_below(folder, folder, left_out)?;
        Ok(Self { folder, files })
    }
}

/// Refuses a folder that is no place for a backup.
fn check_target(data: &Path, to: &Path) -> Result<()> {
    let data = data
        .canonicalize()
        .with_context(|| format!("find {}", data.display()))?;
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty: each backup has a folder of its own",
            to.display()
        );
    }
    if nearest(to)?.starts_with(&data) {
        bail!(
            "{} is in the data folder: a backup belongs elsewhere, best on another machine",
            to.display()
        );
    }
    Ok(())
}

/// Copies files that nobody changes, and writes the manifest last. `at` is their moment.
fn copy(sources: &[Source<'_>], to: &Path, at: Timestamp) -> Result<Manifest> {
    make_folder(to)?;
    let mut manifest = Manifest {
        format: FORMAT,
        at,
        tidemill: env!("CARGO_PKG_VERSION").to_owned(),
        files: BTreeMap::new(),
    };
    let target = to.join("data");
    make_folder(&target)?;
    for Source { folder, files } in sources {
        for path in files {
            let copied = copy_file(&folder.join(path), &target.join(path))
                .with_context(|| format!("copy {}", folder.join(path).display()))?;
            manifest.files.insert(path.clone(), copied);
        }
    }
    sync_folders(&target)?;
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    let path = to.join("backup.json");
    let write = || {
        let mut file = private_file(&path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))?;
    sync_folder(to)?;
    Ok(manifest)
}

/// The folder itself, or the nearest above it that is there.
fn nearest(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|folder| folder.exists());
    let there = there.with_context(|| format!("find {}", path.display()))?;
    Ok(there.canonicalize()?)
}

/// Says in the data folder, for the console and the audit log, that there is a backup.
async fn note(data: &Path, catalog: &SqliteCatalog, to: &Path, manifest: &Manifest) -> Result<()> {
    let to = to.canonicalize()?.display().to_string();
    let last = LastBackup {
        at: manifest.at,
        folder: to.clone(),
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
    };
    let path = data.join(LastBackup::FILE);
    fs::write(&path, serde_json::to_vec(&last)?)
        .with_context(|| format!("write {}", path.display()))?;
    let entry = AuditEntry {
        at: SystemClock.now(),
        project: None,
        actor: ACTOR.to_owned(),
        action: "backup".to_owned(),
        subject: to,
        reason: String::new(),
    };
    let noted = catalog.audit(entry).await;
    catalog.close().await;
    Ok(noted?)
}

/// Reads a backup again and says where it differs from what was copied.
fn verify(folder: &Path, output: Output) -> Result<()> {
    let path = folder.join("backup.json");
    let text = fs::read(&path).with_context(|| {
        format!(
            "read {}: is this a backup, and was it not broken off?",
            path.display()
        )
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    if manifest.format > FORMAT {
        bail!(
            "{} has the form {}, and this version reads up to {FORMAT}: take a newer one",
            path.display(),
            manifest.format
        );
    }
    let differences = differences(&folder.join("data"), &manifest)?;
    if !differences.is_empty() {
        let named = differences.iter().take(NAMED).cloned();
        bail!(
            "the backup of {} is not what was copied, in {} of {} files: {}",
            manifest.at,
            differences.len(),
            manifest.files.len(),
            named.collect::<Vec<_>>().join("; ")
        );
    }
    let (files, bytes) = (manifest.files.len() as u64, manifest.bytes());
    output.result(
        &json!({ "at": manifest.at, "files": files, "bytes": bytes, "verified": true }),
        |_| {
            format!(
                "all {} files with {} bytes are as they were copied on {}",
                thousands(files),
                thousands(bytes),
                manifest.at
            )
        },
    );
    Ok(())
}

fn differences(data: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, copied) in &manifest.files {
        let path = data.join(name);
        match hash(&path) {
            Ok(now) if now == *copied => {}
            Ok(now) if now.bytes != copied.bytes => found.push(format!(
                "{name} has {} bytes instead of {}",
                now.bytes, copied.bytes
            )),
            Ok(_) => found.push(format!("{name} has other bytes")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                found.push(format!("{name} is absent"));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", path.display()));
            }
        }
    }
    let there = files_below(data, data, &LEFT_OUT)?;
    let more = there
        .iter()
        .filter(|name| !manifest.files.contains_key(*name));
    found.extend(more.map(|name| format!("{name} was not copied")));
    Ok(found)
}

/// The paths of all files of a folder, but what is left out of it, sorted, `/` between their parts.
fn files_below(root: &Path, folder: &Path, left_out: &[&str]) -> Result<Vec<String>> {
    let failed = || format!("read {}", folder.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(failed)?;
        let name = entry.file_name();
        if folder == root && left_out.iter().any(|left_out| name == **left_out) {
            continue;
        }
        if kind.is_dir() {
            all.extend(files_below(root, &path, left_out)?);
        } else if kind.is_file() {
            let below = path.strip_prefix(root).with_context(failed)?;
            let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
            let parts = parts.with_context(|| {
                format!(
                    "{} has a name that is not UTF-8: it is no file of Tidemill's, move it away",
                    path.display()
                )
            })?;
            all.push(parts.join("/"));
        } else {
            bail!(
                "{} is neither a file nor a folder: a backup follows no links, move it away",
                path.display()
            );
        }
    }
    all.sort();
    Ok(all)
}

fn copy_file(from: &Path, to: &Path) -> Result<Copied> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    let mut source = File::open(from)?;
    let mut target = private_file(to)?;
    let copied = hash_into(&mut source, |bytes| target.write_all(bytes))?;
    target.set_permissions(source.metadata()?.permissions())?;
    target.sync_all()?;
    Ok(copied)
}

fn hash(path: &Path) -> std::io::Result<Copied> {
    hash_into(&mut File::open(path)?, |_| Ok(()))
}

/// Hashes what is read, and gives it on.
fn hash_into(
    source: &mut impl Read,
    mut give: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<Copied> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = source.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        hasher.update(read);
        give(read)?;
        bytes += count as u64;
    }
    let sha256 = hasher.finalize();
    let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Copied { bytes, sha256 })
}

/// A new file that only its owner may read.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// A folder that only its owner may look into, if it is not there.
fn make_folder(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder
        .create(path)
        .with_context(|| format!("make the folder {}", path.display()))
}

/// Makes the names of all files below a folder last.
fn sync_folders(folder: &Path) -> Result<()> {
    let failed = || format!("sync {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path: PathBuf = entry.with_context(failed)?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    // only there a folder can be opened
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("sync {}", folder.display()))?;
    }
    Ok(())
}
