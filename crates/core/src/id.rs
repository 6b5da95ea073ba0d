//! Typed ids: never a bare string where a name has a meaning.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// The longest name of a project, model or source, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What was wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a name: use 1 to {NAME_BYTES_MAX} lower-case letters, digits, '-' and '_', starting with a letter or digit"
)]
pub struct NameError(pub String);

fn check_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && text.len() <= NAME_BYTES_MAX && text.chars().all(allowed) {
        Ok(())
    } else {
        Err(NameError(text.chars().take(NAME_BYTES_MAX).collect()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check_name(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// One product's world. Also the name of its folder in the lake, so it is safe in a path.
    ProjectName
}
name! {
    /// A named question: `will_return`.
    ModelName
}

/// An event's place in its project's log: the total order. The first event has offset 1, so that 0 can mean
/// "nothing yet" in checkpoints.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first event.
    pub const ZERO: Offset = Offset(0);

    /// The place after this one.
    pub const fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! time_ordered_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: version 7 of RFC 9562, so that ids sort by the time they were made.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The 16 bytes, which sort like the id.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

time_ordered_id! {
    /// One answer that was given.
    DecisionId
}
time_ordered_id! {
    /// One pass of the cycle.
    RunId
}

/// One trained answerer of a model: `will_return@17`. Numbers start at 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionId {
    /// The model that it answers.
    pub model: ModelName,
    /// Its number, counting up from 1.
    pub number: u32,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.number)
    }
}

/// What was wrong with a version's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version: write it like will_return@17")]
pub struct VersionIdError(pub String);

impl FromStr for VersionId {
    type Err = VersionIdError;
    fn from_str(text: &str) -> Result<Self, VersionIdError> {
        let error = || VersionIdError(text.chars().take(NAME_BYTES_MAX).collect());
        let (model, number) = text.split_once('@').ok_or_else(error)?;
        Ok(Self {
            model: model.parse().map_err(|_| error())?,
            number: number.parse().map_err(|_| error())?,
        })
    }
}

impl TryFrom<String> for VersionId {
    type Error = VersionIdError;
    fn try_from(text: String) -> Result<Self, VersionIdError> {
        text.parse()
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths() {
        for good in ["shop", "tools-platform", "will_return", "7"] {
            assert!(good.parse::<ModelName>().is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "-a", "Shop", "shop\n", &"a".repeat(65)] {
            assert!(bad.parse::<ProjectName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = DecisionId::new(Timestamp::from_millis(1_000), [255; 10]);
        let late = DecisionId::new(Timestamp::from_millis(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<DecisionId>().unwrap(), early);
    }

    #[test]
    fn versions_are_written_with_an_at() {
        let version: VersionId = "will_return@17".parse().unwrap();
        assert_eq!(
            (version.model.as_str(), version.number),
            ("will_return", 17)
        );
        assert!("will_return".parse::<VersionId>().is_err());
    }
}
