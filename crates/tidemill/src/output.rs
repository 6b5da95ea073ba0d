//! What a command prints: text for people, JSON for scripts, never both.

use std::io::Write;

use serde_json::Value;

pub use tidemill_core::notation::thousands;

/// Where a command's results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Text, or JSON.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is wanted.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a line for people.
    pub fn text(self, line: &str) {
        if !self.json {
            print(line);
        }
    }

    /// Prints a value on one line for scripts.
    pub fn json_line(self, value: &Value) {
        if self.json {
            print(&value.to_string());
        }
    }

    /// Prints a whole result: as JSON, or as `text` makes of it.
    pub fn result(self, value: &Value, text: impl FnOnce(&Value) -> String) {
        if self.json {
            print(&value.to_string());
        } else {
            print(&text(value));
        }
    }
}

/// A closed pipe (`| head`) ends the output, not the command.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Rows as a table with aligned columns.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(541_909), "541,909");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn tables_are_aligned() {
        let text = table(
            &["model", "n"],
            &[
                vec!["a".into(), "10".into()],
                vec!["long name".into(), "1".into()],
            ],
        );
        assert_eq!(text, "model      n\na          10\nlong name  1");
    }
}
