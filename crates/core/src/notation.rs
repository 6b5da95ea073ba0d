//! How numbers are written for people, and ids in addresses.

use std::fmt::Write;

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// A part of a path or a value of a query, percent-encoded as UTF-8 (RFC 3986).
pub fn percent_encoded(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // writing to a String does not fail
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        let check = |number, written| assert_eq!(thousands(number), written);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(u64::MAX, "18,446,744,073,709,551,615");
    }

    #[test]
    fn what_means_something_in_addresses_is_encoded() {
        assert_eq!(percent_encoded("a/b?c=ü&\"."), "a%2Fb%3Fc%3D%C3%BC%26%22.");
        assert_eq!(
            percent_encoded("a/b c?d=ü&e@f"),
            "a%2Fb%20c%3Fd%3D%C3%BC%26e@f"
        );
    }
}
