//! `sql`: questions over the project's tables.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::SqlArgs;
use crate::client::Client;
use crate::output::{Output, table};

/// How many characters of a cell a line for people shows.
const CELL_SHOWN: usize = 60;

/// Answers a question, or lists the tables.
pub async fn run(client: &Client, args: &SqlArgs, output: Output) -> Result<()> {
    let Some(sql) = &args.sql else {
        let tables = client.get("/v1/sql").await?;
        output.result(&tables, describe);
        return Ok(());
    };
    let answer = client.post("/v1/sql", &json!({ "sql": sql })).await?;
    if args.csv {
        output.text(as_csv(&answer)?.trim_end());
    } else {
        output.result(&answer, show);
    }
    if answer["more"] == true {
        eprintln!(
            "there are more rows: a LIMIT, a filter or fewer groups bring all of what you want"
        );
    }
    Ok(())
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn names(answer: &Value) -> Vec<&str> {
    let columns = list(answer, "columns").iter();
    columns
        .map(|column| column["name"].as_str().unwrap_or(""))
        .collect()
}

fn describe(tables: &Value) -> String {
    let tables = list(tables, "tables");
    if tables.is_empty() {
        return "there are no tables yet: they come with the first events".to_owned();
    }
    let lines = tables.iter().map(|table| {
        let columns = list(table, "columns").iter().map(|column| {
            let text = |field: &str| column[field].as_str().unwrap_or("").to_owned();
            format!("  {}  {}", text("name"), text("kind"))
        });
        let columns: Vec<String> = columns.collect();
        format!(
            "{}\n{}",
            table["name"].as_str().unwrap_or(""),
            columns.join("\n")
        )
    });
    lines.collect::<Vec<_>>().join("\n\n")
}

fn show(answer: &Value) -> String {
    let rows = list(answer, "rows").iter().map(|row| {
        let cells = row.as_array().map_or(&[][..], Vec::as_slice).iter();
        cells
            .map(|cell| {
                let text = cell.as_str().unwrap_or("–").replace('\n', " ");
                let short: String = text.chars().take(CELL_SHOWN).collect();
                if short.len() < text.len() {
                    format!("{short}…")
                } else {
                    short
                }
            })
            .collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let count = match rows.len() {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    format!("{}\n\n{count}", table(&names(answer), &rows))
}

fn as_csv(answer: &Value) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(names(answer))?;
    for row in list(answer, "rows") {
        let cells = row.as_array().map_or(&[][..], Vec::as_slice).iter();
        writer.write_record(cells.map(|cell| cell.as_str().unwrap_or("")))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
