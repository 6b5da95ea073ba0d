//! How far behind the project is and how full the server is.

use tidemill_core::notation::thousands;
use tidemill_monitor::metrics::Progress;
use tidemill_monitor::traffic::ProcessLoad;

use super::Look;
use crate::chart::{self, Line};
use crate::html::{Html, html};
use crate::parts::{NOTHING, Table, Tone, figure, figures, part_about, size, state, text, time};
use crate::visit::Visit;

/// Below this share of the disk a person should look.
const DISK_LOW: f64 = 0.1;

/// A number of events or decisions.
type Count = fn(&Progress) -> u64;
/// A number of bytes, where the system tells it.
type Bytes = fn(&ProcessLoad) -> Option<u64>;

/// What was noted, one place for each step.
struct Noted {
    behind: Vec<Option<Progress>>,
    process: Vec<Option<ProcessLoad>>,
}

/// The part of the page.
pub(super) fn shown(visit: &Visit, look: &Look) -> Html {
    let traffic = &visit.project.metrics.traffic;
    let project = visit.project.project.name.as_str();
    let behind = traffic.project(project, look.over, look.now);
    let process = traffic.process(look.over, look.now);
    let (newest, full) = (behind.last(), process.last());
    let body = if newest.is_none() && full.is_none() {
        html!(
            "<div class=\"empty\"><p>It is looked once a minute; nothing was noted yet.</p></div>"
        )
    } else {
        let noted = Noted {
            behind: look.places(&behind),
            process: look.places(&process),
        };
        html!(
            "{}{}<details class=\"numbers\"><summary>The numbers</summary>{}</details>",
            now(newest.map(|step| &step.of), full.map(|step| &step.of)),
            charts(look, &noted),
            table(look, &noted)
        )
    };
    let body = html!("{}{}", at_this_moment(visit), body);
    part_about(
        "How full it is",
        "What is under way is of this moment, the rest is looked at once a minute. While features are behind, answers know less; what is behind in the lake is read from the log meanwhile.",
        &body,
    )
}

/// What is under way while the page is read.
fn at_this_moment(visit: &Visit) -> Html {
    let under_way = visit.project.metrics.requests_under_way();
    let waiting = visit.project.shadow_waiting();
    figures(&html!(
        "{}{}",
        figure(
            "requests now",
            &text(thousands(under_way)),
            &text("being answered, all projects together")
        ),
        figure(
            "shadow now",
            &text(thousands(waiting)),
            &text("questions wait for a version that takes over")
        ),
    ))
}

/// The newest numbers that were noted.
fn now(newest: Option<&Progress>, full: Option<&ProcessLoad>) -> Html {
    let count = |name: &str, of: Count, note: &str| {
        let value = newest.map_or_else(|| NOTHING.to_owned(), |load| thousands(of(load)));
        figure(name, &text(value), &text(note))
    };
    let bytes = |name: &str, of: Bytes, note: &Html| {
        let value = full.and_then(of).map_or_else(|| NOTHING.to_owned(), size);
        figure(name, &text(value), note)
    };
    figures(&html!(
        "{}{}{}{}{}{}",
        count("features", |load| load.features_lag, "events behind"),
        count("lake", |load| load.landing_lag, "events behind"),
        count("outcomes", |load| load.outcomes_waiting, "waited for"),
        bytes("memory", |load| load.memory_bytes, &text("resident")),
        bytes("data folder", |load| load.data_bytes, &text("all files")),
        bytes("disk", |load| load.disk_free_bytes, &disk(full)),
    ))
}

/// Whether the disk has room.
fn disk(full: Option<&ProcessLoad>) -> Html {
    let Some((free, all)) = full.and_then(|load| load.disk_free_bytes.zip(load.disk_bytes)) else {
        return text("not told by the system");
    };
    let of = format!("free of {}", size(all));
    if (free as f64) < all as f64 * DISK_LOW {
        html!("{} {}", of, state(Tone::Warning, "nearly full"))
    } else {
        text(of)
    }
}

impl Noted {
    fn counts(&self, of: Count) -> Vec<Option<f64>> {
        let loads = self.behind.iter();
        loads
            .map(|load| load.as_ref().map(|load| of(load) as f64))
            .collect()
    }

    fn mebibytes(&self, of: Bytes) -> Vec<Option<f64>> {
        let loads = self.process.iter();
        let bytes = loads.map(|load| load.as_ref().and_then(of));
        bytes
            .map(|bytes| bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)))
            .collect()
    }
}

fn charts(look: &Look, noted: &Noted) -> Html {
    let features = noted.counts(|load| load.features_lag);
    let lake = noted.counts(|load| load.landing_lag);
    let memory = noted.mebibytes(|load| load.memory_bytes);
    let data = noted.mebibytes(|load| load.data_bytes);
    let line = |name: &'static str, values| Line { name, values };
    html!(
        "<div class=\"charts small\">{}{}{}</div>",
        chart::lines(
            "Events behind",
            "time",
            look.ends(),
            &[line("features", &features[..]), line("lake", &lake[..])]
        ),
        chart::lines(
            "Memory in MiB",
            "time",
            look.ends(),
            &[line("resident", &memory[..])]
        ),
        chart::lines(
            "Data folder in MiB",
            "time",
            look.ends(),
            &[line("all files", &data[..])]
        ),
    )
}

fn table(look: &Look, noted: &Noted) -> Html {
    let columns = [
        ("#Features behind", noted.counts(|load| load.features_lag)),
        ("#Lake behind", noted.counts(|load| load.landing_lag)),
        (
            "#Outcomes waited for",
            noted.counts(|load| load.outcomes_waiting),
        ),
        (
            "#Waiting in the shadow",
            noted.counts(|load| load.shadow_waiting),
        ),
        ("#Memory (MiB)", noted.mebibytes(|load| load.memory_bytes)),
        (
            "#Data folder (MiB)",
            noted.mebibytes(|load| load.data_bytes),
        ),
        (
            "#Disk free (MiB)",
            noted.mebibytes(|load| load.disk_free_bytes),
        ),
    ];
    let names = columns.iter().map(|(name, _)| (*name).to_owned());
    let names = ["From".to_owned()].into_iter().chain(names).collect();
    let mut table = Table::of("how full it was", names);
    for place in (0..look.over.steps()).rev() {
        let values = columns.iter();
        let values: Vec<Option<f64>> = values
            .map(|(_, values)| values.get(place).copied().flatten())
            .collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let cells = values.into_iter().map(|value| {
            text(value.map_or_else(
                || NOTHING.to_owned(),
                |value| thousands(value.round() as u64),
            ))
        });
        table.add([time(look.at(place))].into_iter().chain(cells).collect());
    }
    table.show()
}
