//! The bytes of stored states: varints, zigzag for signed numbers, texts with their length.

use std::sync::Arc;

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub &'static str);

/// Appends values to bytes.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With room for that many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The bytes so far.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// An unsigned number in 1 to 10 bytes: 7 bits each, smallest first.
    pub fn unsigned(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number as u8 & 0x7f) | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A signed number; those near 0 are short.
    pub fn signed(&mut self, number: i64) {
        self.unsigned(((number << 1) ^ (number >> 63)) as u64);
    }

    /// A float with all its bits. Whole numbers up to 2^53, the common case, take as many bytes as their size needs.
    pub fn float(&mut self, number: f64) {
        let whole = number as i64;
        let is_whole =
            whole.unsigned_abs() < 1 << 53 && (whole as f64).to_bits() == number.to_bits();
        if is_whole {
            self.byte(1);
            self.signed(whole);
        } else {
            self.byte(0);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Eight bytes as they are.
    pub fn fixed(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Debug)]
pub struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// Reads from the beginning.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], DecodeError> {
        if count > self.0.len() {
            return Err(DecodeError("the bytes end too early"));
        }
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        Ok(head)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number.
    pub fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError("a number is too long"))
    }

    /// A signed number.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// An amount of events: at most 2^53, which no log reaches.
    pub fn amount(&mut self) -> Result<u64, DecodeError> {
        let amount = self.unsigned()?;
        if amount <= 1 << 53 {
            Ok(amount)
        } else {
            Err(DecodeError("an amount is too large"))
        }
    }

    /// A time in microseconds, written as a difference from `reference`: within 36,000 years of the epoch, so that
    /// calculations with it never overflow.
    pub fn time(&mut self, reference: i64) -> Result<i64, DecodeError> {
        let time = reference
            .checked_sub(self.signed()?)
            .filter(|time| time.unsigned_abs() <= 1 << 60);
        time.ok_or(DecodeError("a time is out of range"))
    }

    /// A count of things that take at least one byte each: never more than there are bytes left.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.unsigned()?;
        if count > self.0.len() as u64 {
            return Err(DecodeError("a count is larger than what is there"));
        }
        Ok(count as usize)
    }

    /// A finite float.
    pub fn float(&mut self) -> Result<f64, DecodeError> {
        let number = match self.byte()? {
            0 => f64::from_bits(self.fixed()?),
            1 => self.signed()? as f64,
            _ => return Err(DecodeError("a float has an unknown form")),
        };
        if number.is_finite() {
            Ok(number)
        } else {
            Err(DecodeError("a float is not finite"))
        }
    }

    /// Eight bytes as they are.
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes were taken"),
        ))
    }

    /// A text.
    pub fn text(&mut self) -> Result<Arc<str>, DecodeError> {
        let count = self.count()?;
        let bytes = self.take(count)?;
        std::str::from_utf8(bytes)
            .map(Arc::from)
            .map_err(|_| DecodeError("a text is not UTF-8"))
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError("there are bytes left over"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(unsigned: u64, signed: i64, float in -1e300..1e300f64, whole: i32, text: String) {
            let mut writer = Writer::default();
            writer.unsigned(unsigned);
            writer.signed(signed);
            writer.float(float);
            writer.float(f64::from(whole));
            writer.float(-0.0);
            writer.text(&text);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.unsigned()?, unsigned);
            prop_assert_eq!(reader.signed()?, signed);
            prop_assert_eq!(reader.float()?.to_bits(), float.to_bits());
            prop_assert_eq!(reader.float()?, f64::from(whole));
            prop_assert_eq!(reader.float()?.to_bits(), (-0.0f64).to_bits());
            prop_assert_eq!(&*reader.text()?, text.as_str());
            reader.end()?;
        }

        #[test]
        fn damaged_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.count().and_then(|_| reader.float()).and_then(|_| reader.text());
        }
    }
}
