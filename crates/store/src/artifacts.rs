//! The port for model files, stored by what is in them.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// The SHA-256 of an artifact's bytes, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArtifactHash(String);

impl ArtifactHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(
            sha2::Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactHash {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreError::NotFound(format!(
                "artifact '{}'",
                text.chars().take(64).collect::<String>()
            )))
        }
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Model files by content hash. Putting the same bytes twice stores them once.
#[async_trait]
pub trait Artifacts: Send + Sync {
    /// Stores bytes durably and says under which hash.
    async fn put(&self, bytes: Vec<u8>) -> Result<ArtifactHash, StoreError>;

    /// The bytes, checked against the hash: a damaged artifact is [`StoreError::Corrupt`], never returned.
    async fn get(&self, hash: &ArtifactHash) -> Result<Vec<u8>, StoreError>;
}
