//! Finding and opening the files of a source: patterns, formats, compression, content hashes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tidemill_core::project::{Source, SourceFormat};
use tokio::sync::mpsc;

use super::ImportError;
use crate::message_id::hex;

const BUFFER_BYTES: usize = 256 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The files of a declared source, in the order of their names; `*` in its path stands for any text within one name.
///
/// # Errors
/// When the source names no path, when no file is there, or when a folder cannot be listed.
pub fn files(source: &Source, base: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let pattern = source.path.as_deref().ok_or(ImportError::NoPath)?;
    let mut found = vec![base.to_owned()];
    for part in Path::new(pattern).components() {
        let name = part.as_os_str().to_string_lossy();
        found = if name.contains('*') {
            let mut matching = Vec::new();
            for folder in &found {
                matching.extend(matching_names(folder, &name)?);
            }
            matching
        } else {
            found
                .iter()
                .map(|folder| folder.join(part))
                .filter(|path| path.exists())
                .collect()
        };
    }
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() {
        return Err(ImportError::NoFiles {
            pattern: base.join(pattern),
        });
    }
    Ok(found)
}

fn matching_names(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, ImportError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |source| ImportError::Open {
        path: folder.to_owned(),
        source,
    };
    let mut matching = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if matches(pattern, &entry.file_name().to_string_lossy()) {
            matching.push(entry.path());
        }
    }
    Ok(matching)
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len())
                .filter(|at| name.is_char_boundary(*at))
                .any(|at| matches(rest, &name[at..]))
        }),
    }
}

/// The format of a file: as declared, else by its ending without that of a compression.
pub(super) fn format(
    path: &Path,
    declared: Option<SourceFormat>,
) -> Result<SourceFormat, ImportError> {
    if let Some(format) = declared {
        return Ok(format);
    }
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let stem = [".zst", ".zstd", ".gz"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(&name);
    match stem.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv" | "tsv") => Ok(SourceFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(SourceFormat::Jsonl),
        Some("parquet" | "pq") => Ok(SourceFormat::Parquet),
        _ => Err(ImportError::UnknownFormat {
            path: path.to_owned(),
        }),
    }
}

/// How many bytes pass between two ticks.
const TICK_BYTES: u64 = 4 << 20;

/// Counts the bytes that are read of files as they lie on the disk, and tells somebody every few megabytes.
#[derive(Debug, Clone, Default)]
pub(super) struct ByteCount {
    bytes: Arc<AtomicU64>,
    ticks: Option<mpsc::Sender<u64>>,
}

impl ByteCount {
    pub(super) fn ticking(ticks: mpsc::Sender<u64>) -> Self {
        Self {
            bytes: Arc::default(),
            ticks: Some(ticks),
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        if let Some(ticks) = &self.ticks
            && before / TICK_BYTES != after / TICK_BYTES
        {
            // whoever is still busy with the tick before sees the sum with the next one
            let _ = ticks.try_send(after);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    count: ByteCount,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.add(read as u64);
        Ok(read)
    }
}

/// A reader of a file's text, decompressed where its first bytes say that it is compressed.
pub(super) type TextReader = Box<dyn BufRead + Send>;

/// Opens a text file.
pub(super) fn open(path: &Path, count: &ByteCount) -> Result<TextReader, ImportError> {
    let failed = |source| ImportError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut raw = BufReader::with_capacity(
        BUFFER_BYTES,
        Counted {
            inner: file,
            count: count.clone(),
        },
    );
    let start = raw.fill_buf().map_err(failed)?;
    if start.starts_with(&ZSTD) {
        let decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(failed)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    if start.starts_with(&GZIP) {
        let decoder = flate2::bufread::MultiGzDecoder::new(raw);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    Ok(Box::new(raw))
}

/// The SHA-256 of a file's bytes in hexadecimal, and how many there are.
pub(super) fn content_hash(path: &Path) -> Result<(String, u64), ImportError> {
    let failed = |source| ImportError::Open {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((hex(&hasher.finalize()), bytes));
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("*", "", true),
            ("ü*", "üb", true),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_by_pattern_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["h/2.csv", "h/1.csv", "h/x.txt", "i/3.csv"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let source = |path: &str| Source {
            path: Some(path.to_owned()),
            format: None,
            event: None,
            map: Default::default(),
        };
        let check = |pattern: &str, expected: &[&str]| {
            let found = files(&source(pattern), folder.path()).unwrap();
            let expected: Vec<PathBuf> = expected
                .iter()
                .map(|name| folder.path().join(name))
                .collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check("h/*.csv", &["h/1.csv", "h/2.csv"]);
        check("*/*.csv", &["h/1.csv", "h/2.csv", "i/3.csv"]);
        check("h/x.txt", &["h/x.txt"]);
        assert!(matches!(
            files(&source("h/*.gz"), folder.path()),
            Err(ImportError::NoFiles { .. })
        ));
        assert!(matches!(
            files(&source("none.csv"), folder.path()),
            Err(ImportError::NoFiles { .. })
        ));
    }

    #[test]
    fn formats_are_told_by_the_ending() {
        let check = |name: &str, expected: Option<SourceFormat>| {
            assert_eq!(format(Path::new(name), None).ok(), expected, "{name}");
        };
        check("a.csv", Some(SourceFormat::Csv));
        check("a.b.CSV.zst", Some(SourceFormat::Csv));
        check("a.ndjson.gz", Some(SourceFormat::Jsonl));
        check("a.parquet", Some(SourceFormat::Parquet));
        check("a.xlsx", None);
        check("a.zst", None);
    }
}
