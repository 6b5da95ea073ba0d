//! Who is who and who did something lately, while a dataset's events are read.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use datafusion::arrow::array::{Array, StringArray};
use hashbrown::HashMap;
use tidemill_core::event::PersonKey;
use tidemill_core::{Span, Timestamp};
use tidemill_store::{EventColumns, EventRows, EventTable, StoreError};

use crate::identity::{JOINING, Links, learn};

/// A person by the order of appearance.
pub(super) type Person = u32;

/// Who is who, by number.
#[derive(Default)]
pub(super) struct People {
    users: HashMap<Box<str>, Person>,
    anonymous: HashMap<Box<str>, Person>,
    /// Of the columns that were read last, so that an id is looked up once for all rows that share it.
    met_users: Met,
    met_anonymous: Met,
    pub(super) keys: Vec<PersonKey>,
    /// Where a key points; itself for canonical persons.
    parents: Vec<Person>,
    /// Who has taken over what a person had seen; itself where nobody has.
    merged_into: Vec<Person>,
    pub(super) merges: Vec<(Person, Person)>,
    /// For each of the first persons who it will become part of in the end; all others stay who they are.
    finally: Vec<Person>,
}

impl People {
    /// Reads ahead who will be joined to whom, so that those who become one are kept together from the start.
    pub(super) fn read_ahead(events: &dyn EventTable) -> Result<Self, StoreError> {
        let mut people = Self::default();
        for rows in events.scan(EventColumns::default(), Some(JOINING)) {
            for event in rows?.rows() {
                let Ok(()) = learn(&mut people, &event);
            }
        }
        people.finally = (0..number_of(people.keys.len()))
            .map(|person| people.end_of(person))
            .collect();
        people.parents = (0..number_of(people.keys.len())).collect();
        people.merged_into.clone_from(&people.parents);
        people.merges.clear();
        Ok(people)
    }

    fn end_of(&self, mut person: Person) -> Person {
        while self.merged_into[person as usize] != person {
            person = self.merged_into[person as usize];
        }
        person
    }

    /// The group of a person: all who become one in the end.
    pub(super) fn group(&self, person: Person) -> Person {
        let known = self.finally.get(person as usize);
        known.copied().unwrap_or(person)
    }

    /// The person that a row is about, after joining identities.
    pub(super) fn of_row(&mut self, rows: &EventRows, row: usize) -> Option<Person> {
        let (is_user, ids, which) = match rows.users().which(row) {
            Some(which) => (true, rows.users(), which),
            None => (false, rows.anonymous(), rows.anonymous().which(row)?),
        };
        if let Some(number) = self.met(is_user).of(ids.texts())[which] {
            return Some(self.canonical(number));
        }
        let number = self.number(is_user, ids.texts().value(which));
        self.met(is_user).of(ids.texts())[which] = Some(number);
        Some(self.canonical(number))
    }

    fn met(&mut self, is_user: bool) -> &mut Met {
        if is_user {
            &mut self.met_users
        } else {
            &mut self.met_anonymous
        }
    }

    /// The person that a key stands for, after joining identities.
    pub(super) fn of_key(&mut self, key: &PersonKey) -> Person {
        let number = self.number(key.is_user(), key.id());
        self.canonical(number)
    }

    fn number(&mut self, is_user: bool, id: &str) -> Person {
        let numbers = if is_user {
            &mut self.users
        } else {
            &mut self.anonymous
        };
        if let Some(number) = numbers.get(id) {
            return *number;
        }
        let number = number_of(self.keys.len());
        numbers.insert(id.into(), number);
        self.keys.push(if is_user {
            PersonKey::user(id)
        } else {
            PersonKey::anonymous(id)
        });
        self.parents.push(number);
        self.merged_into.push(number);
        number
    }

    fn canonical(&self, mut number: Person) -> Person {
        while self.parents[number as usize] != number {
            number = self.parents[number as usize];
        }
        number
    }
}

fn number_of(persons: usize) -> Person {
    Person::try_from(persons).expect("fewer than 2^32 persons")
}

impl Links for People {
    type Error = Infallible;

    fn parent(&mut self, key: &PersonKey) -> Result<Option<PersonKey>, Infallible> {
        let numbers = if key.is_user() {
            &self.users
        } else {
            &self.anonymous
        };
        let parent = numbers
            .get(key.id())
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
        let number = self.number(key.is_user(), key.id());
        let parent = self.number(parent.is_user(), parent.id());
        self.parents[number as usize] = parent;
        if merge {
            self.merged_into[number as usize] = parent;
            self.merges.push((number, parent));
        }
        Ok(())
    }
}

/// Whether two arrays are the same piece of memory.
pub(super) fn is_same(one: &StringArray, other: &StringArray) -> bool {
    one.len() == other.len()
        && one.value_offsets().as_ptr() == other.value_offsets().as_ptr()
        && one.values().as_ptr() == other.values().as_ptr()
}

/// Persons by the texts of columns that were read lately.
#[derive(Default)]
struct Met(VecDeque<(StringArray, Vec<Option<Person>>)>);

impl Met {
    /// As many as there are files that overlap in time, usually.
    const COLUMNS_MAX: usize = 8;

    /// The persons of these texts, as far as they have been met.
    fn of(&mut self, texts: &StringArray) -> &mut [Option<Person>] {
        let found = self.0.iter().position(|(known, _)| is_same(known, texts));
        match found {
            Some(0) => {}
            Some(place) => self.0.swap(0, place),
            None => {
                self.0.truncate(Self::COLUMNS_MAX - 1);
                self.0.push_front((texts.clone(), vec![None; texts.len()]));
            }
        }
        &mut self.0[0].1
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
