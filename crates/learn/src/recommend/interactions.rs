//! What people did, as histories of signals.

use std::sync::Arc;

use super::ItemIndex;

/// One thing that was done with an item: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Signal {
    /// The item.
    pub item: ItemIndex,
    /// How much it says: 1 for a plain signal, more for a purchase than for a view. Above 0.
    pub weight: f32,
    /// Seconds since any fixed moment; 0 throughout where times are not known.
    pub time: i64,
}

impl Signal {
    /// A signal of weight 1 at time 0.
    pub fn plain(item: ItemIndex) -> Self {
        Self {
            item,
            weight: 1.0,
            time: 0,
        }
    }
}

/// Histories (of people or of sessions), each oldest first, in one block of memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Interactions {
    items: usize,
    starts: Vec<usize>,
    signals: Vec<Signal>,
    degrees: Vec<f32>,
    segments: Vec<Option<Segment>>,
}

/// What somebody is one of, such as the people of a country.
pub type Segment = Arc<str>;

/// Collects histories for [`Interactions`].
#[derive(Debug, Clone, Default)]
pub struct InteractionsBuilder {
    starts: Vec<usize>,
    signals: Vec<Signal>,
}

impl InteractionsBuilder {
    /// Adds a history, oldest signal first. An empty one counts as a history too.
    pub fn push(&mut self, history: impl IntoIterator<Item = Signal>) {
        self.starts.push(self.signals.len());
        self.signals.extend(
            history
                .into_iter()
                .filter(|signal| signal.weight > 0.0 && signal.weight.is_finite()),
        );
    }

    /// The histories over a catalogue of at least `items` items (more, if a signal names a higher one).
    pub fn build(mut self, items: usize) -> Interactions {
        self.starts.push(self.signals.len());
        let seen = self.signals.iter().map(|signal| signal.item as usize + 1);
        let items = seen.max().unwrap_or(0).max(items);
        let mut degrees = vec![0.0; items];
        let mut last_history = vec![usize::MAX; items];
        for (history, bounds) in self.starts.windows(2).enumerate() {
            for signal in &self.signals[bounds[0]..bounds[1]] {
                let item = signal.item as usize;
                if last_history[item] != history {
                    last_history[item] = history;
                    degrees[item] += 1.0;
                }
            }
        }
        Interactions {
            items,
            starts: self.starts,
            signals: self.signals,
            degrees,
            segments: Vec::new(),
        }
    }
}

impl Interactions {
    /// A builder.
    pub fn builder() -> InteractionsBuilder {
        InteractionsBuilder::default()
    }

    /// A builder with room for so many histories and signals: it takes no more memory than they do.
    pub fn builder_for(histories: usize, signals: usize) -> InteractionsBuilder {
        InteractionsBuilder {
            starts: Vec::with_capacity(histories + 1),
            signals: Vec::with_capacity(signals),
        }
    }

    /// The same over a catalogue of at least so many items.
    #[must_use]
    pub fn with_items(mut self, items: usize) -> Self {
        self.items = self.items.max(items);
        self.degrees.resize(self.items, 0.0);
        self
    }

    /// Says the segment of each history, in their order; histories past the end have none.
    pub fn set_segments(&mut self, segments: Vec<Option<Segment>>) {
        self.segments = segments;
    }

    /// The segment of each history as far as they were given; empty where there are none.
    pub fn segments(&self) -> &[Option<Segment>] {
        &self.segments
    }

    /// How many items the catalogue has, seen or not.
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many histories there are.
    pub fn histories(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many signals there are.
    pub fn len(&self) -> usize {
        self.signals.len()
    }

    /// Whether there is no signal.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// A history, oldest first.
    pub fn history(&self, index: usize) -> &[Signal] {
        &self.signals[self.starts[index]..self.starts[index + 1]]
    }

    /// All histories in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &[Signal]> {
        (0..self.histories()).map(|index| self.history(index))
    }

    /// All signals.
    pub fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// In how many histories each item occurs.
    pub fn degrees(&self) -> &[f32] {
        &self.degrees
    }

    /// The latest time of any signal; 0 if there is none.
    pub fn latest(&self) -> i64 {
        let times = self.signals.iter().map(|signal| signal.time);
        times.max().unwrap_or(0)
    }

    /// Whether any two signals of a history have different times.
    pub fn has_times(&self) -> bool {
        self.iter()
            .any(|history| history.windows(2).any(|pair| pair[0].time != pair[1].time))
    }

    /// Seconds from the first signal to the last.
    pub(super) fn span(&self) -> i64 {
        let latest = self.latest();
        let times = self.signals.iter().map(|signal| signal.time);
        latest - times.min().unwrap_or(latest)
    }

    /// What a signal at `time` counts when signals fade to a half with each `half_life` of the whole span of time, from the
    /// first signal to the last. 1 where `half_life` is 0 or all times are the same.
    pub(super) fn fading(&self, half_life: f32) -> impl Fn(i64) -> f32 + use<> {
        let latest = self.latest();
        let span = self.span() as f32 * half_life;
        move |time| match span > 0.0 {
            true => (-((latest - time) as f32) / span).exp2(),
            false => 1.0,
        }
    }

    /// Every item of the catalogue, in order.
    pub(super) fn all_items(&self) -> Vec<ItemIndex> {
        (0..self.items as ItemIndex).collect()
    }

    /// The items in blocks of about so many signals with them, in their order; a block has one item at least.
    pub(super) fn blocks<'i>(
        &self,
        items: &'i [ItemIndex],
        signals: usize,
    ) -> Vec<&'i [ItemIndex]> {
        let mut counts = vec![0_usize; self.items];
        for signal in &self.signals {
            counts[signal.item as usize] += 1;
        }
        let mut blocks = Vec::new();
        let (mut start, mut sum) = (0, 0);
        for (place, item) in items.iter().enumerate() {
            let own = counts[*item as usize];
            if place > start && sum + own > signals {
                blocks.push(&items[start..place]);
                (start, sum) = (place, 0);
            }
            sum += own;
        }
        if start < items.len() {
            blocks.push(&items[start..]);
        }
        blocks
    }

    /// For each of the items, where it occurs: pairs of history and place in it, in the order of histories. 8 bytes for each signal with
    /// one of the items, and 4 for each item of the catalogue.
    pub(super) fn occurrences(&self, of: &[ItemIndex]) -> Occurrences {
        let mut slots = vec![u32::MAX; self.items];
        for (slot, item) in of.iter().enumerate() {
            slots[*item as usize] = slot as u32;
        }
        let slot =
            |signal: &Signal| Some(slots[signal.item as usize]).filter(|slot| *slot != u32::MAX);
        let mut starts = vec![0_usize; of.len() + 1];
        for slot in self.signals.iter().filter_map(slot) {
            starts[slot as usize + 1] += 1;
        }
        for slot in 0..of.len() {
            starts[slot + 1] += starts[slot];
        }
        let mut next = starts.clone();
        let mut places = vec![(0_u32, 0_u32); starts[of.len()]];
        for (history, signals) in self.iter().enumerate() {
            for (place, signal) in signals.iter().enumerate() {
                if let Some(slot) = slot(signal) {
                    let next = &mut next[slot as usize];
                    places[*next] = (history as u32, place as u32);
                    *next += 1;
                }
            }
        }
        Occurrences { starts, places }
    }
}

/// The inverted index of [`Interactions`].
pub(super) struct Occurrences {
    starts: Vec<usize>,
    places: Vec<(u32, u32)>,
}

impl Occurrences {
    /// Where the item at this place among those that were asked for occurs.
    pub(super) fn of(&self, place: usize) -> &[(u32, u32)] {
        &self.places[self.starts[place]..self.starts[place + 1]]
    }
}
