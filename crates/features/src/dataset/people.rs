//! Who is who and who did something lately, while a dataset's events are read.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use tidemill_core::event::PersonKey;
use tidemill_core::{Span, Timestamp};

use crate::identity::Links;

/// A person by the order of appearance.
pub(super) type Person = u32;

/// Who is who, by number.
#[derive(Default)]
pub(super) struct People {
    numbers: HashMap<PersonKey, Person>,
    pub(super) keys: Vec<PersonKey>,
    /// Where a key points; itself for canonical persons.
    parents: Vec<Person>,
    /// Who has taken over what a person had seen; itself where nobody has.
    pub(super) merged_into: Vec<Person>,
    pub(super) merges: Vec<(Person, Person)>,
}

impl People {
    pub(super) fn number(&mut self, key: &PersonKey) -> Person {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = Person::try_from(self.keys.len()).expect("fewer than 2^32 persons");
        self.numbers.insert(key.clone(), number);
        self.keys.push(key.clone());
        self.parents.push(number);
        self.merged_into.push(number);
        number
    }

    pub(super) fn canonical(&mut self, key: &PersonKey) -> Person {
        let mut number = self.number(key);
        while self.parents[number as usize] != number {
            number = self.parents[number as usize];
        }
        number
    }
}

impl Links for People {
    type Error = Infallible;

    fn parent(&mut self, key: &PersonKey) -> Result<Option<PersonKey>, Infallible> {
        let parent = self
            .numbers
            .get(key)
            .map(|number| (*number, self.parents[*number as usize]));
        Ok(parent
            .filter(|(number, parent)| number != parent)
            .map(|(_, parent)| self.keys[parent as usize].clone()))
    }

    fn point(
        &mut self,
        key: &PersonKey,
        parent: &PersonKey,
        merge: bool,
    ) -> Result<(), Infallible> {
        let (number, parent) = (self.number(key), self.number(parent));
        self.parents[number as usize] = parent;
        if merge {
            self.merged_into[number as usize] = parent;
            self.merges.push((number, parent));
        }
        Ok(())
    }
}

/// Who did something, when last.
#[derive(Default)]
pub(super) struct Active {
    newest: HashMap<Person, Timestamp>,
    by_time: BTreeSet<(Timestamp, Person)>,
}

impl Active {
    pub(super) fn saw(&mut self, person: Person, timestamp: Timestamp) {
        let newest = self.newest.entry(person).or_insert(timestamp);
        self.by_time.remove(&(*newest, person));
        *newest = (*newest).max(timestamp);
        self.by_time.insert((*newest, person));
    }

    pub(super) fn merge(&mut self, from: Person, into: Person) {
        if let Some(newest) = self.newest.remove(&from) {
            self.by_time.remove(&(newest, from));
            self.saw(into, newest);
        }
    }

    /// Persons whose newest event is in `(moment - within, moment]`, in the order of their numbers.
    pub(super) fn within(&self, moment: Timestamp, within: Span) -> Vec<Person> {
        let first = moment - within + Span::from_micros(1);
        let mut persons: Vec<Person> = self
            .by_time
            .range((first, 0)..=(moment, Person::MAX))
            .map(|(_, person)| *person)
            .collect();
        persons.sort_unstable();
        persons
    }
}
