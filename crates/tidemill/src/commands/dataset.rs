//! `dataset`: build, show, diff, export.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::dataset_text as text;
use super::target_file::TargetFile;
use crate::cli::DatasetCommand;
use crate::client::Client;
use crate::output::{Output, thousands};

/// The datasets that are listed.
const LISTED: u32 = 20;

/// Carries out a subcommand.
pub async fn run(client: &Client, command: &DatasetCommand, output: Output) -> Result<()> {
    match command {
        DatasetCommand::Build { model, again, .. } => build(client, model, *again, output).await,
        DatasetCommand::Show { dataset, .. } => show(client, dataset, output).await,
        DatasetCommand::Explain { dataset, .. } => explain(client, dataset, output).await,
        DatasetCommand::Diff { model, a, b, .. } => diff(client, model, (*a, *b), output).await,
        DatasetCommand::Export {
            model,
            version,
            to,
            overwrite,
            ..
        } => export(client, model, *version, (to, *overwrite), output).await,
    }
}

async fn build(client: &Client, model: &str, again: Option<u64>, output: Output) -> Result<()> {
    let spinner = spinner(format!("building the dataset of {model}"));
    let again = again.map_or_else(String::new, |again| format!("&again={again}"));
    let path = format!("/v1/models/{model}/datasets?wait=true{again}");
    let built = client.post(&path, &json!({})).await;
    spinner.finish_and_clear();
    let built = built?;
    output.result(&built, |built| {
        let called = format!("{model}@{}", built["version"]);
        let mut told = format!("{}\n\n{}", text::heading(&called, built), text::stages(built, None));
        if let Some(same) = built["identical"].as_bool() {
            let again = &built["again"];
            let said = if same {
                format!("the rows are those of {model}@{again}, bit for bit")
            } else {
                format!(
                    "the rows are not those of {model}@{again}: a person may have been erased since then, or another \
                     version of tidemill built them"
                )
            };
            told = format!("{told}\n\n{said}");
        }
        format!("{told}\n\ntidemill dataset show {called} says more; tidemill dataset export {model} --to FILE.parquet writes it")
    });
    Ok(())
}

/// `will_return@3` as its parts.
fn parts(dataset: &str) -> Result<(&str, Option<u64>)> {
    let Some((model, version)) = dataset.split_once('@') else {
        return Ok((dataset, None));
    };
    let version = version.parse().ok();
    match version {
        Some(version) => Ok((model, Some(version))),
        None => bail!("'{dataset}' is not a dataset: write it like {model}@3"),
    }
}

/// The newest dataset of a model.
fn newest(model: &str, list: &Value) -> Result<u64> {
    let version = list["datasets"][0]["version"].as_u64();
    version.with_context(|| {
        format!(
            "{model} has no dataset yet\n  `tidemill dataset build {model}` builds one; every training does too"
        )
    })
}

/// The version that `will_return@3` or `will_return` names: the newest in the second case.
async fn version_of<'d>(client: &Client, dataset: &'d str) -> Result<(&'d str, u64)> {
    let (model, version) = parts(dataset)?;
    if let Some(version) = version {
        return Ok((model, version));
    }
    let list = client
        .get(&format!("/v1/models/{model}/datasets?limit=1"))
        .await?;
    Ok((model, newest(model, &list)?))
}

async fn explain(client: &Client, dataset: &str, output: Output) -> Result<()> {
    let (model, version) = version_of(client, dataset).await?;
    let kept = client
        .get(&format!("/v1/models/{model}/datasets/{version}"))
        .await?;
    let Some(plan) = kept["plan"].as_str() else {
        bail!(
            "{model}@{version} was built before plans were kept\n  `tidemill dataset build {model} --again {version}` \
             builds it again, with its plan"
        );
    };
    let explained = json!({ "dataset": format!("{model}@{version}"), "plan": plan });
    output.result(&explained, |_| text::plan(plan));
    Ok(())
}

async fn show(client: &Client, dataset: &str, output: Output) -> Result<()> {
    let (model, version) = parts(dataset)?;
    let list = client
        .get(&format!("/v1/models/{model}/datasets?limit={LISTED}"))
        .await?;
    let shown = match version {
        Some(version) => version,
        None => newest(model, &list)?,
    };
    let mut kept = client
        .get(&format!("/v1/models/{model}/datasets/{shown}"))
        .await?;
    let run = match kept["run"].as_str() {
        Some(id) => client
            .get(&format!("/v1/models/{model}/runs/{id}"))
            .await
            .ok(),
        None => None,
    };
    let divided = run.map(|run| run["detail"]["parts"].clone());
    if let (Some(divided), Some(kept)) = (&divided, kept.as_object_mut()) {
        kept.insert("parts".to_owned(), divided.clone());
    }
    output.result(&kept, |kept| {
        let called = format!("{model}@{shown}");
        let mut told = vec![
            text::heading(&called, kept),
            text::stages(kept, divided.as_ref()),
            text::target(kept),
            text::leaks(kept),
            text::columns(kept),
        ];
        if version.is_none() {
            told.push(text::list(&list));
        }
        told.retain(|part| !part.is_empty());
        told.join("\n\n")
    });
    Ok(())
}

async fn diff(client: &Client, model: &str, (a, b): (u64, u64), output: Output) -> Result<()> {
    let diff = client
        .get(&format!("/v1/models/{model}/datasets/{a}/diff/{b}"))
        .await?;
    output.result(&diff, |diff| {
        text::diff(&format!("{model}@{a}"), &format!("{model}@{b}"), diff)
    });
    Ok(())
}

async fn export(
    client: &Client,
    model: &str,
    version: Option<u64>,
    (to, overwrite): (&PathBuf, bool),
    output: Output,
) -> Result<()> {
    let file = TargetFile::new(to, overwrite)?;
    let format = file.format.as_str();
    let version = match version {
        Some(version) => version,
        None => version_of(client, model).await?.1,
    };
    let kept = client
        .get(&format!("/v1/models/{model}/datasets/{version}"))
        .await?;
    let path = format!("/v1/models/{model}/datasets/{version}/rows?format={format}");
    let bytes = download(client, &path, file).await?;
    let rows = kept["record"]["rows"].as_u64().unwrap_or(0);
    let result = json!({
        "dataset": format!("{model}@{version}"), "file": to, "format": format, "rows": rows, "bytes": bytes,
    });
    output.result(&result, |_| {
        format!(
            "{}: {} rows of {model}@{version}, {} bytes",
            to.display(),
            thousands(rows),
            thousands(bytes)
        )
    });
    Ok(())
}

/// Writes an answer to a file. Returns its bytes.
async fn download(client: &Client, path: &str, target: TargetFile) -> Result<u64> {
    let spinner = spinner("writing the rows".to_owned());
    let mut file = Counted {
        file: BufWriter::new(target.create()?),
        bytes: 0,
        shown: &spinner,
    };
    let mut written = client.download(path, &mut file).await;
    if written.is_ok() {
        written = file.flush().context("write the file");
    }
    spinner.finish_and_clear();
    written?;
    target.finish()
}

/// A file that shows how far it is.
struct Counted<'s> {
    file: BufWriter<File>,
    bytes: u64,
    shown: &'s ProgressBar,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.shown.set_position(self.bytes);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Shows on a terminal that something is under way.
pub(super) fn spinner(message: String) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bytes} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_like_versions() {
        assert_eq!(parts("will_return").unwrap(), ("will_return", None));
        assert_eq!(parts("will_return@3").unwrap(), ("will_return", Some(3)));
        let error = parts("will_return@new").unwrap_err().to_string();
        assert!(error.contains("will_return@3"), "{error}");
    }
}
