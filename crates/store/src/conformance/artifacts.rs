//! What every [`Artifacts`] has to do.

use crate::{ArtifactHash, Artifacts, StoreError};

/// Runs the whole suite; see [the module above](super) for `open`. `damage` changes the stored bytes of an artifact
/// of a world behind the backend's back.
pub async fn check<A: Artifacts>(
    open: impl AsyncFn(&str) -> A,
    damage: impl Fn(&str, &ArtifactHash),
) {
    let store = open("artifacts").await;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let hash = store.put(bytes.clone()).await.expect("put");
    assert_eq!(hash, ArtifactHash::of(&bytes));
    assert_eq!(store.put(bytes.clone()).await.expect("put the same"), hash);
    let empty = store.put(Vec::new()).await.expect("put nothing");
    assert_ne!(empty, hash);
    drop(store);
    let store = open("artifacts").await;
    assert_eq!(store.get(&hash).await.expect("get"), bytes);
    assert_eq!(
        store.get(&empty).await.expect("get nothing"),
        Vec::<u8>::new()
    );
    let missing = store.get(&ArtifactHash::of(b"never stored")).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    damage("artifacts", &hash);
    let damaged = store.get(&hash).await.map(|bytes| bytes.len());
    assert!(
        matches!(damaged, Err(StoreError::Corrupt { .. })),
        "{damaged:?}"
    );
    store
        .put(bytes.clone())
        .await
        .expect("put what was damaged");
    assert_eq!(store.get(&hash).await.expect("get what was mended"), bytes);
}
