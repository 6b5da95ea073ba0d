//! Keys of programs: how they are made, and what is kept of them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tidemill_core::{ProjectName, Timestamp};

use crate::catalog::{AccessKey, AuditEntry, Scope};
use crate::{Catalog, StoreError};

/// The random bits of a secret.
pub const SECRET_BITS: usize = 256;
/// `tm_`, the scope's letter, `_`, and eight of the random characters: what is shown to tell keys apart. The other
/// 208 random bits stay secret.
pub const ID_CHARS: usize = 13;
/// A secret is this long: `tm_r_` and 43 characters.
pub const SECRET_CHARS: usize = 48;

/// The secret of a key. It is shown once, when the key is made, and printing it by accident prints nothing.
pub struct Secret(String);

impl Secret {
    /// A secret from random bytes; its letter says what it may.
    pub fn new(scope: Scope, random: [u8; SECRET_BITS / 8]) -> Self {
        let letter = match scope {
            Scope::Write => 'w',
            Scope::Read => 'r',
            Scope::Admin => 'a',
        };
        Self(format!("tm_{letter}_{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// What is shown to tell keys apart: its beginning.
    pub fn id(&self) -> &str {
        &self.0[..ID_CHARS]
    }

    /// The secret itself, for the one place that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Makes a key and records it, with who made it, in the catalog. Only the SHA-256 of the secret is stored; a fast
/// hash is enough because nobody can guess 256 random bits.
///
/// # Errors
/// When the catalog fails; there is no new key then.
pub async fn create_key(
    catalog: &dyn Catalog,
    project: &ProjectName,
    scope: Scope,
    random: [u8; SECRET_BITS / 8],
    now: Timestamp,
    actor: &str,
) -> Result<(Secret, AccessKey), StoreError> {
    let secret = Secret::new(scope, random);
    let key = AccessKey {
        id: secret.id().to_owned(),
        project: project.clone(),
        scope,
        hash: hash(&secret.0),
        created_at: now,
        revoked_at: None,
    };
    let audit = AuditEntry {
        at: now,
        project: Some(project.clone()),
        actor: actor.to_owned(),
        action: "create_key".to_owned(),
        subject: key.id.clone(),
        reason: format!("scope {scope}"),
    };
    catalog.create_key(&key, audit).await?;
    Ok((secret, key))
}

/// Revokes a key of a project and records who did.
///
/// # Errors
/// [`StoreError::NotFound`] where the project has no such key, and those of the catalog.
pub async fn revoke_key(
    catalog: &dyn Catalog,
    project: &ProjectName,
    id: &str,
    now: Timestamp,
    actor: &str,
) -> Result<(), StoreError> {
    let audit = AuditEntry {
        at: now,
        project: Some(project.clone()),
        actor: actor.to_owned(),
        action: "revoke_key".to_owned(),
        subject: id.to_owned(),
        reason: String::new(),
    };
    catalog.revoke_key(project, id, now, audit).await
}

/// SHA-256 in hexadecimal: what is kept of a secret.
pub fn hash(secret: &str) -> String {
    Sha256::digest(secret)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new(Scope::Admin, [9; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }

    #[test]
    fn hashes_are_sha_256() {
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
