//! The items as they are now, in memory, and what is new among them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tidemill_core::event::EventKind;
use tidemill_core::sync::RwLock;
use tidemill_core::{Event, Item, Timestamp};

/// The most new items that are looked at for one answer, the newest ones.
const NEW_MAX: usize = 1_000;
/// The most words that are looked at of one item.
const WORDS_MAX: usize = 64;

/// The items of a project. Once any were sent, only those that were, and were not deleted, can be shown.
#[derive(Default)]
pub struct Catalogue(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    items: HashMap<Arc<str>, Arc<Known>>,
    /// In how many items each word occurs.
    frequency: HashMap<Box<str>, u32>,
    /// The items that were added last, the newest at the end.
    newest: VecDeque<Arc<str>>,
    /// How often items were added or removed.
    added: u64,
}

/// An item with the words that describe it.
pub(super) struct Known {
    pub(super) item: Item,
    words: Vec<Box<str>>,
}

impl Catalogue {
    /// The items as the engine has them.
    pub fn of(items: Vec<Item>) -> Self {
        let catalogue = Self::default();
        {
            let mut inner = catalogue.0.write();
            for item in items {
                inner.put(item);
            }
        }
        catalogue
    }

    /// Takes an event, which may change items.
    pub fn apply(&self, event: &Event) {
        let id = event.properties.get("id").and_then(Value::as_str);
        let (EventKind::ItemChanged | EventKind::ItemDeleted, Some(id)) = (event.kind, id) else {
            return;
        };
        let mut inner = self.0.write();
        if event.kind == EventKind::ItemDeleted {
            inner.remove(id);
            return;
        }
        let mut item = inner.items.get(id).map_or_else(
            || Item {
                id: id.to_owned(),
                attributes: serde_json::Map::new(),
                updated_at: event.timestamp,
            },
            |known| known.item.clone(),
        );
        if let Some(attributes) = event
            .properties
            .get("attributes")
            .and_then(Value::as_object)
        {
            item.apply(attributes, event.timestamp);
        }
        inner.put(item);
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.0.read().items.len()
    }

    /// Whether no items were sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of each of these items, where it may be shown at all: `None` for those that are gone, not available or expired.
    pub(super) fn known<'i>(
        &self,
        ids: impl Iterator<Item = &'i str>,
        now: Timestamp,
    ) -> Vec<Option<Arc<Known>>> {
        let inner = self.0.read();
        ids.map(|id| match inner.items.get(id) {
            Some(known) => known.is_available(now).then(|| known.clone()),
            None if inner.items.is_empty() => Some(Arc::new(Known::bare(id))),
            None => None,
        })
        .collect()
    }

    /// The words that two items share, from 0 to 1: the cosine of how rare they are.
    pub(super) fn likeness(&self, one: &Known, other: &Known) -> f64 {
        let inner = self.0.read();
        let (mut shared, mut of_one, mut of_other) = (0.0, 0.0, 0.0);
        for word in &one.words {
            let weight = inner.rarity(word);
            of_one += weight * weight;
            if other.words.contains(word) {
                shared += weight * weight;
            }
        }
        for word in &other.words {
            of_other += inner.rarity(word).powi(2);
        }
        let length = f64::sqrt(of_one) * f64::sqrt(of_other);
        if length > 0.0 { shared / length } else { 0.0 }
    }

    /// Which items were added last, the newest first, with a number that changes whenever they do.
    pub(super) fn newest(&self) -> (u64, Vec<Arc<str>>) {
        let inner = self.0.read();
        (inner.added, inner.newest.iter().rev().cloned().collect())
    }

    /// The number of [`newest`](Self::newest).
    pub(super) fn added(&self) -> u64 {
        self.0.read().added
    }

    /// Those of some items that may be shown.
    pub(super) fn available(&self, ids: &[Arc<str>], now: Timestamp) -> Vec<Arc<Known>> {
        let inner = self.0.read();
        let known = ids.iter().filter_map(|id| inner.items.get(id));
        known
            .filter(|known| known.is_available(now))
            .cloned()
            .collect()
    }

    /// What an item is called: its `title` or `name`, else its id.
    pub fn title(&self, id: &str) -> String {
        let inner = self.0.read();
        let attributes = inner.items.get(id).map(|known| &known.item.attributes);
        let titles = ["title", "name"].into_iter();
        let title = attributes.and_then(|attributes| {
            let mut titles = titles.filter_map(|name| attributes.get(name)?.as_str());
            titles.next().map(str::to_owned)
        });
        title.unwrap_or_else(|| id.to_owned())
    }
}

impl Inner {
    fn put(&mut self, item: Item) {
        let id: Arc<str> = Arc::from(item.id.as_str());
        let known = Known::new(item);
        for word in &known.words {
            *self.frequency.entry(word.clone()).or_insert(0) += 1;
        }
        match self.items.insert(id.clone(), Arc::new(known)) {
            Some(before) => self.forget(&before),
            None => {
                self.added += 1;
                self.newest.push_back(id);
                if self.newest.len() > NEW_MAX {
                    self.newest.pop_front();
                }
            }
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(before) = self.items.remove(id) {
            self.forget(&before);
            self.added += 1;
            self.newest.retain(|known| known.as_ref() != id);
        }
    }

    fn forget(&mut self, known: &Known) {
        for word in &known.words {
            if let Some(count) = self.frequency.get_mut(word) {
                *count -= 1;
                if *count == 0 {
                    self.frequency.remove(word);
                }
            }
        }
    }

    /// What a word says: `ln(1 + items / items with it)`, 0 for what more than a tenth of them have.
    fn rarity(&self, word: &str) -> f64 {
        let with = f64::from(self.frequency.get(word).copied().unwrap_or(1));
        let items = self.items.len() as f64;
        if with > (items / 10.0).max(2.0) {
            0.0
        } else {
            (1.0 + items / with).ln()
        }
    }
}

impl Known {
    fn new(item: Item) -> Self {
        let mut words: Vec<Box<str>> = Vec::new();
        for (name, value) in &item.attributes {
            let Some(text) = value.as_str() else {
                continue;
            };
            let of_text = text
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| word.chars().count() > 1)
                .map(|word| word.to_lowercase().into_boxed_str());
            words.extend(of_text);
            // a value of one word, such as a category, is told apart from the same word in a text
            if text.len() <= 64 && !text.contains(' ') {
                words.push(format!("{name}={text}").into_boxed_str());
            }
        }
        words.sort_unstable();
        words.dedup();
        words.truncate(WORDS_MAX);
        Self { item, words }
    }

    /// An item of which only the name is known.
    pub(super) fn bare(id: &str) -> Self {
        Self {
            item: Item {
                id: id.to_owned(),
                attributes: serde_json::Map::new(),
                updated_at: Timestamp::EPOCH,
            },
            words: Vec::new(),
        }
    }

    /// Whether it may be shown at a moment: attributes `available` and `expires_at` say so where there are any.
    fn is_available(&self, now: Timestamp) -> bool {
        let attributes = &self.item.attributes;
        let available = attributes.get("available").and_then(Value::as_bool);
        let expires = attributes
            .get("expires_at")
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<Timestamp>().ok());
        available != Some(false) && expires.is_none_or(|expires| expires > now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, properties: &Value) -> Event {
        serde_json::from_value(json!({
            "message_id": "m", "kind": kind, "name": format!("${kind}"), "properties": properties,
            "timestamp": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap()
    }

    fn shown(catalogue: &Catalogue, id: &str, now: &str) -> bool {
        let known = catalogue.known([id].into_iter(), now.parse().unwrap());
        known[0].is_some()
    }

    #[test]
    fn items_come_change_and_go_at_once() {
        let catalogue = Catalogue::default();
        let now = "2026-01-02T00:00:00Z";
        assert!(
            shown(&catalogue, "a", now),
            "without items, nothing is hidden"
        );
        let put = |attributes: Value| {
            catalogue.apply(&event(
                "item_changed",
                &json!({ "id": "a", "attributes": attributes }),
            ));
        };
        put(json!({ "title": "Green tea", "expires_at": "2026-01-03T00:00:00Z" }));
        assert!(shown(&catalogue, "a", now) && !shown(&catalogue, "b", now));
        assert!(!shown(&catalogue, "a", "2026-01-03T00:00:00Z"));
        assert_eq!(
            (catalogue.title("a").as_str(), catalogue.title("b").as_str()),
            ("Green tea", "b")
        );
        put(json!({ "available": false }));
        assert!(!shown(&catalogue, "a", now));
        put(json!({ "available": true }));
        assert!(shown(&catalogue, "a", now));
        catalogue.apply(&event("item_deleted", &json!({ "id": "a" })));
        assert_eq!(catalogue.len(), 0);
    }

    #[test]
    fn new_items_are_like_those_that_share_rare_words() {
        let item = |id: &str, title: &str| Item {
            id: id.to_owned(),
            attributes: json!({ "title": title }).as_object().unwrap().clone(),
            updated_at: Timestamp::EPOCH,
        };
        let mut items: Vec<Item> = (0..30)
            .map(|n| item(&format!("x{n}"), &format!("thing number {n}{n}")))
            .collect();
        items.extend([
            item("mug", "red mug"),
            item("mug2", "blue mug"),
            item("lamp", "garden lamp"),
        ]);
        let catalogue = Catalogue::of(items);
        let known = catalogue.known(["mug", "mug2", "lamp"].into_iter(), Timestamp::EPOCH);
        let [Some(mug), Some(other), Some(lamp)] = &known[..] else {
            panic!("all are known")
        };
        assert!(catalogue.likeness(mug, other) > 0.3);
        assert_eq!(catalogue.likeness(mug, lamp), 0.0);
        let (_, newest) = catalogue.newest();
        assert_eq!(newest[0].as_ref(), "lamp");
        assert_eq!(catalogue.available(&newest[..2], Timestamp::EPOCH).len(), 2);
    }
}
