//! Dependencies point one way: `tidemill → {api, console} → cycle → stages → store → core` (ARCHITECTURE.md). This test
//! walks `cargo metadata` and the sources, and fails on an arrow that points the wrong way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates by layer, lowest first. A crate may depend on crates of lower layers.
const LAYERS: &[&[&str]] = &[
    &["core"],
    &["store"],
    &[
        "collect", "features", "learn", "evaluate", "serve", "monitor",
    ],
    &["cycle"],
    &["api", "console"],
    &["tidemill"],
    &["bench"],
];

/// Arrows between stages: only where data really flows, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    (
        "serve",
        "features",
        "a prediction looks features up with the engine that made the training rows",
    ),
    (
        "serve",
        "learn",
        "a version in memory is a model that a learner made",
    ),
    (
        "monitor",
        "features",
        "drift and skew compare features, and outcomes are targets",
    ),
    (
        "monitor",
        "evaluate",
        "live quality is measured with the metrics of the gate",
    ),
];

/// Crates that compute and nothing else: data in, result out. They see the vocabulary and no other crate of ours.
const PURE: &[&str] = &["core", "learn", "evaluate"];

/// What a pure crate does not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "tokio::",
    "fs::",
    "thread::",
];

/// Modules of `store` that are backends, and the crates below them. Only `store` and `tidemill` know them.
const BACKENDS: &[&str] = &["fjall_store", "sqlite", "delta", "local"];
const BACKEND_CRATES: &[&str] = &["fjall", "sqlx", "deltalake-core"];

#[test]
fn dependencies_point_down() {
    let packages = packages();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for package in &packages {
        for dependency in &package.dependencies {
            let Some(target) = our_name(&dependency.name) else {
                continue;
            };
            if dependency.for_tests {
                if layer(target) > layer(&package.name) {
                    wrong.push(format!("the tests of {} → {target} point up", package.name));
                }
                continue;
            }
            let sideways = SIDEWAYS
                .iter()
                .find(|(from, to, _)| *from == package.name && *to == target);
            if let Some(arrow) = sideways {
                used.insert(arrow);
            } else if layer(target) >= layer(&package.name) {
                wrong.push(format!("{} → {target} points the wrong way", package.name));
            } else if PURE.contains(&package.name.as_str()) && target != "core" {
                wrong.push(format!(
                    "{} → {target}: {} is pure and sees core only",
                    package.name, package.name
                ));
            }
        }
    }
    for arrow in SIDEWAYS.iter().filter(|arrow| !used.contains(arrow)) {
        wrong.push(format!(
            "{} → {} is allowed and not there any more: take it off the list",
            arrow.0, arrow.1
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_has_its_layer_and_the_lints_of_the_workspace() {
    let mut wrong = Vec::new();
    for package in packages() {
        if !LAYERS.concat().contains(&package.name.as_str()) {
            wrong.push(format!("{} has no layer in this test", package.name));
        }
        let manifest = read(&package.folder.join("Cargo.toml"));
        let manifest: toml::Table = toml::from_str(&manifest).expect("a manifest");
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        if inherits != Some(true) {
            wrong.push(format!(
                "{}: [lints] workspace = true is absent",
                package.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_binary_names_backends() {
    let mut wrong = Vec::new();
    for package in packages() {
        if ["store", "tidemill"].contains(&package.name.as_str()) {
            continue;
        }
        for dependency in &package.dependencies {
            if BACKEND_CRATES.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} depends on {}", package.name, dependency.name));
            }
        }
        for (path, code) in sources(&package.folder) {
            for line in code.lines().filter(|line| names_backend(line)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_know_no_files_sockets_or_threads() {
    let mut wrong = Vec::new();
    for package in packages() {
        if !PURE.contains(&package.name.as_str()) {
            continue;
        }
        for (path, code) in sources(&package.folder) {
            for line in code.lines() {
                if IMPURE.iter().any(|name| mentions(line, name)) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rules above are only as good as these two: a rule that never matches never fails.
#[test]
fn the_rules_match_what_they_forbid() {
    assert!(names_backend(
        "use tidemill_store::fjall_store::FjallStore;"
    ));
    assert!(names_backend("let lake = store::delta::DeltaLake::open();"));
    assert!(names_backend("use tidemill_store::{Lake, sqlite};"));
    assert!(!names_backend("use tidemill_store::{Lake, StoreError};"));
    assert!(!names_backend("let delta = newer - older;"));
    assert!(mentions("let file = std::fs::read(path)?;", "std::fs"));
    assert!(mentions("    thread::spawn(work);", "thread::"));
    assert!(!mentions("let threads = 2;", "thread::"));
    let code = "use a;\n// std::fs\n#[cfg(test)]\nmod memory;\nuse b; // tokio::\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(
        program_text(code),
        "use a;\n\nuse b; \n",
        "comments and tests are no part of the program"
    );
}

/// Whether a line names a backend of `store`: as a path, or in the braces of an import from it.
/// The rows of docs/rules-of-ml.md: number, how, where.
fn rules() -> Vec<(usize, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = read(&root.join("docs/rules-of-ml.md"));
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = cells.get(1)?.parse().ok()?;
        Some((number, cells.get(3)?.to_string(), cells.get(5)?.to_string()))
    });
    rows.collect()
}

#[test]
fn the_page_of_rules_points_at_what_there_is() {
    let rules = rules();
    let numbers: Vec<usize> = rules.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, (1..=43).collect::<Vec<_>>());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (number, how, shown) in rules {
        if how == "open" {
            assert_eq!(shown, "", "rule {number}");
            continue;
        }
        let known = ["enforced", "embodied", "reported", "guidance"];
        assert!(known.contains(&how.as_str()), "rule {number}: {how}");
        let pointer = shown.trim_matches('`');
        let (path, test) = match pointer.split_once('#') {
            Some((path, test)) => (path, Some(test)),
            None => (pointer, None),
        };
        let file = root.join(path);
        assert!(file.is_file(), "rule {number}: there is no {path}");
        if let Some(test) = test {
            let is_there = read(&file).contains(&format!("fn {test}("));
            assert!(is_there, "rule {number}: {path} has no test {test}");
        }
    }
}

fn names_backend(line: &str) -> bool {
    BACKENDS.iter().any(|backend| {
        mentions(line, &format!("store::{backend}"))
            || (line.contains("tidemill_store::{") && mentions(line, backend))
    })
}

/// Whether a line contains a name that is not the end of a longer word.
fn mentions(line: &str, name: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(name).any(|(start, _)| {
        let after = line[start + name.len()..].chars().next();
        let ends = name.ends_with(':') || !after.is_some_and(is_word);
        // `store::delta` is also the end of `tidemill_store::delta`
        let begins = name.starts_with("store::") || !line[..start].ends_with(is_word);
        begins && ends
    })
}

/// A package of the workspace.
struct Package {
    /// The name without `tidemill-`.
    name: String,
    folder: PathBuf,
    dependencies: Vec<Dependency>,
}

/// An arrow from a package to a crate, ours or not.
struct Dependency {
    name: String,
    /// Only the tests have it. They may use what stands beside them, and nothing above.
    for_tests: bool,
}

/// The name of one of our crates without `tidemill-`; nothing for the crates of others.
fn our_name(name: &str) -> Option<&str> {
    match name {
        "tidemill" => Some(name),
        _ => name.strip_prefix("tidemill-"),
    }
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo metadata");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON from cargo metadata");
    let packages: Vec<Package> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(package)
        .collect();
    assert!(packages.len() > 2, "the workspace was not found");
    packages
}

fn package(package: &Value) -> Package {
    let name = package["name"].as_str().expect("a name");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    Package {
        name: our_name(name)
            .unwrap_or_else(|| panic!("{name} is not named tidemill-…"))
            .to_owned(),
        folder: manifest
            .parent()
            .expect("the folder of a manifest")
            .to_owned(),
        dependencies: package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .map(|dependency| Dependency {
                name: dependency["name"].as_str().expect("a name").to_owned(),
                for_tests: dependency["kind"] == "dev",
            })
            .collect(),
    }
}

/// The source files of a crate, without comments and without unit tests.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry of a source folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.file_stem().is_none_or(|stem| stem != "tests")
            {
                let code = program_text(&read(&path));
                files.push((path, code));
            }
        }
    }
    files
}

/// The code without comments and without unit tests: those in the file stand last, and those in a file of their own are
/// declared on one line.
fn program_text(code: &str) -> String {
    let mut text = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            if lines.next().is_some_and(|next| next.ends_with(';')) {
                continue;
            }
            break;
        }
        text.push_str(line.split("//").next().unwrap_or_default());
        text.push('\n');
    }
    text
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
