//! How well the watch of the data does on a real shop's year: false alarms where nothing was planted, faults that are found, and what it
//! costs.
//!
//! `cargo run --release -p tidemill-monitor --example data_watch -- [fault]`: with the name of a fault only that one is planted.

#[path = "../tests/support/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use shop::{Fault, Sent, arrives};
use tidemill_core::Timestamp;
use tidemill_core::clock::Stopwatch;
use tidemill_monitor::data::{DataFinding, DataWatch, FALSE_ALARMS, Rules};
use tidemill_store::memory::MemoryState;

fn date(day: i64) -> String {
    Timestamp::from_micros(day * 86_400_000_000).date()
}

/// Lets days pass; `each` sees what is found after each and says whether to go on.
fn replay(
    sent: &[Sent],
    (fault, from): (Fault, i64),
    (begin, end): (i64, i64),
    false_alarms: f64,
    each: &mut dyn FnMut(i64, &[DataFinding]) -> bool,
) -> Result<(f64, f64)> {
    let expectations = BTreeMap::new();
    let watch = DataWatch::open("shop".parse()?, Arc::new(MemoryState::default()))?;
    let rules = Rules {
        false_alarms,
        expectations: &expectations,
    };
    let (mut offset, mut applying, mut examining) = (0, 0, 0);
    let mut next = sent.partition_point(|sent| sent.time.day() < begin);
    for day in begin..end {
        let until = sent.partition_point(|sent| sent.time.day() <= day);
        let events: Vec<_> = sent[next..until]
            .iter()
            .flat_map(|sent| arrives(sent, fault, from, &mut offset))
            .collect();
        next = until;
        let stopwatch = Stopwatch::start();
        watch.apply(&events)?;
        applying += stopwatch.micros();
        let stopwatch = Stopwatch::start();
        watch.examine(day + 1, rules)?;
        examining += stopwatch.micros();
        if !each(day, &watch.findings()) {
            break;
        }
    }
    Ok((
        applying as f64 / offset as f64,
        examining as f64 / (end - begin) as f64 / 1_000.0,
    ))
}

fn main() -> Result<()> {
    let sent = shop::events()?;
    let (first, last) = (sent[0].time.day(), sent[sent.len() - 1].time.day());
    println!(
        "{} events from {} to {}",
        sent.len(),
        date(first),
        date(last)
    );
    let only = std::env::args().nth(1);
    let rates = [FALSE_ALARMS, 0.05, 0.2]
        .into_iter()
        .filter(|_| only.is_none());
    for false_alarms in rates {
        let (mut open, mut alarms, mut days) = (Vec::new(), Vec::new(), 0);
        let costs = replay(
            &sent,
            (Fault::None, 0),
            (first, last),
            false_alarms,
            &mut |day, findings| {
                days += 1;
                let now: Vec<String> = findings
                    .iter()
                    .map(|f| format!("{} {}", f.kind.as_str(), f.subject()))
                    .collect();
                let new: Vec<&String> = now.iter().filter(|id| !open.contains(*id)).collect();
                if !new.is_empty() {
                    alarms.push(day);
                    for finding in findings
                        .iter()
                        .filter(|f| new.contains(&&format!("{} {}", f.kind.as_str(), f.subject())))
                    {
                        println!(
                            "   {} {:?} {} [{:.2}] {} {}",
                            date(day),
                            finding.statistic,
                            finding.subject(),
                            finding.surprise,
                            finding.noticed,
                            finding.likely
                        );
                    }
                }
                open = now;
                true
            },
        )?;
        println!(
            "{false_alarms}: {} of {days} days with a new finding ({:.4}); {:.2} us an event, {:.2} ms a day",
            alarms.len(),
            alarms.len() as f64 / days as f64,
            costs.0,
            costs.1
        );
    }
    let faults = Fault::SUDDEN.into_iter().chain([Fault::Shift]);
    for fault in faults.filter(|fault| {
        only.as_ref()
            .is_none_or(|only| *only == format!("{fault:?}"))
    }) {
        for from in (first + 70..last - 45).step_by(45) {
            let mut told = None;
            replay(
                &sent,
                (fault, from),
                (first, (from + 45).min(last)),
                FALSE_ALARMS,
                &mut |day, findings| {
                    if day < from {
                        return true;
                    }
                    let found = findings.iter().position(|finding| expected(fault, finding));
                    if let Some(place) = found {
                        for before in &findings[..place] {
                            println!(
                                "   before it: {} {} [{:.1}] {} {}",
                                before.kind.as_str(),
                                before.subject(),
                                before.surprise,
                                before.noticed,
                                before.likely
                            );
                        }
                        told = Some((day - from, place, findings[place].clone(), findings.len()));
                    }
                    told.is_none()
                },
            )?;
            match told {
                Some((after, place, finding, count)) => println!(
                    "{fault:?} from {}: after {after} days, place {} of {count} [{:.1}]: {} {}: {} {} (also {})",
                    date(from),
                    place + 1,
                    finding.surprise,
                    finding.kind.as_str(),
                    finding.subject(),
                    finding.noticed,
                    finding.likely,
                    finding.also.len()
                ),
                None => println!("{fault:?} from {}: NOT FOUND", date(from)),
            }
        }
    }
    Ok(())
}

/// Whether a finding names the planted fault.
fn expected(fault: Fault, finding: &DataFinding) -> bool {
    let (kind, subject) = (finding.kind.as_str(), finding.subject());
    match fault {
        Fault::None => false,
        Fault::Nulls => kind == "property_missing" && subject == "Product Ordered.country",
        Fault::Pence => kind == "values_changed" && finding.likely.contains("pence"),
        Fault::Renamed => {
            kind == "values_changed" && finding.likely.contains("'United Kingdom' renamed to 'UK'")
        }
        Fault::Stopped => kind == "event_stopped" && subject == "Order Completed",
        Fault::Doubled => kind == "event_doubled" && subject == "Product Ordered",
        Fault::Shift => {
            kind == "data_drifted"
                && ["price", "amount", "total"]
                    .iter()
                    .any(|name| subject.ends_with(name))
        }
    }
}
