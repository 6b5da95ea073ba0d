//! A journal of fjall, checked before fjall reads it.
//!
//! fjall 3 cuts a journal off at the first place that it cannot read, whatever comes after it, and refuses to open one
//! whose last batch was written in part. Neither will do: a flipped bit must not take acknowledged events away
//! unnoticed, and a power cut must not keep the server from starting. So what is wrong is told apart here:
//!
//! - **torn**: the last batch was being written when the power went. Its caller was never answered; it is cut off.
//! - **damaged**: something that had been written whole is not what it was. A person has to look at it.
//!
//! The format (`fjall-3.1`, `src/journal/entry.rs`; numbers are little endian): a batch is a start (1, count: u32,
//! seqno: u64), as many items (2, type: u8, compression: u8, keyspace: u64, key length: u16, length: u32, length on disk:
//! u32, key, value) or clears (4, keyspace: u64), and an end (3, XXH3-64 of the items, `FJL` 3). After the last batch
//! come the zeros with which the file was allocated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::{StoreError, durable};

/// The marker of the database format whose journals are described above.
const VERSION: &[u8] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

/// What a disk writes as a whole, at least.
const SECTOR_BYTES: usize = 512;

/// Sequence numbers count writes; one that is this much larger than the one before is damaged.
const SEQNO_STEP_MAX: u64 = 1 << 40;

/// When what is in a journal was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synced {
    /// Each batch before the next was written: only the last one can be torn.
    EveryBatch,
    /// Once in a while: a power cut can leave holes, and everything from the first on is given up.
    Sometimes,
}

/// How a journal ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Whole,
    /// With a part of a batch, which begins here.
    Torn(usize),
    /// With something that is not what was written; it begins here.
    Damaged(usize, &'static str),
}

/// Checks the journals of a database, and cuts a torn batch off the newest. What is cut off is kept beside it.
///
/// # Errors
/// [`StoreError::Corrupt`] where a journal is damaged, and those of the file system.
pub(super) fn mend(database: &Path, synced: Synced) -> Result<(), StoreError> {
    match fs::read(database.join("version")) {
        Ok(version) if version == VERSION => {}
        // A new database, or one whose journals another version of fjall has to judge.
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::file("read the version of", database, e)),
    }
    let journals = journals(database).map_err(|e| StoreError::file("list", database, e))?;
    let newest = journals.last().cloned();
    for path in journals {
        let bytes = fs::read(&path).map_err(|e| StoreError::file("read", &path, e))?;
        let written = without_allocated(&bytes);
        let is_newest = newest.as_ref() == Some(&path);
        match ending(written) {
            Ending::Whole => {}
            Ending::Torn(at) if is_newest => cut_off(&path, written, at)?,
            Ending::Damaged(at, _) if is_newest && synced == Synced::Sometimes => {
                cut_off(&path, written, at)?;
            }
            Ending::Torn(at) => return Err(damaged(&path, at, "it ends within a batch")),
            Ending::Damaged(at, detail) => return Err(damaged(&path, at, detail)),
        }
    }
    Ok(())
}

fn damaged(path: &Path, at: usize, detail: &str) -> StoreError {
    StoreError::corrupt(
        format!("the journal {}", path.display()),
        format!("in the batch at byte {at}, {detail}"),
    )
}

/// The journals in the order in which they were written.
pub(super) fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Without the zeros that were never written to. A whole batch ends with a 3.
fn without_allocated(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)]
}

fn cut_off(path: &Path, written: &[u8], at: usize) -> Result<(), StoreError> {
    let failed = |e| StoreError::file("cut off the end of", path, e);
    let file = fs::File::options().write(true).open(path).map_err(failed)?;
    file.set_len(at as u64).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let copy = path.with_extension("cut-off");
    tracing::warn!(
        bytes = written.len() - at,
        copy = %copy.display(),
        "cut off a batch that was written in part when the process or the machine stopped"
    );
    if let Err(e) = durable::replace(&copy, &written[at..]) {
        // The copy is for a person who looks into it. When the disk is full, opening matters more.
        tracing::warn!(error = %e, copy = %copy.display(), "could not keep what was cut off");
    }
    Ok(())
}

fn ending(written: &[u8]) -> Ending {
    let (mut at, mut seqno) = (0, None);
    while at < written.len() {
        match read_batch(written, at, seqno) {
            Ok(batch) => {
                at = batch.end;
                seqno = Some(batch.seqno);
            }
            Err(stop) => return judge(written, at, stop),
        }
    }
    Ending::Whole
}

/// Why a batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// What was written ends before it does.
    RanOut,
    Bad(&'static str),
}

/// Tells torn from damaged. A part of a batch that the disk did not write are zeros, in whole sectors, or the end of
/// the file; and after a torn batch there is never another.
fn judge(written: &[u8], at: usize, stop: Stop) -> Ending {
    let first_sector = at.next_multiple_of(SECTOR_BYTES);
    let hole = written.get(first_sector..).is_some_and(|rest| {
        rest.chunks_exact(SECTOR_BYTES)
            .any(|sector| sector.iter().all(|byte| *byte == 0))
    });
    let ends = ends_of_batches(&written[at..]);
    let another_follows = ends.iter().any(|end| at + end < written.len());
    match stop {
        _ if another_follows => {
            Ending::Damaged(at, "something is damaged, and whole batches follow")
        }
        _ if hole => Ending::Torn(at),
        Stop::RanOut if ends.is_empty() => Ending::Torn(at),
        Stop::RanOut => Ending::Damaged(at, "a length is damaged"),
        Stop::Bad(detail) => Ending::Damaged(at, detail),
    }
}

/// Where what looks like the end of a batch ends.
fn ends_of_batches(bytes: &[u8]) -> Vec<usize> {
    const LENGTH: usize = 1 + 8 + VERSION.len();
    let is_end = |window: &[u8]| window[0] == END && window.ends_with(VERSION);
    bytes
        .windows(LENGTH)
        .enumerate()
        .filter(|(_, window)| is_end(window))
        .map(|(from, _)| from + LENGTH)
        .filter(|end| bytes.get(*end).is_none_or(|next| *next == START))
        .collect()
}

/// A batch that is whole.
struct Batch {
    seqno: u64,
    end: usize,
}

fn read_batch(written: &[u8], at: usize, before: Option<u64>) -> Result<Batch, Stop> {
    let mut rest = &written[at..];
    if take::<1>(&mut rest)? != [START] {
        return Err(Stop::Bad("its start is damaged"));
    }
    let count = u32::from_le_bytes(take(&mut rest)?);
    let seqno = u64::from_le_bytes(take(&mut rest)?);
    if before.is_some_and(|before| seqno <= before || seqno - before > SEQNO_STEP_MAX) {
        return Err(Stop::Bad("its number is damaged"));
    }
    let items = rest;
    for _ in 0..count {
        match take::<1>(&mut rest)? {
            [ITEM] => {
                let [_kind, compression] = take(&mut rest)?;
                if compression > 1 {
                    return Err(Stop::Bad("an item is damaged"));
                }
                take::<8>(&mut rest)?;
                let key = usize::from(u16::from_le_bytes(take(&mut rest)?));
                take::<4>(&mut rest)?;
                let value = u32::from_le_bytes(take(&mut rest)?) as usize;
                rest = rest.get(key + value..).ok_or(Stop::RanOut)?;
            }
            [CLEAR] => {
                take::<8>(&mut rest)?;
            }
            _ => return Err(Stop::Bad("an item is damaged")),
        }
    }
    let items = &items[..items.len() - rest.len()];
    if take::<1>(&mut rest)? != [END] {
        return Err(Stop::Bad("its end is damaged"));
    }
    let checksum = u64::from_le_bytes(take(&mut rest)?);
    if take::<4>(&mut rest)? != VERSION {
        return Err(Stop::Bad("its end is damaged"));
    }
    if xxh3_64(items) != checksum {
        return Err(Stop::Bad("its checksum is not that of its items"));
    }
    Ok(Batch {
        seqno,
        end: written.len() - rest.len(),
    })
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Result<[u8; LENGTH], Stop> {
    let (taken, after) = rest.split_first_chunk().ok_or(Stop::RanOut)?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal as fjall writes it, and where its batches end.
    fn journal() -> (Vec<u8>, Vec<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let database = fjall::Database::builder(folder.path()).open().unwrap();
        let keyspaces = ["a", "b"].map(|name| {
            database
                .keyspace(name, fjall::KeyspaceCreateOptions::default)
                .unwrap()
        });
        let mut ends = Vec::new();
        let mut bytes = Vec::new();
        for number in 0..6u8 {
            let mut batch = database
                .batch()
                .durability(Some(fjall::PersistMode::SyncAll));
            for keyspace in &keyspaces {
                batch.insert(keyspace, [number], vec![b'x'; 40 + usize::from(number)]);
                batch.insert(keyspace, "long", vec![number + 1; 5_000]);
                batch.remove(keyspace, [number.wrapping_sub(1)]);
            }
            batch.commit().unwrap();
            bytes = fs::read(folder.path().join("0.jnl")).unwrap();
            bytes.truncate(without_allocated(&bytes).len());
            ends.push(bytes.len());
        }
        assert_eq!(
            fs::read(folder.path().join("version")).unwrap(),
            VERSION,
            "the format of fjall has changed"
        );
        (bytes, ends)
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_is_torn_at_the_end_of_a_batch() {
        let (bytes, ends) = journal();
        assert_eq!(ending(&bytes), Ending::Whole);
        for length in 0..bytes.len() {
            let written = without_allocated(&bytes[..length]);
            let good = ends
                .iter()
                .copied()
                .filter(|end| *end <= written.len())
                .max()
                .unwrap_or(0);
            let expected = if good == written.len() {
                Ending::Whole
            } else {
                Ending::Torn(good)
            };
            assert_eq!(ending(written), expected, "cut at {length}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_never_taken_for_a_torn_batch() {
        let (bytes, ends) = journal();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                match ending(&flipped) {
                    Ending::Damaged(at, _) => {
                        assert!(at == 0 || ends.contains(&at), "flipped {place}");
                    }
                    // The number of a batch is not covered by its checksum, and does not matter while it counts up.
                    Ending::Whole => {
                        let begin = ends
                            .iter()
                            .copied()
                            .filter(|end| *end <= place)
                            .max()
                            .unwrap_or(0);
                        assert!(
                            (5..13).contains(&(place - begin)),
                            "flipped bit {bit} of {place}"
                        );
                    }
                    Ending::Torn(_) => panic!("flipped bit {bit} of {place}"),
                }
            }
        }
    }

    #[test]
    fn sectors_that_were_not_written_are_a_torn_batch() {
        let folder = tempfile::tempdir().unwrap();
        let database = fjall::Database::builder(folder.path()).open().unwrap();
        let keyspace = database
            .keyspace("a", fjall::KeyspaceCreateOptions::default)
            .unwrap();
        let mut ends = Vec::new();
        for number in 0..3u8 {
            let mut batch = database
                .batch()
                .durability(Some(fjall::PersistMode::SyncAll));
            for key in 0..20u8 {
                batch.insert(&keyspace, [number, key], vec![number + 1; 300]);
            }
            batch.commit().unwrap();
            ends.push(without_allocated(&fs::read(folder.path().join("0.jnl")).unwrap()).len());
        }
        let bytes = fs::read(folder.path().join("0.jnl")).unwrap();
        let bytes = without_allocated(&bytes);
        let sectors = |from: usize, to: usize| from.div_ceil(SECTOR_BYTES)..to / SECTOR_BYTES;
        for sector in sectors(ends[1], ends[2]) {
            let mut torn = bytes.to_vec();
            torn[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES].fill(0);
            assert_eq!(ending(&torn), Ending::Torn(ends[1]), "sector {sector}");
        }
        for sector in sectors(ends[0], ends[1]) {
            let mut hole = bytes.to_vec();
            hole[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES].fill(0);
            assert!(
                matches!(ending(&hole), Ending::Damaged(at, _) if at == ends[0]),
                "sector {sector}"
            );
        }
    }
}
