//! How keys are written: the project, a zero byte (which no name holds), and the rest so that it sorts.

use sha2::{Digest, Sha256};
use tidemill_core::{Offset, ProjectName, Timestamp};

/// Message ids up to this length are stored as they are, longer ones as their hash: a key has at most 65,535 bytes.
const MESSAGE_ID_BYTES_MAX: usize = 256;

/// The project and the zero byte: where all keys of a project begin.
pub(super) fn project(project: &ProjectName) -> Vec<u8> {
    let mut key = Vec::with_capacity(project.as_str().len() + 48);
    key.extend_from_slice(project.as_str().as_bytes());
    key.push(0);
    key
}

/// A project's place or number: big endian, so that keys sort like numbers.
pub(super) fn numbered(name: &ProjectName, number: u64) -> Vec<u8> {
    let mut key = project(name);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of a [`numbered`] key.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let (_, number) = key.split_last_chunk::<8>()?;
    Some(u64::from_be_bytes(*number))
}

/// An event's place.
pub(super) fn event(name: &ProjectName, offset: Offset) -> Vec<u8> {
    numbered(name, offset.0)
}

/// A message id of a project.
pub(super) fn message_id(name: &ProjectName, id: &str) -> Vec<u8> {
    let mut key = project(name);
    if id.len() <= MESSAGE_ID_BYTES_MAX {
        key.push(b'i');
        key.extend_from_slice(id.as_bytes());
    } else {
        key.push(b'h');
        key.extend_from_slice(&Sha256::digest(id.as_bytes()));
    }
    key
}

/// A time and what makes the key unique: sorts by time, before 1970 too.
pub(super) fn timed(time: Timestamp, unique: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + unique.len());
    key.extend_from_slice(&(time.micros() ^ i64::MIN).to_be_bytes());
    key.extend_from_slice(unique);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_what_they_stand_for() {
        let a: ProjectName = "a".parse().unwrap();
        assert!(event(&a, Offset(255)) < event(&a, Offset(256)));
        assert_eq!(number(&event(&a, Offset(256))), Some(256));
        let times =
            [i64::MIN, -1, 0, 1, i64::MAX].map(|micros| timed(Timestamp::from_micros(micros), &[]));
        assert!(times.is_sorted());
    }

    #[test]
    fn no_two_message_ids_share_a_key() {
        let (a, ab): (ProjectName, ProjectName) = ("a".parse().unwrap(), "ab".parse().unwrap());
        assert_ne!(message_id(&a, "bc"), message_id(&ab, "c"));
        let long = "x".repeat(70_000);
        assert_ne!(message_id(&a, &long), message_id(&a, &format!("{long}y")));
        assert!(message_id(&a, &long).len() < 200);
    }
}
