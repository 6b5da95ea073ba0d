//! Pieces that many pages are made of: numbers, times, states, tables.

use tidemill_core::decision::Fallback;
use tidemill_core::feature::{FeatureValue, Unit};
use tidemill_core::notation::thousands;
use tidemill_core::{Span, Timestamp};

use crate::html::{Html, html};

/// What stands where there is no value.
pub(crate) const NOTHING: &str = "–";

/// A number with as many digits as tell something.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        NOTHING.to_owned()
    } else if value == 0.0 {
        "0".to_owned()
    } else if size < 0.000_000_5 {
        "≈ 0".to_owned()
    } else if size >= 10_000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        format!("{sign}{}", thousands(size.round() as u64))
    } else {
        let decimals = match size {
            1_000.0.. => 0,
            100.0.. => 1,
            10.0.. => 2,
            0.001.. => 3,
            _ => 6,
        };
        let text = format!("{value:.decimals$}").replace('-', "−");
        if text.contains('.') && value.fract() == 0.0 {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

/// A number that may be absent.
pub(crate) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), number)
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    let written = format!("{:.1} %", share * 100.0).replace('-', "−");
    written.replace(".0 %", " %")
}

/// Low and high.
pub(crate) fn interval(of: Option<(f64, f64)>) -> Html {
    of.map_or_else(Html::default, |(low, high)| {
        html!(
            "<span class=\"quiet\">{} to {}</span>",
            number(low),
            number(high)
        )
    })
}

/// An instant, exact on hover; the script shows it in the zone of whoever looks.
pub(crate) fn time(at: Timestamp) -> Html {
    let exact = at.to_string();
    let short = exact.get(..16).unwrap_or(&exact).replace('T', " ");
    html!(
        "<time datetime=\"{exact}\" title=\"{exact}\">{short} UTC</time>",
        exact = exact,
        short = short
    )
}

/// A length of time with as many units as tell something.
pub(crate) fn lasting(span: Span) -> String {
    let seconds = span.seconds().max(0.0) as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match (hours, minutes) {
        (48.., _) => format!("{} days", hours / 24),
        (1.., _) if minutes % 60 == 0 => format!("{hours} h"),
        (1.., _) => format!("{hours} h {} min", minutes % 60),
        (0, 1..) => format!("{minutes} min"),
        (0, 0) => format!("{seconds} s"),
    }
}

/// A number of bytes in the unit that is read best.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(power, _)| bytes >> power > 0);
    match unit {
        Some((power, unit)) => format!("{} {unit}", number(bytes as f64 / (1_u64 << power) as f64)),
        None => format!("{bytes} B"),
    }
}

/// A time in milliseconds.
pub(crate) fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or_else(|| NOTHING.to_owned(), |ms| format!("{} ms", number(ms)))
}

/// A feature's value.
pub(crate) fn value(of: &FeatureValue) -> String {
    match of {
        FeatureValue::Missing => NOTHING.to_owned(),
        FeatureValue::Number(number) => self::number(*number),
        FeatureValue::Category(text) => text.to_string(),
    }
}

/// A feature's value as its unit has it.
pub(crate) fn value_in(unit: Unit, of: &FeatureValue) -> String {
    match (unit, of) {
        (Unit::SecondsAgo, FeatureValue::Number(seconds)) => {
            format!("{} days ago", number((seconds / 8_640.0).round() / 10.0))
        }
        _ => value(of),
    }
}

/// How good a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warning,
    Quiet,
}

/// A state in a word; its sign tells the same as its colour.
pub(crate) fn state(tone: Tone, word: &str) -> Html {
    let (class, sign) = match tone {
        Tone::Good => ("good", "●"),
        Tone::Bad => ("bad", "▲"),
        Tone::Warning => ("warning", "◆"),
        Tone::Quiet => ("plain", "○"),
    };
    html!(
        "<span class=\"state {}\"><span aria-hidden=\"true\">{}</span> {}</span>",
        class,
        sign,
        word
    )
}

/// Why a fallback answered, in words.
pub(crate) fn fallback(why: Fallback) -> &'static str {
    match why {
        Fallback::NoVersion => "fallback: no version has passed the gate",
        Fallback::UnknownEntity => "fallback: nothing was known of them",
        Fallback::VersionFailed => "fallback: the version failed",
        Fallback::Holdout => "holdout: they never get the model's answers",
    }
}

/// A table that can be taken along as CSV. Columns whose name begins with `#` are numbers.
pub(crate) struct Table {
    name: String,
    columns: Vec<String>,
    rows: Html,
    count: usize,
}

impl Table {
    pub(crate) fn new(name: impl Into<String>, columns: &[&str]) -> Self {
        Self::of(
            name,
            columns.iter().map(|name| (*name).to_owned()).collect(),
        )
    }

    /// One whose columns are known at the time only.
    pub(crate) fn of(name: impl Into<String>, columns: Vec<String>) -> Self {
        Self {
            name: name.into(),
            columns,
            rows: Html::default(),
            count: 0,
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Html; N]) {
        self.add(cells.into());
    }

    pub(crate) fn add(&mut self, cells: Vec<Html>) {
        let cells = cells.into_iter().zip(&self.columns).map(|(cell, column)| {
            let class = if column.starts_with('#') {
                " class=\"number\""
            } else {
                ""
            };
            html!("<td{}>{}</td>", Html::of(class.to_owned()), cell)
        });
        self.rows
            .push(&html!("<tr>{}</tr>", cells.collect::<Html>()));
        self.count += 1;
    }

    /// The table, or what is said instead where it has no rows.
    pub(crate) fn or(self, empty: &Html) -> Html {
        if self.count == 0 {
            return html!("<div class=\"empty\">{}</div>", empty);
        }
        self.show()
    }

    pub(crate) fn show(self) -> Html {
        let heads = self
            .columns
            .iter()
            .map(|column| match column.strip_prefix('#') {
                Some(name) => html!("<th scope=\"col\" class=\"number\">{}</th>", name),
                None => html!("<th scope=\"col\">{}</th>", column),
            });
        html!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table data-csv=\"{name}\"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>",
            name = self.name,
            heads = heads.collect::<Html>(),
            rows = self.rows,
        )
    }
}

/// A part of a page with a heading.
pub(crate) fn part(title: &str, body: &Html) -> Html {
    html!("<section><h2>{}</h2>{}</section>", title, body)
}

/// The same with a line that says what is to be seen.
pub(crate) fn part_about(title: &str, about: &str, body: &Html) -> Html {
    html!(
        "<section><h2>{}</h2><p class=\"about\">{}</p>{}</section>",
        title,
        about,
        body
    )
}

/// The same where there is something to be seen; nothing where not.
pub(crate) fn section(title: &str, about: &str, body: &Html) -> Html {
    if body.is_empty() {
        Html::default()
    } else {
        part_about(title, about, body)
    }
}

/// A figure with its name.
pub(crate) fn figure(name: &str, value: &Html, note: &Html) -> Html {
    html!(
        "<div class=\"figure\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
        name,
        value,
        note
    )
}

/// Figures beside each other.
pub(crate) fn figures(all: &Html) -> Html {
    html!("<dl class=\"figures\">{}</dl>", all)
}

/// Text as HTML.
pub(crate) fn text(text: impl AsRef<str>) -> Html {
    html!("{}", text.as_ref())
}

/// A link.
pub(crate) fn link(path: &str, name: &str) -> Html {
    html!("<a href=\"{}\">{}</a>", path, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, written) in [
            (0.0, "0"),
            (0.812_345, "0.812"),
            (-3.0, "−3"),
            (12.345, "12.35"),
            (1_234.5, "1234"),
            (1_234_567.0, "1,234,567"),
            (0.000_012, "0.000012"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), written, "{value}");
        }
        for (seconds, written) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min"),
            (3_600, "1 h"),
            (5_400, "1 h 30 min"),
            (100_000, "27 h 46 min"),
            (200_000, "2 days"),
        ] {
            assert_eq!(lasting(Span::from_seconds(seconds)), written, "{seconds}");
        }
        assert_eq!(size(900), "900 B");
        assert_eq!(size(5 << 20), "5 MiB");
        assert_eq!(size(1_610_612_736), "1.500 GiB");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(percent(1.0), "100 %");
    }
}
