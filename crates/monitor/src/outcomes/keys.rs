//! The keys of open decisions, deadlines and outcomes in the state store.

use tidemill_core::{ModelName, Timestamp};

/// The length comes first, so that nobody's prefix is a prefix of somebody else's.
pub(super) fn open_prefix(person: &str) -> Vec<u8> {
    let length = u32::try_from(person.len()).unwrap_or(u32::MAX);
    let mut key = length.to_be_bytes().to_vec();
    key.extend(person.as_bytes());
    key
}

pub(super) fn open_key(person: &str, sequence: u64) -> Vec<u8> {
    let mut key = open_prefix(person);
    key.extend(sequence.to_be_bytes());
    key
}

pub(super) fn person_of(open_key: &[u8]) -> String {
    let person = open_key
        .get(4..open_key.len().saturating_sub(8))
        .unwrap_or_default();
    String::from_utf8_lossy(person).into_owned()
}

/// The last 8 bytes of a key; keys are made here, and a shorter one has no place.
pub(super) fn sequence_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn due_key(deadline: Timestamp, sequence: u64) -> Vec<u8> {
    let mut key = deadline.micros().to_be_bytes().to_vec();
    key.extend(sequence.to_be_bytes());
    key
}

pub(super) fn deadline_of(due_key: &[u8]) -> Timestamp {
    due_key.first_chunk::<8>().map_or(Timestamp::MAX, |bytes| {
        Timestamp::from_micros(i64::from_be_bytes(*bytes))
    })
}

pub(super) fn outcome_prefix(model: &ModelName) -> Vec<u8> {
    open_prefix(model.as_str())
}

pub(super) fn outcome_key(model: &ModelName, moment: Timestamp, sequence: u64) -> Vec<u8> {
    let mut key = outcome_prefix(model);
    key.extend(moment.micros().to_be_bytes());
    key.extend(sequence.to_be_bytes());
    key
}
