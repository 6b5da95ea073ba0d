//! How large things may be.

use tidemill_core::Span;

/// The limits of what is taken in. The defaults are Segment's where Segment has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest event, in bytes of its JSON: 32 KB.
    pub event_bytes_max: usize,
    /// The largest batch, in bytes of its JSON: 500 KB.
    pub batch_bytes_max: usize,
    /// The most events of a batch: 2,500.
    pub batch_events_max: usize,
    /// The longest message id, in characters: 100.
    pub message_id_chars_max: usize,
    /// The longest user, anonymous, previous, group or item id and the longest event name, in bytes: 512.
    pub id_bytes_max: usize,
    /// How deep `properties` and `context` may be nested: 64 levels. Below the 128 levels at which the log's own
    /// reader stops, so that everything that is stored can be read back.
    pub nesting_max: usize,
    /// How far ahead of the clock an event may be stamped: 24 h.
    pub ahead_max: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes_max: 32 * 1024,
            batch_bytes_max: 500 * 1024,
            batch_events_max: 2_500,
            message_id_chars_max: 100,
            id_bytes_max: 512,
            nesting_max: 64,
            ahead_max: Span::from_days(1),
        }
    }
}
