//! How many different values there are: exactly while they are few, HyperLogLog after.

use std::f64::consts::LN_2;

use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// A `distinct` cell is exact while it holds fewer different values than this, and a window while all its cells are. From there on
/// the relative standard error is 1.04/√1024 = 3.25 %.
pub const DISTINCT_EXACT_BELOW: usize = 128;

/// The bits of a hash that choose a register.
const INDEX_BITS: u32 = 10;
/// How many registers there are.
const REGISTERS: usize = 1 << INDEX_BITS;
/// The bits of a hash that a register looks at.
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// The largest value of a register: none of its bits is set.
const RANK_MAX: u8 = RANK_BITS as u8 + 1;

/// Different values. What it holds depends only on which values it saw, not on their order or on how it was merged.
#[derive(Debug, Clone, PartialEq)]
pub enum Distinct {
    /// The hashes of all of them, ascending.
    Few(Vec<u64>),
    /// HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007).
    Many(Registers),
}

/// For each group of hashes the largest position of the first bit that is set.
#[derive(Debug, Clone, PartialEq)]
pub struct Registers(Box<[u8; REGISTERS]>);

/// A hash that never changes: FNV-1a over the bytes, then the finaliser of MurmurHash3 (64 bits), which spreads it evenly.
fn hash(value: &Value) -> u64 {
    finish_hash(match value {
        Value::Missing => FNV_START,
        Value::Number(number) => fnv(FNV_START ^ 1, &number.to_bits().to_le_bytes()),
        Value::Category(text) => fnv(FNV_START, text.as_bytes()),
    })
}

/// The hash of a text.
pub(crate) fn hash_text(text: &str) -> u64 {
    finish_hash(fnv(FNV_START, text.as_bytes()))
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn finish_hash(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl Distinct {
    /// One value.
    pub fn of(value: &Value) -> Self {
        Self::Few(vec![hash(value)])
    }

    /// Adds a value.
    pub fn add(&mut self, value: &Value) {
        self.insert(hash(value));
    }

    /// None yet.
    pub fn none() -> Self {
        Self::Few(Vec::new())
    }

    /// How many there are.
    pub fn count(&self) -> f64 {
        match self {
            Self::Few(hashes) => hashes.len() as f64,
            Self::Many(registers) => registers.estimate(),
        }
    }

    /// Adds a value by its hash, all of whose bits must be spread evenly.
    pub fn insert(&mut self, hash: u64) {
        match self {
            Self::Many(registers) => registers.insert(hash),
            Self::Few(hashes) => {
                let Err(index) = hashes.binary_search(&hash) else {
                    return;
                };
                hashes.insert(index, hash);
                if hashes.len() == DISTINCT_EXACT_BELOW {
                    *self = Self::Many(Registers::of(hashes));
                }
            }
        }
    }

    /// Adds the values of another cell.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(hashes)) => hashes.iter().for_each(|hash| self.insert(*hash)),
            (Self::Many(registers), Self::Many(others)) => registers.merge(others),
            (Self::Few(hashes), Self::Many(others)) => {
                let mut registers = others.clone();
                hashes.iter().for_each(|hash| registers.insert(*hash));
                *self = Self::Many(registers);
            }
        }
    }

    /// Appends its bytes.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Few(hashes) => {
                writer.unsigned(hashes.len() as u64);
                hashes.iter().for_each(|hash| writer.fixed(*hash));
            }
            Self::Many(registers) => {
                writer.unsigned(DISTINCT_EXACT_BELOW as u64);
                registers.encode(writer);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it did not.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count()?;
        if count == DISTINCT_EXACT_BELOW {
            return Registers::decode(reader).map(Self::Many);
        }
        let hashes = (0..count)
            .map(|_| reader.fixed())
            .collect::<Result<Vec<_>, _>>()?;
        if count > DISTINCT_EXACT_BELOW || !hashes.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError("hashes are not in order"));
        }
        Ok(Self::Few(hashes))
    }
}

impl Registers {
    fn of(hashes: &[u64]) -> Self {
        let mut registers = Self(Box::new([0; REGISTERS]));
        hashes.iter().for_each(|hash| registers.insert(*hash));
        registers
    }

    fn insert(&mut self, hash: u64) {
        // The bit behind the last one stops the search where no bit is set.
        let rest = hash << INDEX_BITS | 1 << (INDEX_BITS - 1);
        let rank = rest.leading_zeros() as u8 + 1;
        let register = &mut self.0[(hash >> RANK_BITS) as usize];
        *register = rank.max(*register);
    }

    fn merge(&mut self, other: &Self) {
        for (register, other) in self.0.iter_mut().zip(other.0.iter()) {
            *register = (*other).max(*register);
        }
    }

    /// The improved raw estimator of Ertl, *New cardinality estimation algorithms for HyperLogLog sketches* (arXiv 1702.01284,
    /// algorithm 6): without bias from none to 2^64, without tables.
    fn estimate(&self) -> f64 {
        let mut counts = [0u32; RANK_MAX as usize + 1];
        for &register in self.0.iter() {
            counts[usize::from(register)] += 1;
        }
        let all = REGISTERS as f64;
        let full = f64::from(counts[usize::from(RANK_MAX)]);
        let mut sum = all * tau(1.0 - full / all);
        for &count in counts[1..usize::from(RANK_MAX)].iter().rev() {
            sum = 0.5 * (sum + f64::from(count));
        }
        sum += all * sigma(f64::from(counts[0]) / all);
        (all / (2.0 * LN_2) * all / sum).round()
    }

    fn encode(&self, writer: &mut Writer) {
        for four in self.0.chunks_exact(4) {
            let packed = four
                .iter()
                .fold(0u32, |packed, &register| packed << 6 | u32::from(register));
            packed.to_be_bytes()[1..]
                .iter()
                .for_each(|byte| writer.byte(*byte));
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut registers = Box::new([0; REGISTERS]);
        for four in registers.chunks_exact_mut(4) {
            let packed = u32::from_be_bytes([0, reader.byte()?, reader.byte()?, reader.byte()?]);
            for (place, register) in four.iter_mut().enumerate() {
                *register = (packed >> (18 - 6 * place)) as u8 & 63;
            }
        }
        if registers.iter().any(|register| *register > RANK_MAX) {
            return Err(DecodeError("a register is out of range"));
        }
        Ok(Self(registers))
    }
}

/// σ(x) = x + Σ x^(2^k) · 2^(k−1), for the registers that no value has reached.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight *= 2.0;
        if sum == before {
            return sum;
        }
    }
}

/// τ(x) = (1 − x − Σ (1 − x^(2^−k))² · 2^−k) / 3, for the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The different values of several cells together.
#[derive(Default)]
pub(super) struct Union {
    hashes: Vec<u64>,
    registers: Option<Registers>,
}

impl Union {
    pub(super) fn add(&mut self, cell: &Distinct) {
        match (cell, &mut self.registers) {
            (Distinct::Few(hashes), _) => self.hashes.extend_from_slice(hashes),
            (Distinct::Many(others), Some(registers)) => registers.merge(others),
            (Distinct::Many(others), none) => *none = Some(others.clone()),
        }
    }

    pub(super) fn count(&self) -> f64 {
        if let Some(registers) = &self.registers {
            let mut registers = registers.clone();
            self.hashes.iter().for_each(|hash| registers.insert(*hash));
            return registers.estimate();
        }
        let mut hashes = self.hashes.clone();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(number: u32) -> Value {
        Value::Category(format!("item-{number}").into())
    }

    fn distinct(values: impl IntoIterator<Item = u32>) -> Distinct {
        let mut distinct = Distinct::Few(Vec::new());
        values
            .into_iter()
            .for_each(|value| distinct.add(&item(value)));
        distinct
    }

    fn count(cells: &[Distinct]) -> f64 {
        let mut union = Union::default();
        cells.iter().for_each(|cell| union.add(cell));
        union.count()
    }

    /// The bytes of stored registers: six bits each.
    const PACKED: usize = REGISTERS / 4 * 3;
    /// The standard error of HyperLogLog with that many registers.
    const ERROR: f64 = 1.04 / 32.0;

    #[test]
    fn few_values_are_counted_exactly() {
        for values in [0, 1, 50, 127] {
            let cell = distinct((0..values).chain(0..values));
            assert_eq!(count(&[cell]), f64::from(values));
        }
        // A window is exact while all its cells are, however many values they have together.
        let cells: Vec<Distinct> = (0..20).map(|n| distinct(n * 60..(n + 2) * 60)).collect();
        assert_eq!(count(&cells), 21.0 * 60.0);
    }

    /// Different sets of values: the root of the mean square of the relative errors is what the theory says, within what chance
    /// allows for as many sets, and none is off by five times that.
    #[test]
    fn many_values_are_counted_within_the_error() {
        for values in [128, 300, 1_000, 2_500, 10_000, 50_000] {
            let sets: u32 = if values > 5_000 { 40 } else { 200 };
            let errors: Vec<f64> = (0..sets)
                .map(|set| {
                    let first = set * 1_000_000;
                    let found = count(&[distinct(first..first + values)]);
                    found / f64::from(values) - 1.0
                })
                .collect();
            let of = f64::from(sets);
            let root = (errors.iter().map(|error| error * error).sum::<f64>() / of).sqrt();
            let bias = errors.iter().sum::<f64>() / of;
            assert!(root < 1.25 * ERROR, "{values}: {root}");
            assert!(bias.abs() < 4.0 * ERROR / of.sqrt(), "{values}: {bias}");
            assert!(
                errors.iter().all(|error| error.abs() < 5.0 * ERROR),
                "{values}"
            );
        }
    }

    #[test]
    fn the_estimate_of_any_registers_is_a_number() {
        let registers = |value: u8| Registers(Box::new([value; REGISTERS]));
        assert_eq!(registers(0).estimate(), 0.0);
        assert!(registers(1).estimate() > 0.0);
        assert!(registers(RANK_MAX - 1).estimate().is_finite());
        assert!(registers(RANK_MAX).estimate() > 1e18);
    }

    proptest! {
        /// A cell depends on its values only, also where exact and full ones meet.
        #[test]
        fn merging_gives_what_one_cell_would_have(
            a in prop::collection::vec(0u32..400, 0..300), b in prop::collection::vec(0u32..400, 0..300), c in prop::collection::vec(0u32..400, 0..300),
        ) {
            let whole = distinct(a.iter().chain(&b).chain(&c).copied());
            let [a, b, c] = [a, b, c].map(distinct);
            let merged = |first: &Distinct, second: &Distinct| {
                let mut first = first.clone();
                first.merge(second);
                first
            };
            prop_assert_eq!(&merged(&merged(&a, &b), &c), &whole);
            prop_assert_eq!(&merged(&a, &merged(&b, &c)), &whole);
            prop_assert_eq!(&merged(&merged(&c, &a), &b), &whole);
            prop_assert_eq!(&merged(&whole, &a), &whole);
            let many = [&a, &b, &c].iter().any(|cell| matches!(cell, Distinct::Many(_)));
            prop_assert!(!many || count(&[a, b, c]) == count(std::slice::from_ref(&whole)));
            let mut writer = Writer::default();
            whole.encode(&mut writer);
            let bytes = writer.finish();
            prop_assert!(bytes.len() <= 2 + PACKED.max((DISTINCT_EXACT_BELOW - 1) * 8));
            prop_assert_eq!(Distinct::decode(&mut Reader::new(&bytes)), Ok(whole));
        }
    }
}
