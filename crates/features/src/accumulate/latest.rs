//! The newest values, in order.

use super::cell::{Place, decode_value, encode_value};
use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// The newest values, the newest first. They need no tiles: whatever a window reaches back to, the newest values in it are among
/// the newest of all, so a window only asks which of them are new enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest(Vec<(Place, Value)>);

impl Latest {
    /// One value.
    pub fn of(place: Place, value: Value) -> Self {
        Self(vec![(place, value)])
    }

    /// Adds a value, of which at most `k` are kept.
    pub fn add(&mut self, k: usize, place: Place, value: &Value) {
        let index = self.0.partition_point(|(other, _)| *other > place);
        if index >= k {
            return;
        }
        self.0.truncate(k - 1);
        self.0.insert(index, (place, value.clone()));
    }

    /// Adds the values of another list.
    pub fn merge(&mut self, k: usize, other: &Self) {
        for (place, value) in &other.0 {
            self.add(k, *place, value);
        }
    }

    /// Those that are not older than `start`.
    pub(super) fn since(&self, start: i64) -> &[(Place, Value)] {
        let old = self
            .0
            .partition_point(|(place, _)| place.timestamp >= start);
        &self.0[..old]
    }

    pub(super) fn encode(&self, writer: &mut Writer, reference: i64) {
        writer.unsigned(self.0.len() as u64);
        let (mut newer, mut offset) = (reference, 0u64);
        for (place, value) in &self.0 {
            writer.signed(newer.wrapping_sub(place.timestamp));
            writer.signed(place.offset.wrapping_sub(offset) as i64);
            encode_value(value, writer);
            (newer, offset) = (place.timestamp, place.offset);
        }
    }

    pub(super) fn decode(
        k: usize,
        reader: &mut Reader<'_>,
        reference: i64,
    ) -> Result<Self, DecodeError> {
        let mut values: Vec<(Place, Value)> = Vec::new();
        let (mut newer, mut offset) = (reference, 0u64);
        for _ in 0..reader.count()? {
            newer = reader.time(newer)?;
            offset = offset.wrapping_add(reader.signed()? as u64);
            let place = Place {
                timestamp: newer,
                offset,
            };
            values.push((place, decode_value(reader)?));
        }
        let in_order = values.is_sorted_by(|a, b| a.0 > b.0);
        let known = |(_, value): &(Place, Value)| *value != Value::Missing;
        if !(1..=k).contains(&values.len()) || !in_order || !values.iter().all(known) {
            return Err(DecodeError("the newest values are not in order"));
        }
        Ok(Self(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order in which values come, and wherever they are merged, the newest stay.
        #[test]
        fn the_newest_stay(times in prop::collection::vec(0i64..50, 1..40), k in 1usize..6, cut: prop::sample::Index, start in 0i64..60) {
            let all: Vec<(Place, Value)> = times.iter().enumerate().map(|(offset, &timestamp)| {
                (Place { timestamp, offset: offset as u64 }, Value::Number(offset as f64))
            }).collect();
            let list = |part: &[(Place, Value)]| {
                let mut list = Latest::of(part[0].0, part[0].1.clone());
                part[1..].iter().for_each(|(place, value)| list.add(k, *place, value));
                list
            };
            let mut expected = all.clone();
            expected.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
            expected.truncate(k);
            let whole = list(&all);
            prop_assert_eq!(&whole.0, &expected);
            let cut = cut.index(all.len());
            if cut > 0 {
                for (a, b) in [(&all[..cut], &all[cut..]), (&all[cut..], &all[..cut])] {
                    let mut merged = list(a);
                    merged.merge(k, &list(b));
                    prop_assert_eq!(&merged, &whole);
                }
            }
            expected.retain(|(place, _)| place.timestamp >= start);
            prop_assert_eq!(whole.since(start), &expected[..]);
        }
    }
}
