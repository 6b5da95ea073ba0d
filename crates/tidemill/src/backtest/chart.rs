//! Charts as inline SVG: lines with their intervals, without a script.

use std::fmt::Write;

/// The size of a chart, in the units of its drawing.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// So many labels fit below a chart.
const LABELS_MAX: usize = 12;

/// A line of a chart: a point for each label, or none.
pub struct Line {
    /// What it is.
    pub name: String,
    /// The values.
    pub values: Vec<Option<f64>>,
    /// Their intervals, drawn as a band.
    pub intervals: Vec<Option<(f64, f64)>>,
}

/// Lines over the same labels.
pub struct Chart {
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// What stands below it.
    pub labels: Vec<String>,
    /// The lines; at most six are told apart.
    pub lines: Vec<Line>,
    /// Whether zero is shown.
    pub with_zero: bool,
}

impl Chart {
    /// The chart as SVG; empty where there is nothing to draw.
    pub fn svg(&self) -> String {
        let Some((low, high)) = self.range() else {
            return String::new();
        };
        let x = |place: usize| {
            let steps = self.labels.len().saturating_sub(1).max(1) as f64;
            LEFT + (WIDTH - LEFT - RIGHT) * place as f64 / steps
        };
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        );
        for step in 0..=4 {
            let value = low + (high - low) * f64::from(step) / 4.0;
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\"/><text x=\"{3:.1}\" y=\"{4:.1}\" text-anchor=\"end\">{1}</text>",
                WIDTH - RIGHT,
                number(value),
                y(value),
                LEFT - 6.0,
                y(value) + 4.0
            );
        }
        let every = self.labels.len().div_ceil(LABELS_MAX).max(1);
        for (place, label) in self.labels.iter().enumerate().step_by(every) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(place),
                HEIGHT - 8.0,
                escaped(label)
            );
        }
        for (which, line) in self.lines.iter().enumerate() {
            svg.push_str(&band(line, which, &x, &y));
            svg.push_str(&drawn(line, which, &x, &y));
        }
        svg.push_str("</svg>");
        svg
    }

    /// What the lines are, with their colours.
    pub fn legend(&self) -> String {
        let names = self.lines.iter().enumerate().map(|(which, line)| {
            format!(
                "<span class=\"key c{which}\">{}</span>",
                escaped(&line.name)
            )
        });
        names.collect::<Vec<_>>().join(" ")
    }

    fn range(&self) -> Option<(f64, f64)> {
        let values = self.lines.iter().flat_map(|line| {
            let intervals = line.intervals.iter().flatten();
            let ends = intervals.flat_map(|(low, high)| [*low, *high]);
            line.values.iter().flatten().copied().chain(ends)
        });
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            return None;
        }
        let mut low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let mut high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.with_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-6);
        Some((low - room, high + room))
    }
}

fn drawn(line: &Line, which: usize, x: &impl Fn(usize) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut points = String::new();
    let mut is_down = false;
    for (place, value) in line.values.iter().enumerate() {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let step = if is_down { 'L' } else { 'M' };
        let _ = write!(path, "{step}{:.1} {:.1} ", x(place), y(*value));
        let _ = write!(
            points,
            "<circle class=\"p{which}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
            x(place),
            y(*value)
        );
        is_down = true;
    }
    format!(
        "<path class=\"l{which}\" d=\"{}\"/>{points}",
        path.trim_end()
    )
}

fn band(line: &Line, which: usize, x: &impl Fn(usize) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut bars = String::new();
    for (place, interval) in line.intervals.iter().enumerate() {
        if let Some((low, high)) = interval {
            let _ = write!(
                bars,
                "<line class=\"i{which}\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\"/>",
                x(place),
                y(*low),
                y(*high)
            );
        }
    }
    bars
}

/// A number with as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        some if some >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The same, or a dash where there is none.
pub fn plain(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

/// An interval in words, or a dash where there is none.
pub fn interval(interval: Option<(f64, f64)>) -> String {
    interval.map_or("-".to_owned(), |(low, high)| {
        format!("{} to {}", number(low), number(high))
    })
}

/// Text that stands in HTML as it is.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_break_a_line_and_names_are_escaped() {
        let chart = Chart {
            title: "a <b> & \"c\"".to_owned(),
            labels: ["1", "2", "3"].map(str::to_owned).to_vec(),
            lines: vec![Line {
                name: "x<y".to_owned(),
                values: vec![Some(1.0), None, Some(2.0)],
                intervals: vec![Some((0.5, 1.5)), None, None],
            }],
            with_zero: true,
        };
        let svg = chart.svg();
        assert!(
            svg.contains("aria-label=\"a &lt;b&gt; &amp; &quot;c&quot;\""),
            "{svg}"
        );
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(chart.legend().contains("x&lt;y"));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let chart = Chart {
            title: String::new(),
            labels: Vec::new(),
            lines: Vec::new(),
            with_zero: false,
        };
        assert_eq!(chart.svg(), "");
    }
}
