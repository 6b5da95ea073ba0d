//! Ids for events whose sender gives none: a retry of the same event must get the same id.

use sha2::{Digest, Sha256};
use tidemill_core::Event;

/// An id from the content of an event. Whoever sends the same content again (a retry) is recognised; so the caller
/// puts into the event only what a retry repeats, and adds what tells two real events apart as `salt`.
pub(crate) fn of_event(event: &Event, salt: &[u8]) -> String {
    // maps are ordered by key, so equal events have equal JSON; Event has no part that JSON cannot express
    let json = serde_json::to_vec(event).unwrap_or_default();
    format!("auto-{}", of_parts(&[&json, salt]))
}

/// 128 bits of the SHA-256 of the parts, in hexadecimal. Each part is preceded by its length, so that the borders count.
pub(crate) fn of_parts(parts: &[&[u8]]) -> String {
    hex(&digest(parts))
}

/// 128 bits of the SHA-256 of the parts.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let full = hasher.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&full[..16]);
    half
}

/// Bytes in hexadecimal, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_of_parts_count() {
        assert_ne!(of_parts(&[b"ab", b"c"]), of_parts(&[b"a", b"bc"]));
        assert_eq!(of_parts(&[b"ab", b"c"]).len(), 32);
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }
}
