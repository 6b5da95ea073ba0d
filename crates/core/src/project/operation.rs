//! What aggregates do with events, by the names that the project file uses.

use crate::feature::FeatureType;
use crate::time::Span;

/// What an aggregate does with the events in its window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// How many.
    Count,
    /// The sum of a number.
    Sum,
    /// The mean of a number.
    Mean,
    /// The sample standard deviation of a number.
    Stddev,
    /// The smallest number.
    Min,
    /// The largest number.
    Max,
    /// The number below which a share of the numbers lies.
    Quantile {
        /// The share, between 0 and 1.
        q: f64,
    },
    /// The oldest value.
    First(FeatureType),
    /// The newest value.
    Last(FeatureType),
    /// Seconds since the oldest event.
    SinceFirst,
    /// Seconds since the newest event.
    SinceLast,
    /// How many different values.
    Distinct,
    /// A count, or the sum of a value, that loses half its weight every half-life.
    Decayed {
        /// The half-life.
        half_life: Span,
    },
    /// The `k` most frequent values, as `k` categories.
    Top {
        /// How many, at least 1.
        k: usize,
    },
    /// The `k` newest values, the newest first.
    Recent {
        /// How many, at least 1.
        k: usize,
        /// What they are.
        kind: FeatureType,
    },
    /// What an attribute of an item, or a trait of a person, is since it was last changed.
    Attribute(FeatureType),
}

/// Whether an operation reads a field of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueUse {
    /// It takes none.
    Never,
    /// Without one every event weighs 1.
    Optional,
    /// It is about that field.
    Required,
}

impl Operation {
    /// The names that the project file uses; `ratio` is the one that is made of two others.
    pub const NAMES: [&'static str; 16] = [
        "count",
        "sum",
        "mean",
        "stddev",
        "min",
        "max",
        "quantile",
        "first",
        "last",
        "since_first",
        "since_last",
        "distinct",
        "decayed",
        "top",
        "recent",
        "ratio",
    ];

    /// What others call the same.
    const NAMES_ELSEWHERE: [(&'static [&'static str], &'static str); 11] = [
        (&["average", "avg"], "use 'mean'"),
        (
            &["std", "stdev", "std_dev", "variance", "var"],
            "use 'stddev'",
        ),
        (&["median"], "use 'quantile': q = 0.5 is the median"),
        (
            &["percentile", "p90", "p95", "p99"],
            "use 'quantile' with q = 0.9 for the 90th percentile",
        ),
        (&["earliest", "oldest"], "use 'first'"),
        (&["latest", "newest"], "use 'last'"),
        (&["recency"], "use 'since_last'"),
        (
            &["unique", "nunique", "count_distinct", "cardinality"],
            "use 'distinct'",
        ),
        (&["top_k", "mode", "most_frequent"], "use 'top'"),
        (&["last_k", "sequence", "list"], "use 'recent' with k = 10"),
        (
            &["rate", "share", "quotient"],
            "use 'ratio' with a numerator and a denominator",
        ),
    ];

    /// The name that the project file uses.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Stddev => "stddev",
            Self::Min => "min",
            Self::Max => "max",
            Self::Quantile { .. } => "quantile",
            Self::First(_) => "first",
            Self::Last(_) => "last",
            Self::SinceFirst => "since_first",
            Self::SinceLast => "since_last",
            Self::Distinct => "distinct",
            Self::Decayed { .. } => "decayed",
            Self::Top { .. } => "top",
            Self::Recent { .. } => "recent",
            Self::Attribute(_) => "attribute",
        }
    }

    /// What to use instead of a word that other systems use for an operation.
    pub(super) fn known_elsewhere(word: &str) -> Option<&'static str> {
        let table = Self::NAMES_ELSEWHERE.iter();
        let mut found = table.filter(|(words, _)| words.contains(&word));
        found.next().map(|(_, hint)| *hint)
    }

    /// Whether it reads a field of the events.
    pub fn value_use(&self) -> ValueUse {
        match self {
            Self::Count | Self::SinceFirst | Self::SinceLast => ValueUse::Never,
            Self::Decayed { .. } => ValueUse::Optional,
            _ => ValueUse::Required,
        }
    }

    /// As what it reads that field.
    pub fn value_type(&self) -> FeatureType {
        match self {
            Self::Distinct | Self::Top { .. } => FeatureType::Category,
            Self::First(kind)
            | Self::Last(kind)
            | Self::Recent { kind, .. }
            | Self::Attribute(kind) => *kind,
            _ => FeatureType::Number,
        }
    }

    /// What it gives.
    pub fn feature_type(&self) -> FeatureType {
        match self {
            Self::Top { .. } => FeatureType::Category,
            Self::First(kind)
            | Self::Last(kind)
            | Self::Recent { kind, .. }
            | Self::Attribute(kind) => *kind,
            _ => FeatureType::Number,
        }
    }

    /// How many values it gives for each window.
    pub fn width(&self) -> usize {
        match self {
            Self::Top { k } | Self::Recent { k, .. } => *k,
            _ => 1,
        }
    }
}
