//! Charts as SVG, drawn here: no script is needed to see them. The page has their numbers as a table too.

use crate::html::{Html, html};
use crate::parts::number;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 220.0;
/// Room for what is written at the axes.
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 12.0;

/// Where values lie in the picture.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Of all values, with zero if it is to be seen.
    fn of(values: impl Iterator<Item = f64>, with_zero: bool, from: f64, to: f64) -> Self {
        let start = if with_zero {
            (0.0, 0.0)
        } else {
            (f64::INFINITY, f64::NEG_INFINITY)
        };
        let (mut low, mut high) = values
            .filter(|value| value.is_finite())
            .fold(start, |(low, high): (f64, f64), value| {
                (low.min(value), high.max(value))
            });
        if !low.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        if with_zero && high - low < 1e-12 {
            high = low + 1.0;
        } else if high - low < 1e-12 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

fn coordinate(value: f64) -> Html {
    Html::of(format!("{value:.1}"))
}

/// The axes with their ends written on them.
fn axes(x: &Scale, y: &Scale, x_ends: [&str; 2], x_name: &str, y_name: &str) -> Html {
    let ticks = [0.0, 0.5, 1.0].map(|share| {
        let value = y.low + (y.high - y.low) * share;
        html!(
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/><text class=\"tick end\" x=\"{tick}\" y=\"{text}\">{value}</text>",
            left = coordinate(x.from),
            right = coordinate(x.to),
            y = coordinate(y.at(value)),
            tick = coordinate(x.from - 6.0),
            text = coordinate(y.at(value) + 4.0),
            value = number(value),
        )
    });
    html!(
        "{ticks}<text class=\"tick\" x=\"{left}\" y=\"{ends}\">{first}</text><text class=\"tick end\" x=\"{right}\" y=\"{ends}\">{last}</text><text class=\"name middle\" x=\"{middle}\" y=\"{names}\">{x_name}</text><title>{y_name} by {x_name}</title>",
        ticks = ticks.into_iter().collect::<Html>(),
        left = coordinate(x.from),
        right = coordinate(x.to),
        ends = coordinate(HEIGHT - BOTTOM + 16.0),
        first = x_ends[0],
        last = x_ends[1],
        middle = coordinate((x.from + x.to) / 2.0),
        names = coordinate(HEIGHT - 4.0),
        x_name = x_name,
        y_name = y_name,
    )
}

fn picture(name: &str, inside: &Html) -> Html {
    picture_with(name, inside, &Html::default())
}

fn picture_with(name: &str, inside: &Html, legend: &Html) -> Html {
    html!(
        "<figure class=\"chart\"><figcaption>{name}</figcaption><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\">{inside}</svg>{legend}</figure>",
        name = name,
        width = coordinate(WIDTH),
        height = coordinate(HEIGHT),
        inside = inside,
        legend = legend,
    )
}

/// Of shares from 0 to 1: a curve and what chance would give.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) x_name: &'a str,
    pub(crate) y_name: &'a str,
    pub(crate) points: &'a [(f64, f64)],
    /// From where to where chance leads.
    pub(crate) chance: [(f64, f64); 2],
    pub(crate) dots: bool,
}

impl Curve<'_> {
    pub(crate) fn show(&self) -> Html {
        let all = || self.points.iter().chain(&self.chance);
        let x = Scale::of(all().map(|point| point.0), true, LEFT, WIDTH - RIGHT);
        let y = Scale::of(all().map(|point| point.1), true, HEIGHT - BOTTOM, TOP);
        let line = |points: &[(f64, f64)]| {
            let written = points
                .iter()
                .map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1)));
            written.collect::<Vec<_>>().join(" ")
        };
        let dots = self.points.iter().filter(|_| self.dots).map(|point| {
            html!(
                "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"3\"><title>{}, {}</title></circle>",
                coordinate(x.at(point.0)),
                coordinate(y.at(point.1)),
                number(point.0),
                number(point.1)
            )
        });
        let inside = html!(
            "{axes}<polyline class=\"chance\" points=\"{chance}\"/><polyline class=\"line\" points=\"{line}\"/>{dots}",
            axes = axes(
                &x,
                &y,
                [&number(x.low), &number(x.high)],
                self.x_name,
                self.y_name
            ),
            chance = line(&self.chance),
            line = line(self.points),
            dots = dots.collect::<Html>(),
        );
        picture(self.name, &inside)
    }
}

/// A number over time, one place for each step; nothing where nothing is known.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: &'a [Option<f64>],
}

/// How lines are told apart, also without colours.
const LINES: [&str; 3] = ["line", "line second", "line third"];

/// Up to three lines over the same time, with what they are called.
pub(crate) fn lines(name: &str, x_name: &str, ends: [&str; 2], all: &[Line<'_>]) -> Html {
    let values = all.iter().flat_map(|line| line.values).flatten().copied();
    let y = Scale::of(values, true, HEIGHT - BOTTOM, TOP);
    let places = all.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let x = Scale {
        low: 0.0,
        high: (places.max(2) - 1) as f64,
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let drawn = all.iter().zip(LINES).map(|(line, class)| {
        let pieces = known(line.values).into_iter().map(|(first, piece)| {
            let points = piece.iter().enumerate().map(|(place, value)| {
                let (x, y) = (x.at((first + place) as f64), y.at(*value));
                format!("{x:.1},{y:.1}")
            });
            let mut points: Vec<String> = points.collect();
            let mut single = "";
            if let [only] = &points[..] {
                // a line to itself with round ends is a dot
                points.push(only.clone());
                single = " single";
            }
            html!(
                "<polyline class=\"{}{}\" points=\"{}\"/>",
                class,
                single,
                points.join(" ")
            )
        });
        html!(
            "<g><title>{}</title>{}</g>",
            line.name,
            pieces.collect::<Html>()
        )
    });
    let names = all.iter().zip(LINES).map(|(line, class)| {
        html!(
            "<span><svg viewBox=\"0 0 24 8\" aria-hidden=\"true\"><line class=\"{}\" x1=\"0\" x2=\"24\" y1=\"4\" y2=\"4\"/></svg> {}</span>",
            class,
            line.name
        )
    });
    let inside = html!(
        "{}{}",
        axes(&x, &y, ends, x_name, name),
        drawn.collect::<Html>()
    );
    let legend = html!("<p class=\"legend\">{}</p>", names.collect::<Html>());
    picture_with(name, &inside, &legend)
}

/// The runs of values that are known, each with the place where it begins.
fn known(values: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut runs: Vec<(usize, Vec<f64>)> = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            continue;
        };
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() == place => run.push(*value),
            _ => runs.push((place, vec![*value])),
        }
    }
    runs
}

/// A value with its interval at one place of a row.
pub(crate) struct Estimate {
    pub(crate) name: String,
    pub(crate) value: Option<f64>,
    pub(crate) interval: Option<(f64, f64)>,
    /// Whether it stands out: refused, withheld.
    pub(crate) hollow: bool,
}

/// Estimates in their order, with their intervals.
pub(crate) fn estimates(name: &str, x_name: &str, all: &[Estimate], with_zero: bool) -> Html {
    let values = all.iter().flat_map(|one| {
        let (low, high) = one.interval.unzip();
        [one.value, low, high].into_iter().flatten()
    });
    let y = Scale::of(values, with_zero, HEIGHT - BOTTOM, TOP);
    let x = Scale {
        low: -0.5,
        high: all.len() as f64 - 0.5,
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let marks = all.iter().enumerate().map(|(place, one)| {
        let at = x.at(place as f64);
        let whisker = one.interval.map(|(low, high)| {
            html!(
                "<line class=\"whisker\" x1=\"{x}\" x2=\"{x}\" y1=\"{low}\" y2=\"{high}\"/>",
                x = coordinate(at),
                low = coordinate(y.at(low)),
                high = coordinate(y.at(high)),
            )
        });
        let dot = one.value.map(|value| {
            html!(
                "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3.500\"><title>{name}: {value}</title></circle>",
                class = if one.hollow { "dot hollow" } else { "dot" },
                x = coordinate(at),
                y = coordinate(y.at(value)),
                name = one.name,
                value = number(value),
            )
        });
        html!("{}{}", whisker, dot)
    });
    let ends = [all.first(), all.last()].map(|end| end.map_or("", |one| one.name.as_str()));
    let inside = html!(
        "{}{}",
        axes(&x, &y, ends, x_name, name),
        marks.collect::<Html>()
    );
    picture(name, &inside)
}

/// Counts side by side.
pub(crate) fn bars(name: &str, x_name: &str, all: &[(String, f64)]) -> Html {
    let y = Scale::of(all.iter().map(|bar| bar.1), true, HEIGHT - BOTTOM, TOP);
    let x = Scale {
        low: 0.0,
        high: all.len().max(1) as f64,
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let bars = all.iter().enumerate().map(|(place, (name, value))| {
        let (left, right) = (x.at(place as f64), x.at(place as f64 + 1.0));
        html!(
            "<rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{name}: {value}</title></rect>",
            x = coordinate(left + (right - left) * 0.1),
            y = coordinate(y.at(*value)),
            width = coordinate((right - left) * 0.8),
            height = coordinate(y.at(0.0) - y.at(*value)),
            name = name,
            value = number(*value),
        )
    });
    let ends = [all.first(), all.last()].map(|end| end.map_or("", |bar| bar.0.as_str()));
    let inside = html!(
        "{}{}",
        axes(&x, &y, ends, x_name, name),
        bars.collect::<Html>()
    );
    picture(name, &inside)
}

/// A share as a short bar beside a number.
pub(crate) fn meter(share: f64) -> Html {
    let width = share.abs().clamp(0.0, 1.0) * 100.0;
    let class = if share < 0.0 { "meter down" } else { "meter" };
    html!(
        "<svg class=\"{}\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"100\" height=\"8\" class=\"track\"/><rect width=\"{}\" height=\"8\" class=\"fill\"/></svg>",
        class,
        coordinate(width)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_nothing_is_known() {
        let values = [None, Some(1.0), Some(2.0), None, Some(3.0)];
        assert_eq!(known(&values), [(1, vec![1.0, 2.0]), (4, vec![3.0])]);
        assert_eq!(known(&[None]), []);
        let line = Line {
            name: "<p99>",
            values: &values,
        };
        let chart = lines("ms", "time", ["then", "now"], &[line]).into_string();
        assert_eq!(chart.matches("<polyline class=\"line\"").count(), 1);
        assert_eq!(chart.matches("<polyline class=\"line single\"").count(), 1);
        assert!(!chart.contains("<p99>"), "{chart}");
        assert!(
            lines("ms", "time", ["then", "now"], &[])
                .into_string()
                .contains("svg")
        );
    }
}
