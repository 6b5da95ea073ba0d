//! The index by which message ids are forgotten: entries of some ids with when they were received.
//!
//! An entry's key is the earliest time in it and what makes it unique; its value is the format byte 1, the length and
//! the text of the project, and for each id the time (microseconds), the length and the text. It is written for every
//! append, by the one thread that everybody waits for, and so it is not JSON.

use tidemill_core::{ProjectName, Timestamp};

use crate::StoreError;

const FORMAT: u8 = 1;

/// An id and when it was received.
pub(super) type Received = (Timestamp, String);

/// The value of an entry.
pub(super) fn encode(project: &ProjectName, ids: &[Received]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80 + ids.iter().map(|(_, id)| 12 + id.len()).sum::<usize>());
    bytes.push(FORMAT);
    let text = |bytes: &mut Vec<u8>, text: &str| {
        let length = u32::try_from(text.len())
            .expect("a value of fjall, and so a text in it, is below 4 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    text(&mut bytes, project.as_str());
    for (at, id) in ids {
        bytes.extend_from_slice(&at.micros().to_be_bytes());
        text(&mut bytes, id);
    }
    bytes
}

/// The project and the ids of an entry.
pub(super) fn decode(bytes: &[u8]) -> Result<(ProjectName, Vec<Received>), StoreError> {
    read(bytes).ok_or_else(|| {
        StoreError::corrupt(
            "the times of message ids",
            "an entry is not as it was written",
        )
    })
}

fn read(bytes: &[u8]) -> Option<(ProjectName, Vec<Received>)> {
    let (format, mut rest) = bytes.split_first()?;
    if *format != FORMAT {
        return None;
    }
    let project = take_text(&mut rest)?.parse().ok()?;
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let (at, after) = rest.split_first_chunk()?;
        rest = after;
        ids.push((
            Timestamp::from_micros(i64::from_be_bytes(*at)),
            take_text(&mut rest)?,
        ));
    }
    Some((project, ids))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) =
        after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_damaged_ones_are_refused() {
        let project: ProjectName = "shop".parse().unwrap();
        let ids = vec![
            (Timestamp::from_micros(-1), String::new()),
            (Timestamp::MAX, "ü\u{0}".to_owned()),
            (Timestamp::EPOCH, "x".repeat(70_000)),
        ];
        let bytes = encode(&project, &ids);
        assert_eq!(decode(&bytes).unwrap(), (project, ids));
        for damaged in [
            &[][..],
            &[2],
            &bytes[..3],
            &bytes[..bytes.len() - 1],
            &[&bytes[..], &[0]].concat(),
        ] {
            assert!(matches!(decode(damaged), Err(StoreError::Corrupt { .. })));
        }
    }
}
