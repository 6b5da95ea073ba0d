//! What a run leaves behind: every raw number as JSON, and a page for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::machine::Machine;

/// The result of one benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Names the files.
    pub(crate) name: &'static str,
    /// What was measured, in a sentence or two.
    pub(crate) about: String,
    /// The command line that repeats it.
    pub(crate) command: String,
    /// On what.
    pub(crate) machine: Machine,
    /// With which settings.
    pub(crate) settings: Value,
    /// One row a measurement, in the order in which they were made.
    pub(crate) raw: Vec<Value>,
    /// The table of the page.
    #[serde(skip)]
    pub(crate) table: Table,
    /// What the table shows, for programs.
    pub(crate) summary: Value,
}

/// A table with a heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The heads of the columns.
    pub(crate) columns: Vec<&'static str>,
    /// The cells.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Report {
    /// Writes `NAME.json` and `NAME.md` into a folder and prints the page.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let page = self.page();
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(folder.join(self.name).with_extension("json"), json)?;
        std::fs::write(folder.join(self.name).with_extension("md"), &page)?;
        println!("{page}");
        Ok(())
    }

    fn page(&self) -> String {
        let machine = &self.machine;
        let mut page = format!(
            "# {}\n\n{}\n\n{}",
            self.name,
            self.about,
            self.table.markdown()
        );
        // writing to a String cannot fail
        let _ = write!(
            page,
            "\nMeasured on {} cores of {}, {} GiB, Linux {}; appending and syncing 4 KiB takes {} µs there (median); load \
             before the start: {}. Source: {}. Raw numbers: `{}.json`.\n\n```sh\n{}\n```\n",
            machine.cores,
            machine.processor,
            machine.memory_gib,
            machine.kernel,
            machine.sync_4k_us,
            machine.load_before,
            machine.revision,
            self.name,
            self.command
        );
        page
    }
}

impl Table {
    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let heads: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        let rules: Vec<String> = (0..heads.len())
            .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        let mut text = line(&heads) + &line(&rules);
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

/// A number for people: thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 {
        text.insert(0, '-');
    }
    text
}

/// The command line that this program was started with, without folders.
pub(crate) fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "cargo build --release && cargo run --release -p tidemill-bench -- {}",
        arguments.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(-1_234_567.0), "-1,234,567");
    }

    #[test]
    fn tables() {
        let table = Table {
            columns: vec!["what", "n"],
            rows: vec![vec!["a".to_owned(), "1".to_owned()]],
        };
        assert_eq!(
            table.markdown(),
            "| what | n |\n| --- | ---: |\n| a | 1 |\n"
        );
    }
}
