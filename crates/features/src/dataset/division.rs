//! How steps and rows are divided: into partitions, as the query engine divides by a hash, and each of those into buckets.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, UInt32Array};
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;

/// The buckets of a partition. The states of one bucket are in memory at a time.
pub(super) const BUCKETS: usize = 256;

/// Which partition each value belongs to.
fn partitions_of(values: ArrayRef, partitions: usize) -> Result<Vec<usize>> {
    let mut hashes = vec![0; values.len()];
    create_hashes(
        &[values],
        REPARTITION_RANDOM_STATE.random_state(),
        &mut hashes,
    )?;
    let hashes = hashes.into_iter();
    Ok(hashes
        .map(|hash| (hash % partitions as u64) as usize)
        .collect())
}

/// Which partition each key belongs to.
pub(super) fn partitions_of_keys(keys: StringArray, partitions: usize) -> Result<Vec<usize>> {
    partitions_of(Arc::new(keys), partitions)
}

/// Which bucket of which partition groups of persons belong to, as partition · [`BUCKETS`] + bucket.
pub(super) struct GroupBuckets {
    partitions: usize,
    /// Of the groups so far.
    known: Vec<u32>,
}

impl GroupBuckets {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            partitions,
            known: Vec::new(),
        }
    }

    pub(super) fn of(&mut self, group: u32) -> Result<usize> {
        const GROUPS_AHEAD: u32 = 4_096;
        if group as usize >= self.known.len() {
            let from = self.known.len() as u32; // it is at most as large as a group
            let groups = UInt32Array::from_iter_values(from..group.saturating_add(GROUPS_AHEAD));
            let partitions = partitions_of(Arc::new(groups), self.partitions)?;
            let buckets = partitions
                .into_iter()
                .zip(from..)
                .map(|(partition, group)| {
                    (partition * BUCKETS + bucket_of_group(group)) as u32 // partitions are about as many as cores
                });
            self.known.extend(buckets);
        }
        Ok(self.known[group as usize] as usize)
    }
}

/// The bucket of a group of persons.
pub(super) fn bucket_of_group(group: u32) -> usize {
    (spread(u64::from(group)) >> 32) as usize % BUCKETS
}

/// The bucket of a key.
pub(super) fn bucket_of_key(key: &str) -> usize {
    let fnv = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (spread(fnv) >> 32) as usize % BUCKETS
}

fn spread(number: u64) -> u64 {
    (number ^ (number >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
