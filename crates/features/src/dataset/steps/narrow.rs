//! Small whole numbers in a column as narrow as the largest of them allows: steps wait in memory, and most have few kinds of
//! events, conditions and models.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

use super::taken;

/// The type of a column of numbers with that many bits.
pub(super) fn data_type(bits: u32) -> DataType {
    match bits {
        0..=8 => DataType::UInt8,
        9..=16 => DataType::UInt16,
        17..=32 => DataType::UInt32,
        _ => DataType::UInt64,
    }
}

/// A column that is being filled.
pub(super) enum Narrow {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
    Eight(Vec<u64>),
}

impl Narrow {
    pub(super) fn new(bits: u32) -> Self {
        match bits {
            0..=8 => Self::One(Vec::new()),
            9..=16 => Self::Two(Vec::new()),
            17..=32 => Self::Four(Vec::new()),
            _ => Self::Eight(Vec::new()),
        }
    }

    /// Adds a number, which has no more bits than the column was made for.
    pub(super) fn push(&mut self, number: u64) {
        match self {
            Self::One(column) => column.push(number as u8),
            Self::Two(column) => column.push(number as u16),
            Self::Four(column) => column.push(number as u32),
            Self::Eight(column) => column.push(number),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        match self {
            Self::One(column) => column.reserve_exact(rows),
            Self::Two(column) => column.reserve_exact(rows),
            Self::Four(column) => column.reserve_exact(rows),
            Self::Eight(column) => column.reserve_exact(rows),
        }
    }

    pub(super) fn take(&mut self) -> ArrayRef {
        match self {
            Self::One(column) => Arc::new(UInt8Array::from(taken(column))),
            Self::Two(column) => Arc::new(UInt16Array::from(taken(column))),
            Self::Four(column) => Arc::new(UInt32Array::from(taken(column))),
            Self::Eight(column) => Arc::new(UInt64Array::from(taken(column))),
        }
    }
}

/// The numbers of a column.
pub(in crate::dataset) enum NarrowValues<'b> {
    One(&'b [u8]),
    Two(&'b [u16]),
    Four(&'b [u32]),
    Eight(&'b [u64]),
}

impl<'b> NarrowValues<'b> {
    /// Those of a column of whole numbers without sign.
    pub(in crate::dataset) fn of(column: &'b ArrayRef) -> Self {
        match column.data_type() {
            DataType::UInt8 => Self::One(column.as_primitive::<UInt8Type>().values()),
            DataType::UInt16 => Self::Two(column.as_primitive::<UInt16Type>().values()),
            DataType::UInt32 => Self::Four(column.as_primitive::<UInt32Type>().values()),
            _ => Self::Eight(column.as_primitive::<UInt64Type>().values()),
        }
    }

    pub(in crate::dataset) fn get(&self, row: usize) -> u64 {
        match self {
            Self::One(numbers) => u64::from(numbers[row]),
            Self::Two(numbers) => u64::from(numbers[row]),
            Self::Four(numbers) => u64::from(numbers[row]),
            Self::Eight(numbers) => numbers[row],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_the_narrowest_column() {
        for bits in [0, 1, 8, 9, 16, 17, 32, 33, 64] {
            let most = if bits == 0 {
                0
            } else {
                u64::MAX >> (64 - bits)
            };
            let mut column = Narrow::new(bits);
            column.push(most);
            column.push(0);
            let array = column.take();
            assert_eq!(array.data_type(), &data_type(bits));
            let values = NarrowValues::of(&array);
            assert_eq!((values.get(0), values.get(1)), (most, 0), "{bits} bits");
        }
    }
}
