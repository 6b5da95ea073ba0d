//! What people did, as histories of signals.

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
}

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
        }
    }
}

impl Interactions {
    /// A builder.
    pub fn builder() -> InteractionsBuilder {
        InteractionsBuilder::default()
    }

    /// The same over a catalogue of at least so many items.
    #[must_use]
    pub fn with_items(mut self, items: usize) -> Self {
        self.items = self.items.max(items);
        self.degrees.resize(self.items, 0.0);
        self
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

    /// What a signal at `time` counts when signals fade to a half with each `half_life` of the whole span of time, from the
    /// first signal to the last. 1 where `half_life` is 0 or all times are the same.
    pub(super) fn fading(&self, half_life: f32) -> impl Fn(i64) -> f32 + use<> {
        let latest = self.latest();
        let times = self.signals.iter().map(|signal| signal.time);
        let span = (latest - times.min().unwrap_or(latest)) as f32 * half_life;
        move |time| match span > 0.0 {
            true => (-((latest - time) as f32) / span).exp2(),
            false => 1.0,
        }
    }

    /// For each item, where it occurs: pairs of history and place in it, in the order of histories.
    pub(super) fn occurrences(&self) -> Occurrences {
        let mut starts = vec![0_usize; self.items + 1];
        for signal in &self.signals {
            starts[signal.item as usize + 1] += 1;
        }
        for item in 0..self.items {
            starts[item + 1] += starts[item];
        }
        let mut next = starts.clone();
        let mut places = vec![(0_u32, 0_u32); self.signals.len()];
        for (history, signals) in self.iter().enumerate() {
            for (place, signal) in signals.iter().enumerate() {
                let slot = &mut next[signal.item as usize];
                places[*slot] = (history as u32, place as u32);
                *slot += 1;
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
    pub(super) fn of(&self, item: usize) -> &[(u32, u32)] {
        &self.places[self.starts[item]..self.starts[item + 1]]
    }
}
