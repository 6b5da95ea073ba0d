//! A backup beside the server that has the data folder open: the server makes a copy of its stores as they were at one moment, in the data
//! folder, and this process takes it elsewhere.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tidemill_core::Timestamp;
use tidemill_store::moment::Taker;
use tidemill_store::sqlite::SqliteCatalog;

use super::{LEFT_OUT, Manifest, Source, check_target, copy, note};
use crate::client::Client;
use crate::node;

/// What the server copies, and what its stores have beside their files for a while.
const STORES: [&str; 9] = [
    "log",
    "state",
    "lake",
    "artifacts",
    "catalog.sqlite",
    "catalog.sqlite-wal",
    "catalog.sqlite-shm",
    "log.probe",
    "state.probe",
];

/// What the server says of its copy.
#[derive(Debug, Deserialize)]
struct Begun {
    at: Timestamp,
}

/// Makes the backup of a data folder that a server has open.
pub(super) async fn run(data: &Path, to: &Path) -> Result<Manifest> {
    check_target(data, to)?;
    let Some(taker) = Taker::begin(data)? else {
        bail!(
            "another `tidemill backup` is at work on {}: wait for it",
            data.display()
        );
    };
    let at = ask(data).await?;
    let left_out = [&LEFT_OUT[..], &STORES].concat();
    let sources = [
        Source::of(taker.moment(), &[])?,
        Source::of(data, &left_out)?,
    ];
    let manifest = copy(&sources, to, at)?;
    let catalog = SqliteCatalog::open_beside(&data.join("catalog.sqlite")).await?;
    note(data, &catalog, to, &manifest).await?;
    Ok(manifest)
}

/// Asks the server for the copy, with the key of any project that it serves.
async fn ask(data: &Path) -> Result<Timestamp> {
    let mut refused = None;
    for project in node::local_projects(data) {
        let client = Client::beside(data, project)?;
        match client.post("/v1/backup", &serde_json::Value::Null).await {
            Ok(begun) => {
                let begun: Begun = serde_json::from_value(begun).context("read the answer")?;
                return Ok(begun.at);
            }
            // the data folder may have projects that are not served
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(error),
        None => bail!("{} has no project", data.display()),
    }
}
