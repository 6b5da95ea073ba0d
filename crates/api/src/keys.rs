//! Keys: how a sent one is found again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use tidemill_core::clock::Stopwatch;
use tidemill_core::sync::Mutex;
use tidemill_store::catalog::AccessKey;
use tidemill_store::keys::{ID_CHARS, SECRET_CHARS, hash};
use tidemill_store::{Catalog, StoreError};

/// From this age on the keys are read again, without anybody waiting for it.
const REFRESH_FROM_US: u64 = 500_000;
/// Up to this age they are used: a revoked key works no longer than this.
const AGE_MAX_US: u64 = 1_000_000;
/// How long a request waits for the catalog, after a time without requests. A catalog that does not answer must not
/// stop the answering: the keys known last are used then.
const CATALOG_WAIT: Duration = Duration::from_millis(200);

/// The keys of all projects in memory, at most a second behind the catalog while the catalog answers.
///
/// Looking a key up asks the catalog only after a time without requests; otherwise the keys are read again in the
/// background. While the catalog does not answer, the keys known last go on working: a broken catalog must not
/// stop the answering, and who can break it cannot gain a key by it.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    catalog: Arc<dyn Catalog>,
    known: ArcSwap<Known>,
    /// When the catalog was last asked, whether it answered or not.
    asked: Mutex<Stopwatch>,
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// The keys that work, as of one reading of the catalog.
struct Known {
    by_id: HashMap<String, Arc<AccessKey>>,
    read: Stopwatch,
}

impl KeyRing {
    /// Reads the keys.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn open(catalog: Arc<dyn Catalog>) -> Result<Self, StoreError> {
        let known = Known::read(catalog.as_ref()).await?;
        Ok(Self(Arc::new(Inner {
            catalog,
            asked: Mutex::new(known.read),
            known: ArcSwap::from_pointee(known),
            asking: Arc::default(),
        })))
    }

    /// Reads the keys again now: after one was made or revoked.
    ///
    /// # Errors
    /// When the catalog fails; the keys stay as they were.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.asking.lock().await;
        self.0.ask().await
    }

    /// The key with this secret, if it is known and not revoked.
    pub async fn find(&self, secret: &str) -> Option<Arc<AccessKey>> {
        self.keep_fresh().await;
        self.0.known.load().find(secret)
    }

    async fn keep_fresh(&self) {
        let age = self.0.known.load().read.micros();
        if age < REFRESH_FROM_US {
            return;
        }
        let Ok(turn) = self.0.asking.clone().try_lock_owned() else {
            if age >= AGE_MAX_US {
                // somebody else asks already: wait for that, with the same limit
                let _ = tokio::time::timeout(CATALOG_WAIT, self.0.asking.lock()).await;
            }
            return;
        };
        if self.0.asked.lock().micros() < REFRESH_FROM_US {
            return; // the catalog has just failed: do not make every request wait for it
        }
        let inner = self.0.clone();
        let asking = tokio::spawn(async move {
            let _turn = turn;
            if let Err(error) = inner.ask().await {
                tracing::error!(%error, "cannot read the keys; those known last go on working");
            }
        });
        if age >= AGE_MAX_US {
            let _ = tokio::time::timeout(CATALOG_WAIT, asking).await;
        }
    }
}

impl Inner {
    async fn ask(&self) -> Result<(), StoreError> {
        *self.asked.lock() = Stopwatch::start();
        let known = Known::read(self.catalog.as_ref()).await?;
        self.known.store(Arc::new(known));
        Ok(())
    }
}

impl Known {
    async fn read(catalog: &dyn Catalog) -> Result<Self, StoreError> {
        let read = Stopwatch::start(); // before reading: what is revoked meanwhile must count as unread
        let keys = catalog.keys().await?;
        let working = keys.into_iter().filter(|key| key.revoked_at.is_none());
        Ok(Self {
            by_id: working.map(|key| (key.id.clone(), Arc::new(key))).collect(),
            read,
        })
    }

    /// Finds by the public part, then compares the hash of the whole in constant time.
    fn find(&self, secret: &str) -> Option<Arc<AccessKey>> {
        if secret.len() != SECRET_CHARS || !secret.is_ascii() {
            return None;
        }
        let key = self.by_id.get(&secret[..ID_CHARS])?;
        let same: bool = hash(secret).as_bytes().ct_eq(key.hash.as_bytes()).into();
        same.then(|| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::Timestamp;
    use tidemill_store::catalog::Scope;
    use tidemill_store::keys::Secret;

    fn known(secret: &Secret) -> Known {
        let key = AccessKey {
            id: secret.id().to_owned(),
            project: "shop".parse().unwrap(),
            scope: Scope::Read,
            hash: hash(secret.expose()),
            created_at: Timestamp::EPOCH,
            revoked_at: None,
        };
        Known {
            by_id: [(key.id.clone(), Arc::new(key))].into(),
            read: Stopwatch::start(),
        }
    }

    #[test]
    fn a_key_is_found_by_its_whole_secret_only() {
        let secret = Secret::new(Scope::Read, [7; 32]);
        let known = known(&secret);
        assert_eq!(secret.expose().len(), SECRET_CHARS);
        assert!(secret.expose().starts_with("tm_r_"));
        assert!(known.find(secret.expose()).is_some());
        let mut other = secret.expose().to_owned();
        other.replace_range(SECRET_CHARS - 2.., "xy");
        for wrong in [
            "",
            "tm_r_",
            &secret.expose()[..ID_CHARS],
            &other,
            &"ä".repeat(24),
            &"x".repeat(48),
        ] {
            assert!(known.find(wrong).is_none(), "{wrong}");
        }
    }
}
