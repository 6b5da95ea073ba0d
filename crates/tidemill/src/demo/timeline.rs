//! What the demo tells, month by month: what came in, what was trained and why it was promoted or not, and how
//! good the answers of past months turned out to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tidemill_core::{ModelName, Timestamp};
use tidemill_cycle::examine::{Compared, called};
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;
use tidemill_cycle::{ConsistencyReport, ProjectLoop};
use tidemill_evaluate::report::MetricValue;
use tidemill_evaluate::{Metric, Verdict};
use tidemill_monitor::LiveQuality;
use tidemill_store::catalog::{Run, RunState};

use super::replay::{Asked, FOR_YOU, LastAnswer};
use super::shop::{LINE_COUNT, Visit};
use crate::memory;
use crate::output::{Output, thousands};
use crate::replay::Watcher;

/// What happened in a month.
#[derive(Debug, Default)]
struct Month {
    events: u64,
    orders: u64,
    customers: BTreeSet<String>,
    answers: u64,
    fallbacks: u64,
    baskets: Baskets,
}

/// Baskets that followed what a version recommended, and in how many of them some of it was.
#[derive(Debug, Default)]
struct Baskets {
    count: u64,
    hit: u64,
    hit_by_popular: u64,
    /// Products that were shown and ordered.
    ordered: u64,
    ordered_of_popular: u64,
}

/// Prints the timeline as text, or as JSON lines.
pub struct Timeline {
    output: Output,
    models: Vec<ModelName>,
    month_start: Timestamp,
    month: Month,
    lines: u64,
    set_aside: u64,
    /// The first month of each model whose live quality was not told yet.
    untold: BTreeMap<ModelName, Timestamp>,
    bar: ProgressBar,
}

impl Timeline {
    /// A timeline that begins at `start`.
    pub fn new(output: Output, models: Vec<ModelName>, start: Timestamp) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(LINE_COUNT)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {elapsed}") {
            bar.set_style(style);
        }
        let month_start = start.month_start(0);
        let untold = models
            .iter()
            .map(|model| (model.clone(), month_start))
            .collect();
        Self {
            output,
            models,
            month_start,
            month: Month::default(),
            lines: 0,
            set_aside: 0,
            untold,
            bar,
        }
    }

    /// Says what is about to be seen.
    pub fn begin(&self) {
        self.text("Thirteen months of a UK online gift shop (UCI Online Retail, CC BY 4.0) pass through the whole loop:");
        self.text("events are collected, features kept, models trained every 28 days on what was known then, examined,");
        self.text("promoted or refused; before every order ten products are recommended, after it the shop asks three questions,");
        self.text("and what followed is joined.");
        self.text("In brackets: 95 % intervals.");
    }

    /// Counts an invoice.
    pub fn visited(&mut self, visit: &Visit, accepted: u64, set_aside: u64) {
        self.lines += visit.lines;
        self.month.events += accepted;
        self.set_aside += set_aside;
        if visit.is_order {
            self.month.orders += 1;
        }
        if let Some(customer) = &visit.customer {
            self.month.customers.insert(customer.clone());
        }
        self.bar.set_position(self.lines);
    }

    /// Counts an answer.
    pub fn answered(&mut self, answer: &Value) {
        self.month.answers += 1;
        if answer["fallback"].is_string() {
            self.month.fallbacks += 1;
        }
    }

    /// Compares what was shown to a customer with what they ordered then.
    pub fn recommended(&mut self, asked: &Asked, basket: &[&str]) {
        self.month.answers += 1;
        if !asked.by_version {
            self.month.fallbacks += 1;
            return;
        }
        let hits = |shown: &[String]| {
            shown
                .iter()
                .filter(|item| basket.contains(&item.as_str()))
                .count() as u64
        };
        let (shown, popular) = (hits(&asked.shown), hits(&asked.popular));
        let baskets = &mut self.month.baskets;
        baskets.count += 1;
        baskets.hit += u64::from(shown > 0);
        baskets.hit_by_popular += u64::from(popular > 0);
        baskets.ordered += shown;
        baskets.ordered_of_popular += popular;
    }

    fn tell_month(&mut self) {
        let month = std::mem::take(&mut self.month);
        let name = &self.month_start.date()[..7];
        self.bar.set_message(name.to_owned());
        self.text(&format!(
            "\n{name}   {} events, {} orders, {} customers; {} answers, {} of them by the fallback",
            thousands(month.events),
            thousands(month.orders),
            thousands(month.customers.len() as u64),
            thousands(month.answers),
            thousands(month.fallbacks),
        ));
        self.json(&json!({
            "type": "month", "month": name, "events": month.events, "orders": month.orders,
            "customers": month.customers.len(), "answers": month.answers, "fallbacks": month.fallbacks,
        }));
        self.tell_baskets(name, &month.baskets);
    }

    fn tell_baskets(&self, month: &str, baskets: &Baskets) {
        if baskets.count == 0 {
            return;
        }
        let share = |count: u64| 100.0 * count as f64 / baskets.count as f64;
        let each = |count: u64| count as f64 / baskets.count as f64;
        self.text(&format!(
            "          live    {FOR_YOU} in {month}: of 10 products shown before an order, {:.1} % of {} baskets held at least one ({:.2} on average); what everybody takes {:.1} % ({:.2})",
            share(baskets.hit),
            thousands(baskets.count),
            each(baskets.ordered),
            share(baskets.hit_by_popular),
            each(baskets.ordered_of_popular),
        ));
        self.json(&json!({
            "type": "recommended", "model": FOR_YOU, "month": month, "baskets": baskets.count,
            "hit_share": share(baskets.hit) / 100.0, "ordered_per_basket": each(baskets.ordered),
            "popular_hit_share": share(baskets.hit_by_popular) / 100.0,
            "popular_ordered_per_basket": each(baskets.ordered_of_popular),
        }));
    }

    async fn tell_live(&mut self, today: Timestamp, project_loop: &ProjectLoop) -> Result<()> {
        for model in self.models.clone() {
            let within = project_loop.slot(&model)?.model.target.within();
            let Some(mut month) = self.untold.get(&model).copied() else {
                continue;
            };
            while month.month_start(1) + within <= today {
                let quality = project_loop
                    .live_quality_and_estimate(&model, month, month.month_start(1))
                    .await?;
                self.tell_quality(&model, month, &quality);
                month = month.month_start(1);
            }
            self.untold.insert(model, month);
        }
        Ok(())
    }

    fn tell_quality(&self, model: &ModelName, month: Timestamp, quality: &LiveQuality) {
        let name = &month.date()[..7];
        self.json(&json!({ "type": "live", "model": model, "month": name, "quality": quality }));
        let Some(primary) = quality.primary() else {
            return; // only the fallback answered
        };
        let versions: Vec<String> = quality
            .versions
            .iter()
            .map(|number| format!("@{number}"))
            .collect();
        let mut text = format!(
            "          live    {model}{} in {name}: {} of {} answers",
            versions.join(" "),
            value(primary),
            thousands(quality.answers as u64),
        );
        for baseline in &quality.baselines {
            if let Some(other) = baseline.value {
                text = format!("{text}; {} {}", called(&baseline.name), number(other));
            }
        }
        if let Some(expected) = &quality.expected
            && let Some(value) = expected.value
        {
            text = format!("{text}; expected before {}", number(value));
        }
        self.text(&text);
    }

    /// What was trained, and what became of it.
    fn runs(&self, today: Timestamp, runs: &[Run]) -> Result<()> {
        for run in runs {
            self.json(&json!({ "type": "run", "date": today.date(), "run": run }));
            let version = run.version.map_or_else(
                || run.model.to_string(),
                |number| format!("{}@{number}", run.model),
            );
            let became = match run.state {
                RunState::Passed => "promoted",
                RunState::Refused => "refused ",
                RunState::Skipped => "skipped ",
                RunState::Failed | RunState::Running => "failed  ",
            };
            if run.model.as_str() == FOR_YOU {
                let detail: RecommendDetail = serde_json::from_value(run.detail.clone())?;
                self.recommender_run(today, (&version, became), &detail, &run.summary);
                continue;
            }
            let detail: RunDetail = serde_json::from_value(run.detail.clone())?;
            let Some(examination) = &detail.examination else {
                self.text(&format!(
                    "{} {became} {version}: {}",
                    today.date(),
                    run.summary
                ));
                continue;
            };
            let rows = detail.parts.map_or(0, |parts| parts.examined);
            let mut text = format!(
                "{} {became} {version}: {}",
                today.date(),
                compared(
                    examination.metric,
                    examination.value(),
                    examination.interval()
                )
            );
            if let Some(champion) = &examination.champion {
                text = format!("{text}; champion {} {}", champion.name, short(champion));
            }
            for baseline in &examination.baselines {
                text = format!("{text}; {} {}", called(&baseline.name), short(baseline));
            }
            self.text(&format!("{text}; on {} rows", thousands(rows as u64)));
            if let Some(refused) = &detail.refused {
                for reason in failed(&refused.verdict) {
                    self.text(&format!(
                        "                    it is a regression, because of the trees {reason}"
                    ));
                }
            }
            for reason in failed(&examination.verdict) {
                self.text(&format!("                    because {reason}"));
            }
        }
        Ok(())
    }

    fn recommender_run(
        &self,
        today: Timestamp,
        (version, became): (&str, &str),
        detail: &RecommendDetail,
        summary: &str,
    ) {
        let today = today.date();
        let Some(examination) = &detail.examination else {
            self.text(&format!("{today} {became} {version}: {summary}"));
            return;
        };
        let mut text = format!(
            "{today} {became} {version}: NDCG@10 {}; what everybody takes {}",
            with_interval(&examination.challenger),
            short(&examination.popular)
        );
        if let Some(champion) = &examination.champion {
            text = format!("{text}; champion {} {}", champion.name, short(champion));
        }
        self.text(&format!(
            "{text}; on {} customers",
            thousands(detail.cases as u64)
        ));
        for reason in failed(&examination.verdict) {
            self.text(&format!("                    because {reason}"));
        }
    }

    /// The sum of it all.
    pub async fn end(&mut self, seconds: f64, project_loop: &ProjectLoop) -> Result<()> {
        self.tell_month();
        self.bar.finish_and_clear();
        let counts = project_loop.stores.log.counts(&project_loop.project.name)?;
        let peak = memory::peak_bytes();
        self.text(&format!(
            "\n{} invoice lines became {} events ({} set aside) and {} decisions in {seconds:.0} s, with at most {} MB of memory.",
            thousands(self.lines),
            thousands(counts.stored),
            thousands(self.set_aside),
            thousands(project_loop.decisions.last()),
            peak.map_or_else(|| "?".to_owned(), |bytes| thousands(bytes >> 20)),
        ));
        let mut champions = serde_json::Map::new();
        for model in &self.models {
            let champion = project_loop
                .slot(model)?
                .champion()
                .map(|champion| champion.number);
            champions.insert(model.to_string(), json!(champion));
        }
        let slot = project_loop.recommender(&FOR_YOU.parse()?)?;
        let champion = slot.champion().map(|champion| champion.number);
        champions.insert(FOR_YOU.to_owned(), json!(champion));
        self.json(&json!({
            "type": "summary", "lines": self.lines, "events": counts.stored, "set_aside": self.set_aside,
            "decisions": project_loop.decisions.last(), "seconds": seconds, "peak_memory_bytes": peak,
            "champions": champions,
        }));
        Ok(())
    }

    /// Whether what was served is what a training sees.
    pub fn compared(&mut self, report: &ConsistencyReport) {
        self.text(&format!(
            "{} features of {} answers were read again from the lake, as a training would see them: {} differ from what was served.",
            thousands(report.values),
            thousands(report.answers),
            thousands(report.mismatches),
        ));
        self.json(&json!({ "type": "consistency", "report": report }));
    }

    /// How ready the models are for production, by the tests that the loop has evidence for.
    pub async fn scored(&mut self, project_loop: &Arc<ProjectLoop>) -> Result<()> {
        let mut scores = Vec::new();
        for model in &self.models {
            let card = project_loop.scorecard(model).await?;
            self.json(&json!({ "type": "scorecard", "scorecard": card }));
            scores.push(format!("{model} {:.1}", card.score));
        }
        self.text(&format!(
            "By the 28 tests of the ML Test Score, of 7 points: {}.",
            scores.join(", ")
        ));
        Ok(())
    }

    /// How to go on from here.
    pub fn farewell(&self, address: &str, (key, console): (&str, Option<&str>), last: &LastAnswer) {
        let curl = format!("curl -s -H 'Authorization: Bearer {key}'");
        let url = format!("http://{address}");
        self.text(&format!("\nlistening on {url}"));
        self.text("\nAsk it something (the clock goes on from December 2011):\n");
        let user = &last.user;
        let lines = [
            format!(
                "{curl} -H 'Content-Type: application/json' {url}/v1/predict/will_return -d '{{\"user\":\"{user}\",\"reasons\":true}}'"
            ),
            format!(
                "{curl} -H 'Content-Type: application/json' {url}/v1/recommend/{FOR_YOU} -d '{{\"user\":\"{user}\",\"limit\":5,\"reasons\":true}}'"
            ),
            format!("{curl} '{url}/v1/similar/{FOR_YOU}/85123A?limit=5'"),
            format!("{curl} {url}/v1/users/{user}"),
            format!("{curl} {url}/v1/decisions/{}", last.decision),
        ];
        for line in &lines {
            self.text(&format!("  {line}"));
        }
        if let Some(link) = console {
            self.text(&format!(
                "\nSee it all in the console, with this link, once:\n\n  {link}"
            ));
        }
        self.text("\nCtrl-C stops the server.");
        self.json(
            &json!({ "type": "listening", "address": address, "curl": lines, "console": console }),
        );
    }

    fn text(&self, line: &str) {
        self.bar.suspend(|| self.output.text(line));
    }

    fn json(&self, value: &Value) {
        self.bar.suspend(|| self.output.json_line(value));
    }
}

impl Watcher for Timeline {
    /// On the first of a month: what came in last month, and the live quality of months whose outcomes are all known now.
    async fn morning(&mut self, today: Timestamp, project_loop: &Arc<ProjectLoop>) -> Result<()> {
        if today.month_start(0) == self.month_start {
            return Ok(());
        }
        self.tell_month();
        self.month_start = today.month_start(0);
        self.tell_live(today, project_loop).await
    }

    async fn trained(&mut self, today: Timestamp, runs: &[Run]) -> Result<()> {
        self.runs(today, runs)
    }
}

fn failed(verdict: &Verdict) -> impl Iterator<Item = &str> {
    verdict
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.sentence.as_str())
}

fn value(value: &MetricValue) -> String {
    compared(value.metric, value.value, value.interval)
}

fn compared(metric: Metric, value: Option<f64>, interval: Option<(f64, f64)>) -> String {
    let value = value.map_or_else(|| "not defined".to_owned(), number);
    match interval {
        Some((low, high)) => format!(
            "{} {value} [{}, {}]",
            metric.label(),
            number(low),
            number(high)
        ),
        None => format!("{} {value}", metric.label()),
    }
}

fn with_interval(compared: &Compared) -> String {
    match compared.interval {
        Some((low, high)) => format!("{} [{}, {}]", short(compared), number(low), number(high)),
        None => short(compared),
    }
}

fn short(compared: &Compared) -> String {
    compared
        .value
        .map_or_else(|| "not defined".to_owned(), number)
}

/// Three decimals for shares, none for amounts.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.0}")
    }
}
