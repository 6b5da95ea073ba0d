//! What a ranker knows of each item: how often it was taken, whether more lately, and its attributes.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{ColumnValues, FeatureTable};

use crate::encoder::Encoder;
use crate::recommend::ItemIndex;
use crate::recommend::interactions::Interactions;

/// The newest share of the time that a trend compares with the whole.
const LATE_SHARE: f64 = 0.1;
/// A category of fewer items than this is "other".
const CATEGORY_ITEMS_MIN: usize = 5;
/// Categories with a code of their own.
const CATEGORIES_MAX: usize = 250;
/// Seconds in a day.
pub(super) const DAY: f64 = 86_400.0;

/// Facts of all items at the end of the data: 16 bytes and 4 for each attribute, per item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemFacts {
    /// Whether times mean something.
    pub(super) has_times: bool,
    /// The time of the last signal.
    latest: i64,
    taken: Vec<f32>,
    trend: Vec<f32>,
    first_day: Vec<f32>,
    last_day: Vec<f32>,
    pub(super) attributes: Vec<Attribute>,
}

/// One attribute of all items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    pub(super) name: String,
    pub(super) is_category: bool,
    /// A number that is never below 0: it is compared by ratio.
    pub(super) is_positive: bool,
    /// By item: the number, or the code of the category; NaN where it is not known.
    values: Vec<f32>,
}

impl Attribute {
    pub(super) fn value(&self, item: ItemIndex) -> f64 {
        let value = self.values.get(item as usize);
        f64::from(value.copied().unwrap_or(f32::NAN))
    }
}

/// The names of what [`ItemFacts::row`] says.
pub(super) const FACTS: [&str; 4] = ["taken", "trend", "days known", "days since taken"];

impl ItemFacts {
    /// Dictionaries for the attributes of items, one row per item.
    pub(super) fn encoder(attributes: &FeatureTable) -> Encoder {
        let weights = vec![1.0; attributes.rows()];
        Encoder::fit(attributes, &weights, CATEGORY_ITEMS_MIN, CATEGORIES_MAX)
    }

    /// What the data say of each item. `attributes` has the encoder's columns and a row per item; items beyond have none.
    pub(super) fn new(data: &Interactions, attributes: &FeatureTable, encoder: &Encoder) -> Self {
        let items = data.items();
        let latest = data.latest();
        let times = data.signals().iter().map(|signal| signal.time);
        let earliest = times.min().unwrap_or(latest);
        let late = latest - ((latest - earliest) as f64 * LATE_SHARE) as i64;
        let mut taken = vec![0.0_f32; items];
        let mut lately = vec![0.0_f32; items];
        let (mut first, mut last) = (vec![i64::MAX; items], vec![i64::MIN; items]);
        for signal in data.signals() {
            let item = signal.item as usize;
            taken[item] += 1.0;
            lately[item] += f32::from(u8::from(signal.time > late));
            first[item] = first[item].min(signal.time);
            last[item] = last[item].max(signal.time);
        }
        let has_times = earliest < latest;
        let days = |time: &i64, known: f32| match has_times && known > 0.0 {
            true => ((latest - time) as f64 / DAY) as f32,
            false => f32::NAN,
        };
        let counted = || taken.iter().copied();
        let trend = lately.iter().zip(counted()).map(|(late, all)| {
            let usual = all * LATE_SHARE as f32;
            match has_times {
                true => ((late + 1.0) / (usual + 1.0)).ln(),
                false => f32::NAN,
            }
        });
        let names = encoder.columns().iter().enumerate();
        Self {
            has_times,
            latest,
            trend: trend.collect(),
            first_day: first
                .iter()
                .zip(counted())
                .map(|(time, known)| days(time, known))
                .collect(),
            last_day: last
                .iter()
                .zip(counted())
                .map(|(time, known)| days(time, known))
                .collect(),
            attributes: names
                .map(|(column, name)| {
                    let values = attributes.values(column);
                    let is_category = matches!(values, ColumnValues::Category(_));
                    let values = encoder.encode_column(column, values);
                    Attribute {
                        name: name.name.clone(),
                        is_category,
                        is_positive: !is_category && !values.iter().any(|value| *value < 0.0),
                        values: values.into_iter().map(|value| value as f32).collect(),
                    }
                })
                .collect(),
            taken: taken.into_iter().map(|count| (1.0 + count).ln()).collect(),
        }
    }

    /// How often an item was taken, as `ln(1 + times)`.
    pub(super) fn taken(&self, item: ItemIndex) -> f64 {
        f64::from(self.taken.get(item as usize).copied().unwrap_or(0.0))
    }

    /// The numbers named in [`FACTS`].
    pub(super) fn row(&self, item: ItemIndex) -> [f64; FACTS.len()] {
        let place = item as usize;
        let of = |values: &[f32]| f64::from(values.get(place).copied().unwrap_or(f32::NAN));
        [
            self.taken(item),
            of(&self.trend),
            of(&self.first_day),
            of(&self.last_day),
        ]
    }

    /// Days from a time to that of a question; NaN where times mean nothing.
    pub(super) fn days(&self, time: i64, now: i64) -> f64 {
        match self.has_times {
            true => (now - time).max(0) as f64 / DAY,
            false => f64::NAN,
        }
    }
}
