//! How often something was asked and how long it took, over time.

use tidemill_core::Timestamp;
use tidemill_core::notation::thousands;
use tidemill_monitor::traffic::{Asked, Step};

use super::Look;
use crate::chart::{self, Line};
use crate::html::{Html, html};
use crate::parts::{Table, figure, figures, milliseconds, part_about, percent, text, time};

/// The part of the page.
pub(super) fn shown(look: &Look, name: &str, found: &[Step<Asked>]) -> Html {
    if found.is_empty() {
        let empty = html!(
            "<div class=\"empty\"><p><strong>Nothing was asked in {}</strong></p><p>Ask a model with <code>POST /v1/predict/MODEL</code> or <code>POST /v1/recommend/MODEL</code>; how is under <em>Connect your app</em> and in docs/api.md. What was before the server started is not kept here: <code>/metrics</code> is for Prometheus, which keeps it.</p></div>",
            look.time()
        );
        return part_about(name, "", &empty);
    }
    let all = Asked::together(found);
    let ms = |share| text(milliseconds(all.quantile_ms(share)));
    let none = Html::default();
    let share = |count: u64| percent(count as f64 / all.count.max(1) as f64);
    let summary = figures(&html!(
        "{}{}{}{}{}",
        figure(
            "asked",
            &text(thousands(all.count)),
            &html!(
                "{} {}, {} failed",
                share(all.short),
                look.short_name(),
                thousands(all.failed)
            )
        ),
        figure("p50", &ms(0.5), &none),
        figure("p95", &ms(0.95), &none),
        figure("p99", &ms(0.99), &none),
        figure(
            "busiest",
            &text(thousands(
                found.iter().map(|step| step.of.count).max().unwrap_or(0)
            )),
            &html!("asked in {}", look.step())
        ),
    ));
    let places = look.places(found);
    html!(
        "<section><h2>{}</h2><p class=\"about\">In {}. Times are exact to an eighth.</p>{}{}{}</section>",
        name,
        look.time(),
        summary,
        charts(look, &places),
        numbers(look, name, &places)
    )
}

fn charts(look: &Look, places: &[Option<Asked>]) -> Html {
    let of = |value: &dyn Fn(&Asked) -> Option<f64>| -> Vec<Option<f64>> {
        let places = places.iter();
        places.map(|asked| asked.as_ref().and_then(value)).collect()
    };
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| of(&|asked| asked.quantile_ms(share)));
    // where nothing was asked nothing went wrong
    let count = |value: fn(&Asked) -> u64| -> Vec<Option<f64>> {
        let counts = places.iter().map(|asked| asked.as_ref().map_or(0, value));
        counts.map(|count| Some(count as f64)).collect()
    };
    let (failed, short) = (count(|asked| asked.failed), count(|asked| asked.short));
    let bars: Vec<(String, f64)> = places
        .iter()
        .enumerate()
        .map(|(place, asked)| {
            let count = asked.as_ref().map_or(0, |asked| asked.count);
            (clock(look.at(place)), count as f64)
        })
        .collect();
    let line = |name: &'static str, values| Line { name, values };
    html!(
        "<div class=\"charts small\">{}{}{}</div>",
        chart::lines(
            "Milliseconds to an answer",
            "time",
            look.ends(),
            &[
                line("p50", &p50[..]),
                line("p95", &p95[..]),
                line("p99", &p99[..])
            ]
        ),
        chart::bars(&format!("Asked in {}", look.step()), "time", &bars),
        chart::lines(
            &format!("Not as meant in {}", look.step()),
            "time",
            look.ends(),
            &[
                line("failed", &failed[..]),
                line(look.short_name(), &short[..])
            ]
        ),
    )
}

/// The time of day in UTC, for the bars.
fn clock(at: Timestamp) -> String {
    let exact = at.to_string();
    format!("{} UTC", exact.get(11..16).unwrap_or(&exact))
}

fn numbers(look: &Look, name: &str, places: &[Option<Asked>]) -> Html {
    let short = format!("#{}", look.short_name());
    let columns = ["From", "#Asked", &short, "#Failed", "#p50", "#p95", "#p99"];
    let mut table = Table::new(format!("{name} in {}", look.step()), &columns);
    for (place, asked) in places.iter().enumerate().rev() {
        let Some(asked) = asked else {
            continue;
        };
        let ms = |share| text(milliseconds(asked.quantile_ms(share)));
        table.row([
            time(look.at(place)),
            text(thousands(asked.count)),
            text(thousands(asked.short)),
            text(thousands(asked.failed)),
            ms(0.5),
            ms(0.95),
            ms(0.99),
        ]);
    }
    html!(
        "<details class=\"numbers\"><summary>The numbers</summary>{}</details>",
        table.show()
    )
}
