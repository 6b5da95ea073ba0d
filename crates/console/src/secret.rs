//! Secrets: those of links and sessions, of which only a hash is kept, and passwords.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidemill_store::keys;

/// The shortest password, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 10;
/// The longest password, in bytes: hashing takes longer for longer ones.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// A secret as it is handed out.
pub(crate) fn written(bytes: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a secret, for a purpose: the hash for one purpose does not serve another.
pub(crate) fn hash(purpose: &str, secret: &str) -> String {
    keys::hash(&format!("{purpose}:{secret}"))
}

/// A password as it is kept: argon2id with its own salt. Takes tens of milliseconds and 19 MB on purpose.
///
/// # Errors
/// In words, when the password is too short or too long.
pub fn hash_password(password: &str, random: [u8; 32]) -> Result<String, String> {
    if password.chars().count() < PASSWORD_CHARACTERS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "a password has at least {PASSWORD_CHARACTERS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
        ));
    }
    let salt = SaltString::encode_b64(&random[..16]).map_err(|error| error.to_string())?;
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt);
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// Whether a password is the one that is kept. Without one it takes as long, so that nobody learns who has one.
pub(crate) fn is_password(password: &str, kept: Option<&str>) -> bool {
    /// Of no password.
    const NONE: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let Ok(hash) = PasswordHash::new(kept.unwrap_or(NONE)) else {
        return false;
    };
    let fits = Argon2::default()
        .verify_password(password.as_bytes(), &hash)
        .is_ok();
    fits && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_recognised() {
        let kept = hash_password("correct horse", [7; 32]).unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        assert!(is_password("correct horse", Some(&kept)));
        assert!(!is_password("correct horsf", Some(&kept)));
        assert!(!is_password("correct horse", None));
        assert!(hash_password("short", [7; 32]).is_err());
        assert!(hash_password(&"x".repeat(257), [7; 32]).is_err());
    }

    #[test]
    fn hashes_serve_one_purpose() {
        assert_ne!(hash("link", "x"), hash("session", "x"));
        assert_eq!(hash("link", "x").len(), 64);
        assert_eq!(written([0; 32]).len(), 43);
    }
}
