//! Files that are on disk as a whole when the call returns, and that a crash leaves either as they were or as they
//! are to be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file that takes the place of what was there. Survives power loss once this returns.
///
/// # Errors
/// Those of the file system. The file is then as it was before.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes, |staged, path| fs::rename(staged, path))
}

/// Writes a file that must not be there yet. Survives power loss once this returns.
///
/// # Errors
/// `AlreadyExists`, and those of the file system. The file is then as it was before.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes, |staged, path| {
        fs::hard_link(staged, path)?;
        fs::remove_file(staged)
    })
}

/// Makes what was created, renamed or removed in a folder durable.
///
/// # Errors
/// Those of the file system.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a folder with those above it, durably.
///
/// # Errors
/// Those of the file system.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn place(
    path: &Path,
    bytes: &[u8],
    put_in_place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let staged = staged_path(path);
    let written = (|| {
        let mut file = File::create(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        put_in_place(&staged, path)
    })();
    if written.is_err() {
        // It is not there when creating it failed, and nothing more can be done when removing it fails.
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folder(folder)
}

/// Where a file is written before it gets its name. A `#` and digits at the end is what `object_store` leaves out of
/// its listings.
fn staged_path(path: &Path) -> PathBuf {
    static STAGED: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    // The process id sets apart what a killed process left behind, the number two writers of one file.
    name.push(format!(
        "#{}{:010}",
        std::process::id(),
        STAGED.fetch_add(1, Ordering::Relaxed)
    ));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_created_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b");
        create(&path, b"one").unwrap();
        assert_eq!(
            create(&path, b"two").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing staged is left"
        );
    }
}
