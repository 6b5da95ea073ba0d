//! The data that lie beside the checkout.

use std::path::{Path, PathBuf};

/// The text of a file in the data folder, which lies beside the checkout or above it. Without the folder the test is
/// skipped by name, or fails when `TIDEMILL_REQUIRE_ALL` is set.
pub(crate) fn data(test: &str, path: &str) -> Option<String> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .flat_map(|folder| {
            [
                folder.join("data"),
                folder.join("shared/data"),
                folder.join("../shared/data"),
            ]
        })
        .map(|folder: PathBuf| folder.join(path))
        .find(|file| file.exists());
    let Some(file) = found else {
        assert!(
            std::env::var_os("TIDEMILL_REQUIRE_ALL").is_none(),
            "{test} needs shared/data/{path}"
        );
        println!("skipped: {test}, as there is no shared/data/{path}");
        return None;
    };
    let packed = std::fs::File::open(file).unwrap();
    Some(String::from_utf8(zstd::decode_all(packed).unwrap()).unwrap())
}
