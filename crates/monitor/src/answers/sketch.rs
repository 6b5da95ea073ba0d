//! What one version answered on a day, or the fallback: counts and sketches that can be merged.

use std::collections::BTreeMap;

use tidemill_core::Decision;
use tidemill_core::decision::{Answer, Fallback};
use tidemill_core::feature::FeatureValue;
use tidemill_features::codec::{DecodeError, Reader, Writer};

use super::lists::ListDay;
use crate::days::property::{decode_properties, encode_properties, merge_properties};
use crate::days::{NEWER, PropertyDay, Sketched};

/// The most features of a version that are told apart on a day; the rest is counted together.
pub const FEATURES_MAX: usize = 300;
/// Why fallbacks answer, in the order in which they are counted.
pub const FALLBACKS: [Fallback; 4] = [
    Fallback::NoVersion,
    Fallback::UnknownEntity,
    Fallback::VersionFailed,
    Fallback::Holdout,
];
/// The first byte of a stored day.
const FORMAT: u8 = 2;
/// That of days from before lists were watched.
const WITHOUT_LISTS: u8 = 1;

/// What a version reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFeatures {
    /// The names of its features, in the order in which decisions hold their values.
    pub names: Vec<String>,
    /// The hash of the definitions that they are of.
    pub definition_hash: String,
}

/// What a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// What somebody will do.
    Predictions,
    /// Items.
    Lists,
}

/// What kind of answers a version gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerKind {
    /// Amounts.
    #[default]
    Amount,
    /// The probability of yes.
    YesNo,
    /// A class, with its probability.
    Class,
    /// Items.
    List,
}

impl AnswerKind {
    const ALL: [Self; 4] = [Self::Amount, Self::YesNo, Self::Class, Self::List];
}

/// The answers of one version on one day (UTC, by when they were asked for), or those of the fallback.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerDay {
    /// How many.
    pub count: u64,
    /// Of these, how many the fallback gave, by reason, in the order of [`FALLBACKS`].
    pub fallbacks: [u64; 4],
    /// What kind of answers.
    pub kind: AnswerKind,
    /// The hash of the definitions of its features; empty where it is not known.
    pub definition_hash: String,
    /// The scores: probabilities, amounts, or the log-odds of the best item that a list was chosen from.
    pub scores: PropertyDay,
    /// The classes.
    pub labels: PropertyDay,
    /// By the name of the feature.
    pub features: BTreeMap<String, PropertyDay>,
    /// Values of features that came after [`FEATURES_MAX`] others, and of versions of which it is not known what they read.
    pub other_values: u64,
    /// The lists.
    pub lists: ListDay,
}

impl AnswerDay {
    /// Takes an answer; `reads` says what its version reads, where that is known.
    pub fn add(&mut self, decision: &Decision, watched: Watched, reads: Option<&ReadFeatures>) {
        self.count += 1;
        if let Some(fallback) = decision.fallback {
            let place = FALLBACKS.iter().position(|other| *other == fallback);
            if let Some(count) = place.and_then(|place| self.fallbacks.get_mut(place)) {
                *count += 1;
            }
            return; // what the fallback says is always the same
        }
        match watched {
            Watched::Predictions => self.add_prediction(&decision.answer),
            Watched::Lists => {
                self.kind = AnswerKind::List;
                let best = self.lists.add(decision);
                best.into_iter()
                    .for_each(|score| self.scores.add_number(score));
            }
        }
        let reads = reads.filter(|reads| reads.names.len() == decision.features.len());
        let Some(reads) = reads else {
            self.other_values += decision.features.len() as u64;
            return;
        };
        if self.definition_hash != reads.definition_hash {
            self.definition_hash.clone_from(&reads.definition_hash);
        }
        for (name, value) in reads.names.iter().zip(&decision.features) {
            if let Some(feature) = self.features.get_mut(name) {
                add(feature, value);
            } else if self.features.len() < FEATURES_MAX {
                let mut feature = PropertyDay::default();
                add(&mut feature, value);
                self.features.insert(name.clone(), feature);
            } else {
                self.other_values += 1;
            }
        }
    }

    fn add_prediction(&mut self, answer: &Answer) {
        self.kind = match &answer.label {
            Some(_) if answer.probabilities.is_empty() => AnswerKind::YesNo,
            Some(_) => AnswerKind::Class,
            None => AnswerKind::Amount,
        };
        self.scores.add_number(answer.score);
        if let Some(label) = &answer.label {
            self.labels.add_text(label);
        }
    }

    /// How many the version gave, and not a fallback.
    pub fn answered(&self) -> u64 {
        let fallbacks: u64 = self.fallbacks.iter().sum();
        self.count.saturating_sub(fallbacks)
    }

    /// Adds the answers of another day, or of another part of it.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (count, more) in self.fallbacks.iter_mut().zip(other.fallbacks) {
            *count += more;
        }
        if other.answered() > 0 {
            self.kind = other.kind;
        }
        if !other.definition_hash.is_empty() {
            self.definition_hash.clone_from(&other.definition_hash);
        }
        self.scores.merge(&other.scores);
        self.labels.merge(&other.labels);
        self.lists.merge(&other.lists);
        self.other_values += other.other_values;
        self.other_values += merge_properties(&mut self.features, &other.features, FEATURES_MAX);
    }
}

fn add(feature: &mut PropertyDay, value: &FeatureValue) {
    match value {
        FeatureValue::Missing => feature.add_null(),
        FeatureValue::Number(number) => feature.add_number(*number),
        FeatureValue::Category(text) => feature.add_text(text),
    }
}

impl Sketched for AnswerDay {
    fn parts(&self) -> usize {
        self.features.len() + 2 + self.lists.parts()
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1_024);
        writer.byte(FORMAT);
        writer.unsigned(self.count);
        self.fallbacks
            .iter()
            .for_each(|count| writer.unsigned(*count));
        writer.byte(self.kind as u8);
        writer.text(&self.definition_hash);
        self.scores.encode(&mut writer);
        self.labels.encode(&mut writer);
        encode_properties(&self.features, &mut writer);
        writer.unsigned(self.other_values);
        self.lists.encode(&mut writer);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.byte()?;
        if format != FORMAT && format != WITHOUT_LISTS {
            return Err(NEWER);
        }
        let mut day = Self {
            count: reader.amount()?,
            ..Self::default()
        };
        for count in &mut day.fallbacks {
            *count = reader.amount()?;
        }
        let kind = AnswerKind::ALL.get(usize::from(reader.byte()?));
        day.kind = *kind.ok_or(DecodeError("a kind of answers is unknown"))?;
        day.definition_hash = reader.text()?.to_string();
        day.scores = PropertyDay::decode(&mut reader)?;
        day.labels = PropertyDay::decode(&mut reader)?;
        day.features = decode_properties(&mut reader)?;
        day.other_values = reader.amount()?;
        if format == FORMAT {
            day.lists = ListDay::decode(&mut reader)?;
        }
        reader.end()?;
        Ok(day)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::{DecisionId, Timestamp};

    use super::*;

    fn decision(number: u32) -> Decision {
        let fallback = (number % 10 == 3).then_some("unknown_entity");
        let features = match fallback {
            Some(_) => json!([]),
            None => json!([
                number,
                if number.is_multiple_of(4) {
                    json!(null)
                } else {
                    json!("uk")
                }
            ]),
        };
        serde_json::from_value(json!({
            "id": DecisionId::new(Timestamp::EPOCH, [1; 10]), "model": "m", "version": 1, "fallback": fallback,
            "entity": "user:u", "moment": "2026-01-01T00:00:00Z", "offset": 1, "features": features,
            "answer": { "score": f64::from(number) / 200.0, "label": "no" }, "latency_us": 1,
        }))
        .unwrap()
    }

    fn day(numbers: std::ops::Range<u32>) -> AnswerDay {
        let reads = ReadFeatures {
            names: ["user.orders", "user.country"].map(str::to_owned).to_vec(),
            definition_hash: "abc".to_owned(),
        };
        let mut day = AnswerDay::default();
        numbers.for_each(|number| {
            day.add(&decision(number), Watched::Predictions, Some(&reads));
        });
        day
    }

    #[test]
    fn a_day_counts_what_was_answered_and_from_what() {
        let day = day(0..200);
        assert_eq!((day.count, day.fallbacks), (200, [0, 20, 0, 0]));
        assert_eq!(day.scores.present(), 180);
        assert_eq!(
            (day.kind, day.labels.values["no"]),
            (AnswerKind::YesNo, 180)
        );
        let country = &day.features["user.country"];
        assert_eq!((country.nulls, country.present()), (50, 130));
        assert_eq!(
            (day.features["user.orders"].nulls, day.other_values),
            (0, 0)
        );
    }

    #[test]
    fn parts_of_a_day_make_the_day_and_what_is_stored_is_read() {
        let (mut merged, whole) = (day(0..70), day(0..200));
        merged.merge(&day(70..200));
        let bytes = whole.encode();
        assert_eq!(AnswerDay::decode(&bytes).unwrap(), whole);
        assert_eq!(merged.encode(), bytes);
        for length in 0..bytes.len() {
            assert!(AnswerDay::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_day_from_before_lists_were_watched_is_read() {
        let whole = day(0..200);
        let mut writer = Writer::with_capacity(16);
        whole.lists.encode(&mut writer);
        let (mut bytes, of_lists) = (whole.encode(), writer.finish().len());
        bytes.truncate(bytes.len() - of_lists);
        bytes[0] = WITHOUT_LISTS;
        assert_eq!(AnswerDay::decode(&bytes).unwrap(), whole);
        bytes[0] = FORMAT + 1;
        assert!(AnswerDay::decode(&bytes).is_err());
    }

    #[test]
    fn lists_are_counted_but_for_those_that_are_not_the_versions_doing() {
        let mut day = AnswerDay::default();
        let list = |given: bool, items: usize| {
            let shown =
                |item| json!({ "item": format!("i{item}"), "score": -1.0, "propensity": 1.0 });
            let items: Vec<_> = (0..items).map(shown).collect();
            let best = json!([{ "item": "i9", "score": 0.5 }]);
            let mut list = decision(1);
            list.items = serde_json::from_value(json!(items)).unwrap();
            list.candidates = serde_json::from_value(best).unwrap();
            list.given = given;
            list
        };
        for (given, items) in [(false, 3), (false, 0), (true, 50)] {
            day.add(&list(given, items), Watched::Lists, None);
        }
        assert_eq!((day.count, day.kind), (3, AnswerKind::List));
        assert_eq!((day.lists.lengths.present(), day.lists.shown.total), (2, 3));
        assert_eq!(day.scores.numbers.as_ref().unwrap().sum, 1.0);
        assert_eq!(AnswerDay::decode(&day.encode()).unwrap(), day);
    }

    #[test]
    fn a_version_of_which_nothing_is_known_is_counted() {
        let mut day = AnswerDay::default();
        day.add(&decision(1), Watched::Predictions, None);
        assert_eq!(
            (day.count, day.scores.present(), day.other_values),
            (1, 1, 2)
        );
        assert!(day.features.is_empty());
    }
}
