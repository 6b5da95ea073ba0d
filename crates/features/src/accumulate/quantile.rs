//! Quantiles: exactly while there are few numbers, from bins of bounded relative width after.

use crate::codec::{DecodeError, Reader, Writer};

/// A `quantile` cell keeps its numbers themselves while it holds fewer than this, and a window is exact while all its cells do.
pub const QUANTILE_EXACT_BELOW: usize = 16;
/// The most bins of a cell. With one more, all bins become twice as wide.
pub const QUANTILE_BINS_MAX: usize = 256;

/// How many bits of a number's significand decide about its bin at first: 64 bins between a power of two and the next.
const SIGNIFICAND_BITS: u32 = 6;
/// The bits of a float behind those.
const IGNORED_BITS: u32 = 52 - SIGNIFICAND_BITS;
/// How often bins can become twice as wide: after that there are fewer kinds of bins than [`QUANTILE_BINS_MAX`].
const SHIFT_MAX: u8 = 11;

/// Numbers, summed up. What it holds depends only on which numbers it saw, not on their order or on how it was merged.
#[derive(Debug, Clone, PartialEq)]
pub enum Sketch {
    /// All of them, ascending.
    Few(Vec<f64>),
    /// How many are in which bin.
    Many(Box<Bins>),
}

/// DDSketch (Masson, Rim, Lee, *DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees*, VLDB 2019,
/// arXiv 1908.10693) with two choices. A number's bin is read off the bits of the float (the paper's linear interpolation of the
/// logarithm), so that no rounding of a logarithm decides. And beyond [`QUANTILE_BINS_MAX`] bins it is not the lowest that collapse:
/// all become twice as wide (Epicoco et al., *UDDSketch: accurate tracking of quantiles in data streams*, 2020), which keeps every
/// quantile within a known error and makes the bins a function of the numbers alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    /// How often they became twice as wide.
    shift: u8,
    /// Bins that are not empty and how many numbers are in each, ascending. 0 is zero; −b is b mirrored.
    counts: Vec<(i32, u64)>,
}

/// The bin of a number. Numbers too near to zero for a full significand count as zero.
fn bin(number: f64, shift: u8) -> i32 {
    if number.abs() < f64::MIN_POSITIVE {
        return 0;
    }
    let bin = (number.abs().to_bits() >> IGNORED_BITS >> shift) as i32 + 1;
    if number < 0.0 { -bin } else { bin }
}

/// The number that stands for a bin [a, b): 2ab/(a + b), which is off by at most (b − a)/(b + a) of what is in it.
fn number(bin: i32, shift: u8) -> f64 {
    let Some(index) = bin.unsigned_abs().checked_sub(1) else {
        return 0.0;
    };
    let low = f64::from_bits(u64::from(index) << shift << IGNORED_BITS).max(f64::MIN_POSITIVE);
    // a/b; not with b itself, since the last bin ends beyond the largest number
    let ratio = match SIGNIFICAND_BITS.checked_sub(shift.into()) {
        Some(bits) => {
            let parts = 1u32 << bits;
            let low = f64::from(parts + index % parts);
            low / (low + 1.0)
        }
        None => 0.5f64.powi(1 << (u32::from(shift) - SIGNIFICAND_BITS)),
    };
    let number = (low / (0.5 + 0.5 * ratio)).min(f64::MAX);
    if bin < 0 { -number } else { number }
}

/// The bin in which a bin of half the width lies.
fn wider(bin: i32) -> i32 {
    bin.signum() * ((bin.abs() + 1) >> 1)
}

impl Sketch {
    /// One number.
    pub fn of(number: f64) -> Self {
        Self::Few(vec![number + 0.0])
    }

    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        match self {
            Self::Many(bins) => bins.add(number),
            Self::Few(numbers) => {
                // −0 is 0, so that equal numbers have equal bits
                let number = number + 0.0;
                let index = numbers.partition_point(|other| *other <= number);
                numbers.insert(index, number);
                if numbers.len() == QUANTILE_EXACT_BELOW {
                    *self = Self::Many(Box::new(Bins::of(numbers)));
                }
            }
        }
    }

    /// Adds the numbers of another cell.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(numbers)) => numbers.iter().for_each(|number| self.add(*number)),
            (Self::Many(bins), Self::Many(others)) => bins.merge(others),
            (Self::Few(numbers), Self::Many(others)) => {
                let mut bins = others.clone();
                numbers.iter().for_each(|number| bins.add(*number));
                *self = Self::Many(bins);
            }
        }
    }

    /// Each number that it stands for and how many there are of it, ascending: the numbers themselves while they are few, those that
    /// stand for their bins after.
    pub fn weighted(&self) -> Vec<(f64, u64)> {
        match self {
            Self::Few(numbers) => numbers.iter().map(|&number| (number, 1)).collect(),
            Self::Many(bins) => bins.weighted().collect(),
        }
    }

    /// Appends its bytes.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Few(numbers) => {
                writer.unsigned(numbers.len() as u64);
                numbers.iter().for_each(|number| writer.float(*number));
            }
            Self::Many(bins) => {
                writer.unsigned(QUANTILE_EXACT_BELOW as u64);
                bins.encode(writer);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it did not.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // not a count of what follows: equal numbers are one bin, which takes fewer bytes
        let count = reader.unsigned()?;
        if count == QUANTILE_EXACT_BELOW as u64 {
            return Bins::decode(reader).map(|bins| Self::Many(Box::new(bins)));
        }
        if !(1..QUANTILE_EXACT_BELOW as u64).contains(&count) {
            return Err(DecodeError("a count of numbers is out of range"));
        }
        let numbers = (0..count)
            .map(|_| reader.float())
            .collect::<Result<Vec<_>, _>>()?;
        if !numbers.is_sorted() {
            return Err(DecodeError("numbers are not in order"));
        }
        Ok(Self::Few(numbers))
    }
}

impl Bins {
    fn of(numbers: &[f64]) -> Self {
        let mut bins = Self {
            shift: 0,
            counts: Vec::with_capacity(numbers.len()),
        };
        numbers.iter().for_each(|number| bins.add(*number));
        bins
    }

    fn add(&mut self, number: f64) {
        let bin = bin(number, self.shift);
        match self.counts.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(index) => self.counts[index].1 = self.counts[index].1.saturating_add(1),
            Err(index) => self.counts.insert(index, (bin, 1)),
        }
        self.keep_bound();
    }

    /// The bins stay as narrow as the bound on their number allows. Fewer numbers never need wider bins than more, so it does not
    /// matter when they are widened.
    fn keep_bound(&mut self) {
        while self.counts.len() > QUANTILE_BINS_MAX {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.shift += 1;
        for (bin, _) in &mut self.counts {
            *bin = wider(*bin);
        }
        self.join();
    }

    /// Neighbours that have become one bin are one.
    fn join(&mut self) {
        self.counts.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(later.1);
            }
            same
        });
    }

    fn merge(&mut self, other: &Self) {
        while self.shift < other.shift {
            self.widen();
        }
        let finer = self.shift - other.shift;
        let widened = |bin: i32| (0..finer).fold(bin, |bin, _| wider(bin));
        let others = other
            .counts
            .iter()
            .map(|(bin, count)| (widened(*bin), *count));
        self.counts.extend(others);
        self.counts.sort_by_key(|(bin, _)| *bin);
        self.join();
        self.keep_bound();
    }

    /// What stands for each bin, and how many numbers are in it.
    fn weighted(&self) -> impl Iterator<Item = (f64, u64)> {
        let of = |&(bin, count): &(i32, u64)| (number(bin, self.shift), count);
        self.counts.iter().map(of)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.byte(self.shift);
        writer.unsigned(self.counts.len() as u64);
        let mut previous = 0;
        for (index, (bin, count)) in self.counts.iter().enumerate() {
            if index == 0 {
                writer.signed(i64::from(*bin));
            } else {
                writer.unsigned(bin.abs_diff(previous).into());
            }
            writer.unsigned(*count);
            previous = *bin;
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let shift = reader.byte()?;
        let last = bin(f64::MAX, shift.min(SHIFT_MAX));
        let mut counts: Vec<(i32, u64)> = Vec::new();
        for index in 0..reader.count()? {
            let bin = if index == 0 {
                reader.signed()?
            } else {
                let previous = counts.last().map_or(0, |(bin, _)| i64::from(*bin));
                previous.saturating_add(i64::try_from(reader.unsigned()?).unwrap_or(i64::MAX))
            };
            let bin = i32::try_from(bin).map_err(|_| DecodeError("a bin is out of range"))?;
            counts.push((bin, reader.amount()?));
        }
        let in_order = counts.is_sorted_by(|a, b| a.0 < b.0);
        let in_range = |(bin, count): &(i32, u64)| bin.abs() <= last && *count > 0;
        if shift > SHIFT_MAX
            || counts.len() > QUANTILE_BINS_MAX
            || !in_order
            || !counts.iter().all(in_range)
        {
            return Err(DecodeError("bins are not in order"));
        }
        Ok(Self { shift, counts })
    }
}

/// The numbers of several cells together.
#[derive(Default)]
pub(super) struct Pool {
    numbers: Vec<f64>,
    bins: Option<Box<Bins>>,
}

impl Pool {
    pub(super) fn add(&mut self, cell: &Sketch) {
        match (cell, &mut self.bins) {
            (Sketch::Few(numbers), _) => self.numbers.extend_from_slice(numbers),
            (Sketch::Many(others), Some(bins)) => bins.merge(others),
            (Sketch::Many(others), none) => *none = Some(others.clone()),
        }
    }

    /// The number below which a share `q` lies: at rank (n − 1)·q, counting from 0, and between two neighbours where that is not
    /// whole (definition 7 of Hyndman and Fan, *Sample quantiles in statistical packages*, 1996; what spreadsheets and NumPy do).
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let mut weighted: Vec<(f64, u64)> =
            self.numbers.iter().map(|&number| (number, 1)).collect();
        if let Some(bins) = &self.bins {
            weighted.extend(bins.weighted());
        }
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = weighted
            .iter()
            .fold(0u64, |total, (_, count)| total.saturating_add(*count));
        let rank = total.checked_sub(1)? as f64 * q;
        let (low, share) = (rank.floor(), rank.fract());
        let (below, above) = (
            at(&weighted, low as u64)?,
            at(&weighted, rank.ceil() as u64)?,
        );
        if below == above {
            return Some(below);
        }
        Some(below * (1.0 - share) + above * share)
    }
}

/// The number at a rank, counting from 0.
fn at(weighted: &[(f64, u64)], rank: u64) -> Option<f64> {
    let mut before = 0u64;
    let reaches = |(_, count): &&(f64, u64)| {
        before = before.saturating_add(*count);
        before > rank
    };
    let found = weighted.iter().find(reaches);
    found.or(weighted.last()).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(numbers: &[f64]) -> Sketch {
        let mut sketch = Sketch::Few(Vec::new());
        numbers.iter().for_each(|number| sketch.add(*number));
        sketch
    }

    fn quantile(cells: &[Sketch], q: f64) -> Option<f64> {
        let mut pool = Pool::default();
        cells.iter().for_each(|cell| pool.add(cell));
        pool.quantile(q)
    }

    /// The definition, on the numbers themselves; beside it the larger of the two neighbours.
    fn exact(numbers: &[f64], q: f64) -> (f64, f64) {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() - 1) as f64 * q;
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        let between = low * (1.0 - rank.fract()) + high * rank.fract();
        (between, low.abs().max(high.abs()))
    }

    #[test]
    fn equal_numbers_are_read_back_at_the_end_of_the_bytes() {
        for count in [1, 15, 16, 1_000] {
            let before = sketch(&vec![2.5; count]);
            let mut writer = Writer::default();
            before.encode(&mut writer);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(Sketch::decode(&mut reader), Ok(before), "{count}");
            reader.end().unwrap();
        }
    }

    /// How far what stands for a bin is from what is in it, as a share of that.
    fn error(shift: u8) -> f64 {
        let widest = if u32::from(shift) <= SIGNIFICAND_BITS {
            1.0 + 2f64.powi(i32::from(shift) - SIGNIFICAND_BITS as i32)
        } else {
            2f64.powi(1 << (u32::from(shift) - SIGNIFICAND_BITS))
        };
        (widest - 1.0) / (widest + 1.0)
    }

    fn shift(cells: &[Sketch]) -> u8 {
        let mut pool = Pool::default();
        cells.iter().for_each(|cell| pool.add(cell));
        pool.bins.map_or(0, |bins| bins.shift)
    }

    #[test]
    fn few_numbers_are_exact() {
        let check = |numbers: &[f64], q: f64, expected: f64| {
            assert_eq!(
                quantile(&[sketch(numbers)], q),
                Some(expected),
                "{numbers:?} {q}"
            );
        };
        assert_eq!(quantile(&[], 0.5), None);
        check(&[3.0], 0.5, 3.0);
        check(&[10.0, 20.0], 0.5, 15.0);
        check(&[0.1, 0.1, 0.1], 0.9, 0.1);
        check(&[-0.0, 5.0, -3.0], 0.5, 0.0);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.9, 4.6);
        check(&[f64::MIN, f64::MAX], 0.5, 0.0);
        // A window is exact while all its cells are.
        let cells: Vec<Sketch> = (0..10)
            .map(|n| sketch(&[f64::from(n), f64::from(n) + 100.0]))
            .collect();
        assert_eq!(quantile(&cells, 0.5), Some(54.5));
    }

    #[test]
    fn bins_hold_what_is_near_them() {
        assert!(error(0) < 0.0078 && error(1) < 0.0154 && error(2) < 0.0304);
        let numbers = [
            1.0,
            1.5,
            127.9,
            128.0,
            1e-300,
            1e300,
            f64::MAX,
            f64::MIN_POSITIVE,
            0.1,
            7e5,
        ];
        for shift in 0..=SHIFT_MAX {
            for number_in in numbers.into_iter().chain(numbers.map(|number| -number)) {
                let bin_of = bin(number_in, shift);
                let found = number(bin_of, shift);
                let off = (found - number_in).abs() / number_in.abs();
                assert!(
                    off <= error(shift) * 1.000_001,
                    "{number_in} {shift}: {found}"
                );
                assert_eq!(
                    wider(bin_of),
                    bin(number_in, shift + 1),
                    "{number_in} {shift}"
                );
            }
        }
        assert_eq!(
            (bin(0.0, 3), bin(-0.0, 3), bin(5e-324, 0), wider(0)),
            (0, 0, 0, 0)
        );
    }

    /// The documented error: how wide bins become for numbers that are spread over some powers of two.
    #[test]
    fn errors_grow_with_the_range_only() {
        for (range, expected) in [(4, 0), (8, 1), (16, 2), (32, 3), (64, 4)] {
            let steps = 20_000;
            let number =
                |step: i32| 2f64.powf(f64::from(range) * f64::from(step) / f64::from(steps));
            let numbers: Vec<f64> = (0..steps).map(number).collect();
            assert_eq!(shift(&[sketch(&numbers)]), expected, "{range}");
        }
        let everything: Vec<f64> = (1..2_047u64)
            .flat_map(|exponent| [1.0, -1.0].map(|sign| sign * f64::from_bits(exponent << 52)))
            .collect();
        let cell = sketch(&everything);
        assert!(shift(std::slice::from_ref(&cell)) <= SHIFT_MAX);
        assert!(quantile(&[cell], 0.999).unwrap().is_finite());
    }

    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        let amount = prop_oneof![
            3 => (0u32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
            1 => -1e9..1e9f64,
            1 => (-30.0..30.0f64).prop_map(f64::exp2),
            1 => Just(0.0),
        ];
        prop::collection::vec(amount, 0..60)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_error(parts in prop::collection::vec(numbers(), 1..8), q in 0.01..0.99f64) {
            let cells: Vec<Sketch> = parts.iter().map(|part| sketch(part)).collect();
            let all: Vec<f64> = parts.concat();
            match quantile(&cells, q) {
                None => prop_assert!(all.is_empty()),
                Some(found) => {
                    let (expected, largest) = exact(&all, q);
                    let few = cells.iter().all(|cell| matches!(cell, Sketch::Few(_)));
                    let off = if few { 0.0 } else { error(shift(&cells)) };
                    prop_assert!((found - expected).abs() <= (off + 1e-12) * largest, "{found} {expected} {off}");
                }
            }
        }

        /// A cell depends on its numbers only, also beyond the bound of bins and where exact and full ones meet.
        #[test]
        fn merging_gives_what_one_cell_would_have(
            a in numbers(), b in numbers(), c in numbers(),
            wide in prop::collection::vec(any::<f64>().prop_filter("finite", |number| number.is_finite()), 0..500),
        ) {
            let c: Vec<f64> = c.into_iter().chain(wide).collect();
            let whole = sketch(&[a.clone(), b.clone(), c.clone()].concat());
            let [a, b, c] = [a, b, c].map(|numbers| sketch(&numbers));
            let merged = |first: &Sketch, second: &Sketch| {
                let mut first = first.clone();
                first.merge(second);
                first
            };
            prop_assert_eq!(&merged(&merged(&a, &b), &c), &whole);
            prop_assert_eq!(&merged(&a, &merged(&b, &c)), &whole);
            prop_assert_eq!(&merged(&merged(&c, &a), &b), &whole);
            if let Sketch::Many(bins) = &whole {
                prop_assert!(bins.counts.len() <= QUANTILE_BINS_MAX && bins.shift <= SHIFT_MAX);
            }
            let mut writer = Writer::default();
            whole.encode(&mut writer);
            let bytes = writer.finish();
            if whole != Sketch::Few(Vec::new()) {
                prop_assert_eq!(Sketch::decode(&mut Reader::new(&bytes)), Ok(whole));
            }
        }
    }
}
