//! Who is who: anonymous ids that became users, and users that turned out to be one.
//!
//! A key is either a person of its own or points to another key; the end of the chain is the *canonical* person, whose state
//! holds everything. The rules:
//!
//! - `identify` with an anonymous id and a user id joins the anonymous id to the user: what it had done is merged into the
//!   user's state, and what it does from then on counts for the user.
//! - If the anonymous id belongs to somebody else already (a shared device), it is pointed to the new user for what it does
//!   *from then on*. What it had done stays with the first user, and two known users are never made one by a device.
//! - `alias` joins `previous_id` to `user_id`. It may name a user or an anonymous id, which the event does not tell, so both are
//!   joined; two users become one only in this way.
//! - Other events join nothing, even when they carry both ids: they count for the user.
//!
//! Only canonical persons are pointed elsewhere, and only to a different canonical person, so there are no cycles.

use tidemill_core::event::{EventView, PersonKey};
use tidemill_core::{Event, EventKind};

/// What is remembered of who is who: a pointer for each key that is not a person of its own.
pub trait Links {
    /// Why reading or writing fails.
    type Error;

    /// Where a key points; `None` for persons of their own.
    fn parent(&mut self, key: &PersonKey) -> Result<Option<PersonKey>, Self::Error>;

    /// Points a key to another one. With `merge`, what `key` has seen up to now becomes part of what `parent` has seen.
    fn point(
        &mut self,
        key: &PersonKey,
        parent: &PersonKey,
        merge: bool,
    ) -> Result<(), Self::Error>;
}

/// The longest chain of pointers that is followed. Chains grow by one with each alias of an alias.
const CHAIN_MAX: usize = 10_000;

/// The canonical person of a key.
pub fn canonical<L: Links>(links: &mut L, key: &PersonKey) -> Result<PersonKey, L::Error> {
    let mut key = key.clone();
    for _ in 0..CHAIN_MAX {
        match links.parent(&key)? {
            Some(parent) => key = parent,
            None => break,
        }
    }
    Ok(key)
}

/// The calls that say something about who is who.
pub const JOINING: &[EventKind] = &[EventKind::Identify, EventKind::Alias];

/// Applies what an event says about who is who, which holds for the event itself already.
pub fn learn<L: Links>(links: &mut L, event: &impl EventView) -> Result<(), L::Error> {
    if !JOINING.contains(&event.kind()) {
        return Ok(());
    }
    let Some(user) = event.user_id() else {
        return Ok(());
    };
    let user = PersonKey::user(user);
    match (event.kind(), event.anonymous_id(), event.previous_id()) {
        (EventKind::Identify, Some(anonymous), _) => {
            join_anonymous(links, &PersonKey::anonymous(anonymous), &user)
        }
        (EventKind::Alias, _, Some(previous)) => {
            join_anonymous(links, &PersonKey::anonymous(previous), &user)?;
            let previous = canonical(links, &PersonKey::user(previous))?;
            let user = canonical(links, &user)?;
            if previous == user {
                Ok(())
            } else {
                links.point(&previous, &user, true)
            }
        }
        _ => Ok(()),
    }
}

/// The keys that an event may have joined to its user.
pub(crate) fn keys_joined(event: &Event) -> Vec<PersonKey> {
    match (event.kind, &event.anonymous_id, &event.previous_id) {
        (EventKind::Identify, Some(anonymous), _) => vec![PersonKey::anonymous(anonymous)],
        (EventKind::Alias, _, Some(previous)) => {
            vec![PersonKey::anonymous(previous), PersonKey::user(previous)]
        }
        _ => Vec::new(),
    }
}

fn join_anonymous<L: Links>(
    links: &mut L,
    anonymous: &PersonKey,
    user: &PersonKey,
) -> Result<(), L::Error> {
    let user = canonical(links, user)?;
    match links.parent(anonymous)? {
        None => links.point(anonymous, &user, true),
        Some(parent) if canonical(links, &parent)? == user => Ok(()),
        Some(_) => links.point(anonymous, &user, false),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Map(HashMap<PersonKey, PersonKey>, Vec<String>);

    impl Links for Map {
        type Error = Infallible;

        fn parent(&mut self, key: &PersonKey) -> Result<Option<PersonKey>, Infallible> {
            Ok(self.0.get(key).cloned())
        }

        fn point(
            &mut self,
            key: &PersonKey,
            parent: &PersonKey,
            merge: bool,
        ) -> Result<(), Infallible> {
            self.1.push(format!(
                "{key} {} {parent}",
                if merge {
                    "merges into"
                } else {
                    "now belongs to"
                }
            ));
            self.0.insert(key.clone(), parent.clone());
            Ok(())
        }
    }

    fn check(events: &[(&str, &str, &str)], expected: &[&str]) {
        let mut map = Map::default();
        for (kind, from, user) in events {
            let from_field = if *kind == "alias" {
                "previous_id"
            } else {
                "anonymous_id"
            };
            let event: Event = serde_json::from_value(json!({
                "message_id": "m", "kind": kind, "name": "", "user_id": user, from_field: from,
                "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z"
            }))
            .unwrap();
            let Ok(()) = learn(&mut map, &event);
        }
        assert_eq!(map.1, expected, "{events:?}");
    }

    #[test]
    fn identities_are_joined() {
        check(
            &[("identify", "a", "u"), ("identify", "a", "u")],
            &["anonymous:a merges into user:u"],
        );
        check(&[("track", "a", "u")], &[]);
        check(
            &[
                ("identify", "a", "u"),
                ("identify", "a", "v"),
                ("identify", "a", "u"),
            ],
            &[
                "anonymous:a merges into user:u",
                "anonymous:a now belongs to user:v",
                "anonymous:a now belongs to user:u",
            ],
        );
        check(
            &[
                ("alias", "u", "v"),
                ("identify", "a", "u"),
                ("identify", "a", "v"),
            ],
            &[
                "anonymous:u merges into user:v",
                "user:u merges into user:v",
                "anonymous:a merges into user:v",
            ],
        );
    }

    #[test]
    fn aliases_in_a_circle_do_no_harm() {
        check(
            &[
                ("alias", "u", "v"),
                ("alias", "v", "u"),
                ("alias", "u", "u"),
            ],
            &[
                "anonymous:u merges into user:v",
                "user:u merges into user:v",
                "anonymous:v merges into user:v",
            ],
        );
    }
}
