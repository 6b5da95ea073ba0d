//! Scores of the items that were touched, over the whole catalogue, without clearing it each time.

use super::ItemIndex;
use super::interactions::Signal;

/// A sparse sum over items: adding and clearing cost what was touched, reading one item costs nothing. Four bytes per item
/// of the catalogue; made once per thread and reused.
#[derive(Debug, Clone)]
pub struct Accumulator {
    values: Vec<f32>,
    touched: Vec<ItemIndex>,
}

impl Accumulator {
    /// An empty sum over a catalogue.
    pub fn new(items: usize) -> Self {
        Self {
            values: vec![0.0; items],
            touched: Vec::new(),
        }
    }

    /// Adds to an item's score. A value of exactly 0 leaves no trace.
    #[inline]
    pub fn add(&mut self, item: ItemIndex, value: f32) {
        let slot = &mut self.values[item as usize];
        if *slot == 0.0 && value != 0.0 {
            self.touched.push(item);
        }
        *slot += value;
    }

    /// An item's score; 0 if it was not touched.
    #[inline]
    pub fn get(&self, item: ItemIndex) -> f32 {
        self.values[item as usize]
    }

    /// Takes an item out. Nothing may be added to it before the next [`Accumulator::clear`].
    pub fn remove(&mut self, item: ItemIndex) {
        self.values[item as usize] = 0.0;
    }

    /// Takes the items of a history out.
    pub fn remove_seen(&mut self, history: &[Signal]) {
        for signal in history {
            if let Some(value) = self.values.get_mut(signal.item as usize) {
                *value = 0.0;
            }
        }
    }

    /// The size of the catalogue.
    pub fn items(&self) -> usize {
        self.values.len()
    }

    /// What was touched and is above 0, in no particular order.
    pub fn scores(&self) -> impl Iterator<Item = (ItemIndex, f32)> {
        let scores = self.touched.iter().map(|item| (*item, self.get(*item)));
        scores.filter(|(_, score)| *score > 0.0)
    }

    /// Multiplies each score that was touched.
    pub fn scale(&mut self, factor: impl Fn(ItemIndex) -> f32) {
        for item in &self.touched {
            self.values[*item as usize] *= factor(*item);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for item in self.touched.drain(..) {
            self.values[item as usize] = 0.0;
        }
    }

    /// Appends the best `limit` scores to `out`, best first; of equal ones the lower item number first.
    pub fn best(&self, limit: usize, out: &mut Vec<(ItemIndex, f32)>) {
        let start = out.len();
        out.extend(self.scores());
        let kept = keep_best(&mut out[start..], limit);
        out.truncate(start + kept);
    }
}

/// Moves the best `limit` of `scores` to the front, best first, and says how many those are. Each item occurs once.
pub(super) fn keep_best(scores: &mut [(ItemIndex, f32)], limit: usize) -> usize {
    let order =
        |a: &(ItemIndex, f32), b: &(ItemIndex, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let kept = limit.min(scores.len());
    if kept == 0 {
        return 0;
    }
    if kept < scores.len() {
        scores.select_nth_unstable_by(kept - 1, order);
    }
    scores[..kept].sort_unstable_by(order);
    kept
}
