//! Ask: questions in SQL over the project's tables, with the tables beside them and the answer as rows, a picture or a file.

use axum::extract::Query;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use csv::{QuoteStyle, Terminator, WriterBuilder};
use tidemill_core::notation::{percent_encoded, thousands};
use tidemill_store::query::{QueryAnswer, QueryError, QueryLimits, QueryTable};

use crate::chart;
use crate::html::{Html, html};
use crate::layout::{Page, Section};
use crate::parts::{NOTHING, Table, number, section};
use crate::problem::Problem;
use crate::visit::{Form, Visit};

/// How many rows a page shows; the file has all.
const SHOWN: usize = 500;
/// The most bars that can be told apart.
const BARS_MAX: usize = 120;
/// The longest question, in bytes: it is a part of the page's address, so that it can be kept and sent.
const SQL_BYTES_MAX: usize = 6_000;

/// What people ask first: a name, and how it is asked.
const EXAMPLES: [(&str, &str, &str); 4] = [
    (
        "events",
        "Events by kind",
        "SELECT name, count(*) AS events, count(DISTINCT user_id) AS people\nFROM events\nGROUP BY name\nORDER BY events DESC",
    ),
    (
        "events",
        "Events a day",
        "SELECT date, count(*) AS events\nFROM events\nGROUP BY date\nORDER BY date DESC\nLIMIT 60",
    ),
    (
        "decisions",
        "Answers by version",
        "SELECT model, version, count(*) AS answers, avg(score) AS mean_score, avg(latency_us) / 1000.0 AS mean_ms\nFROM decisions\nGROUP BY model, version\nORDER BY model, version",
    ),
    (
        "outcomes",
        "What was said, and what came",
        "SELECT model, round(score, 1) AS said, avg(value) AS came, count(*) AS answers\nFROM outcomes\nGROUP BY model, said\nORDER BY model, said",
    ),
];

/// The page, with the answer where something is asked.
pub(crate) async fn page(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let tables = visit.project.query_tables().await?;
    let sql = query.get("sql").map_or("", |sql| sql.trim());
    let answer = if sql.is_empty() {
        Html::default()
    } else {
        match ask(&visit, sql).await? {
            Ok(answer) => shown(&visit, sql, &answer),
            Err(why) => html!("<p class=\"error\" role=\"alert\">{}</p>", why),
        }
    };
    let body = html!(
        "<form class=\"asked\" method=\"get\"><label>SQL <span class=\"quiet\">(nothing can be changed; at most {rows} rows and {seconds} s)</span><textarea name=\"sql\" rows=\"8\" spellcheck=\"false\" autocapitalize=\"off\" required data-run>{sql}</textarea></label><div class=\"actions\"><button class=\"button main\">Run</button><span class=\"quiet\">or <kbd>Ctrl Enter</kbd></span></div></form>{examples}{answer}{tables}",
        rows = thousands(QueryLimits::default().rows_max as u64),
        seconds = QueryLimits::default().time_max.as_secs(),
        sql = sql,
        examples = examples(&visit, &tables),
        answer = answer,
        tables = section(
            "Tables",
            "What has landed, in UTC. Names that SQL uses itself, like offset, stand in double quotes. properties ->> 'key' takes a value out of JSON.",
            &described(&tables),
        ),
    );
    visit.page(&Page::new(Section::Ask, "Ask", body))
}

/// The same answer as a file.
pub(crate) async fn csv(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let sql = query.get("sql").map_or("", |sql| sql.trim());
    let answer = ask(&visit, sql).await?.map_err(Problem::bad)?;
    let file = written(&answer).map_err(|error| Problem::failed(&error))?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"answer.csv\"",
        ),
    ];
    Ok((headers, file).into_response())
}

fn written(answer: &QueryAnswer) -> Result<Vec<u8>, csv::Error> {
    let mut file = WriterBuilder::new()
        .quote_style(QuoteStyle::Always)
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    file.write_record(answer.columns.iter().map(|column| guarded(&column.name)))?;
    for row in &answer.rows {
        let cells = row.iter().map(Option::as_deref);
        file.write_record(cells.map(|cell| guarded(cell.unwrap_or_default())))?;
    }
    file.into_inner().map_err(|error| error.into_error().into())
}

/// What begins like a formula is text for spreadsheets too.
fn guarded(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '@', '\t']) {
        "'"
    } else {
        ""
    };
    format!("{guard}{cell}")
}

/// The answer, or what is wrong with the question.
async fn ask(visit: &Visit, sql: &str) -> Result<Result<QueryAnswer, String>, Problem> {
    if sql.len() > SQL_BYTES_MAX {
        return Ok(Err(format!(
            "A question has at most {SQL_BYTES_MAX} bytes."
        )));
    }
    match visit.project.query(sql, &QueryLimits::default()).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(QueryError::Store(error)) => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn path(visit: &Visit, page: &str, sql: &str) -> String {
    format!("{}?sql={}", visit.path(page), percent_encoded(sql))
}

fn examples(visit: &Visit, tables: &[QueryTable]) -> Html {
    let there = EXAMPLES
        .iter()
        .filter(|(of, ..)| tables.iter().any(|table| table.name == *of));
    let links = there.map(|(_, name, sql)| {
        html!(
            "<a class=\"button\" href=\"{}\">{}</a>",
            path(visit, "/ask", sql),
            *name
        )
    });
    html!("<div class=\"actions\">{}</div>", links.collect::<Html>())
}

fn shown(visit: &Visit, sql: &str, answer: &QueryAnswer) -> Html {
    let columns = answer.columns.iter().map(|column| {
        let mark = if column.is_number { "#" } else { "" };
        format!("{mark}{}", column.name)
    });
    let mut table = Table::of("answer", columns.collect());
    for row in answer.rows.iter().take(SHOWN) {
        let cells = row
            .iter()
            .map(|cell| html!("{}", cell.as_deref().unwrap_or(NOTHING)));
        table.add(cells.collect());
    }
    let rows = match (answer.rows.len(), answer.more) {
        (1, _) => "1 row".to_owned(),
        (rows, false) => format!("{} rows", thousands(rows as u64)),
        (rows, true) => format!(
            "the first {} rows, and there are more",
            thousands(rows as u64)
        ),
    };
    let left_off = if answer.rows.len() > SHOWN {
        format!(", of which {SHOWN} are shown")
    } else {
        String::new()
    };
    let file = html!(
        "<p class=\"quiet\">{}{}. <a href=\"{}\" download>All of them as CSV</a></p>",
        rows,
        left_off,
        path(visit, "/ask.csv", sql)
    );
    let empty =
        html!("<p><strong>No rows</strong></p><p>The question is right, and nothing fits it.</p>");
    section(
        "Answer",
        "",
        &html!("{}{}{}", picture(answer), file, table.or(&empty)),
    )
}

/// The last column of numbers over the first column, where that can be seen at a glance.
fn picture(answer: &QueryAnswer) -> Html {
    let of_rows = (2..=BARS_MAX).contains(&answer.rows.len());
    let heights = answer.columns.iter().rposition(|column| column.is_number);
    let (Some(heights @ 1..), true) = (heights, of_rows) else {
        return Html::default();
    };
    let bars = answer.rows.iter().map(|row| {
        let cell = |place: usize| row.get(place).and_then(Option::as_deref);
        let value = cell(heights).and_then(|text| text.parse::<f64>().ok());
        (
            cell(0).unwrap_or(NOTHING).to_owned(),
            value.unwrap_or_default(),
        )
    });
    let bars: Vec<_> = bars.collect();
    let name = format!(
        "{} by {}",
        answer.columns[heights].name, answer.columns[0].name
    );
    chart::bars(&name, &answer.columns[0].name, &bars)
}

fn described(tables: &[QueryTable]) -> Html {
    let all = tables.iter().map(|table| {
        let columns = table.columns.iter().map(|column| {
            html!("<li><code>{}</code> <span class=\"quiet\">{}</span></li>", column.name, column.kind)
        });
        html!(
            "<details class=\"numbers\"><summary>{} <span class=\"quiet\">{} columns</span></summary><ul>{}</ul></details>",
            table.name,
            number(table.columns.len() as f64),
            columns.collect::<Html>()
        )
    });
    let all: Html = all.collect();
    if all.is_empty() {
        html!(
            "<div class=\"empty\"><p><strong>No tables yet</strong></p><p>They come with the first events.</p></div>"
        )
    } else {
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_store::query::QueryColumn;

    #[test]
    fn cells_of_files_are_quoted() {
        let column = |name: &str| QueryColumn {
            name: name.to_owned(),
            kind: "text".to_owned(),
            is_number: false,
        };
        let row = ["=1+1", "-3"].map(|cell| Some(cell.to_owned()));
        let answer = QueryAnswer {
            columns: vec![column("a\"b"), column("")],
            rows: vec![row.to_vec(), vec![None, Some("x".to_owned())]],
            more: false,
        };
        let file = String::from_utf8(written(&answer).unwrap()).unwrap();
        assert_eq!(
            file,
            "\"a\"\"b\",\"\"\r\n\"'=1+1\",\"-3\"\r\n\"\",\"x\"\r\n"
        );
    }
}
