//! `tidemill backtest`: what the loop would have done with a project's own past. The history goes through the live path on a virtual
//! clock, in a folder of its own; the original is only read.

mod chart;
mod page;
mod questions;
mod record;
mod source;
mod worth;

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tidemill_core::clock::{Stopwatch, VirtualClock};
use tidemill_core::project::Project;
use tidemill_core::{Clock, Event, Timestamp};
use tidemill_store::catalog::RunState;

use crate::cli::{BacktestArgs, Cli};
use crate::commands::configure;
use crate::config::Config;
use crate::node::Node;
use crate::output::{Output, table, thousands};
use crate::replay::{self, Driver, Folder};
use questions::Questions;
use record::{Record, Recorder};
use source::Source;
use worth::Assumed;

/// So many events are appended at once where nothing is asked between them.
const EVENTS_AT_ONCE: usize = 2_000;

/// Replays a past and reports.
pub async fn run(cli: &Cli, args: &BacktestArgs, output: Output) -> Result<()> {
    let stopwatch = Stopwatch::start();
    if let Some(path) = args
        .out
        .as_ref()
        .filter(|path| path.exists() && !args.force)
    {
        bail!("{} is there already; --force overwrites it", path.display());
    }
    let original = configure(cli, &[], args.data.data.as_deref(), None)?;
    let source = Source::open(&original.data(), &args.data).await?;
    let project = narrowed(source.project.clone(), &args.model)?;
    let copy = Folder::new(args.copy.clone(), "backtest", "a backtest")?;
    let config = configure(cli, &replay::SETTINGS, Some(&copy.path), None)?;
    let mut backtest = Backtest {
        until: args.until,
        from: args.from,
        bar: bar(source.count().await?),
        started: None,
        pending: Vec::new(),
        history_events: 0,
        events: 0,
    };
    let node_of = NodeOf { config, project };
    let (driver, mut questions, mut recorder) = backtest.replay(&source, node_of).await?;
    let mut record = finish(&driver, &mut questions, &mut recorder, &backtest, args).await?;
    record.beside_server = source.beside_server;
    record.seconds = stopwatch.seconds();
    backtest.bar.finish_and_clear();
    if let Some(path) = &args.out {
        std::fs::write(path, page::html(&record))
            .with_context(|| format!("write {}", path.display()))?;
    }
    let value = serde_json::to_value(&record)?;
    output.result(&value, |_| told(&record, args.out.as_deref()));
    Ok(())
}

/// The project with the models that were asked for alone. Nobody is told of a past: alerts go nowhere.
fn narrowed(mut project: Project, models: &[String]) -> Result<Project> {
    for name in models {
        if !project.model_names().any(|model| model.as_str() == name) {
            bail!("the project has no model '{name}'");
        }
    }
    if !models.is_empty() {
        let is_wanted = |name: &str| models.iter().any(|model| model == name);
        project.models.retain(|name, _| is_wanted(name.as_str()));
        project
            .recommenders
            .retain(|name, _| is_wanted(name.as_str()));
    }
    if project.models.is_empty() && project.recommenders.is_empty() {
        bail!("the project has no models that could be tried");
    }
    project.alerts = Default::default();
    Ok(project)
}

fn bar(events: u64) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(events),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// What a node is made of, as soon as it is known when it begins.
struct NodeOf {
    config: Config,
    project: Project,
}

struct Backtest {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    bar: ProgressBar,
    /// When the loop began to work.
    started: Option<Timestamp>,
    /// Events that are not appended yet.
    pending: Vec<Event>,
    history_events: u64,
    events: u64,
}

impl Backtest {
    async fn replay(
        &mut self,
        source: &Source,
        NodeOf { config, project }: NodeOf,
    ) -> Result<(Driver, Questions, Recorder)> {
        let name = project.name.clone();
        let mut events = source.events().await?;
        let mut batch = events.next().await.transpose()?.unwrap_or_default();
        let Some(first) = batch.first() else {
            bail!("nothing has happened in {name} yet");
        };
        let begin = first.event.received_at;
        let clock = Arc::new(VirtualClock::at(begin));
        let node = Node::open(&config, vec![project], clock.clone()).await?;
        let mut driver = Driver::new(&node, &name, clock)?;
        let project = driver.project_loop.project.clone();
        let set = driver.project_loop.engine();
        let models = project.models.values().cloned();
        let recommenders = project.recommenders.values().cloned();
        let mut questions = Questions::new(models, recommenders, set.set())?;
        drop(set);
        let from = self.from.map_or(begin, |from| from.max(begin));
        let mut recorder = Recorder::new(&driver.project_loop, from, self.bar.clone()).await?;
        'replay: loop {
            for logged in batch {
                if self
                    .until
                    .is_some_and(|until| logged.event.received_at >= until)
                {
                    break 'replay;
                }
                self.bar.inc(1);
                self.step(
                    logged.event,
                    &node,
                    &mut driver,
                    &mut questions,
                    &mut recorder,
                )
                .await?;
            }
            match events.next().await.transpose()? {
                Some(next) => batch = next,
                None => break,
            }
        }
        self.flush(&node, &driver).await?;
        if self.started.is_none() {
            bail!("there is nothing to replay: everything happened before --from");
        }
        driver.finish(&mut recorder).await?;
        // the node lives on in what drives it
        driver.keep(node);
        Ok((driver, questions, recorder))
    }

    async fn step(
        &mut self,
        event: Event,
        node: &Node,
        driver: &mut Driver,
        questions: &mut Questions,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let at = event.received_at;
        if self.from.is_some_and(|from| at < from) && self.started.is_none() {
            self.history_events += 1;
            self.pending.push(event);
            if self.pending.len() >= EVENTS_AT_ONCE {
                self.flush(node, driver).await?;
            }
            return Ok(());
        }
        if self.started.is_none() {
            self.flush(node, driver).await?;
            driver.skip_to(at);
            self.started = Some(driver.clock.now());
        }
        self.events += 1;
        if driver.is_due(at) {
            self.flush(node, driver).await?;
            while driver.is_due(at) {
                driver.pass_a_day(recorder).await?;
                questions.periodic(driver.clock.now(), driver).await?;
            }
        }
        questions.saw(&event);
        if questions.comes_before(&event) {
            self.flush(node, driver).await?;
            driver.clock.advance_to(at);
            questions.before(&event, driver).await?;
        }
        let comes_after = questions.comes_after(&event).then(|| event.clone());
        self.pending.push(event);
        if let Some(event) = comes_after {
            self.flush(node, driver).await?;
            questions.after(&event, driver).await?;
        } else if self.pending.len() >= EVENTS_AT_ONCE {
            self.flush(node, driver).await?;
        }
        Ok(())
    }

    /// Takes what waits through the intake, as it came then.
    async fn flush(&mut self, node: &Node, driver: &Driver) -> Result<()> {
        let Some(last) = self.pending.last() else {
            return Ok(());
        };
        driver.clock.advance_to(last.received_at);
        let name = &driver.project_loop.project.name;
        let events = std::mem::take(&mut self.pending);
        node.app
            .intake
            .accept_events(name, events, Vec::new())
            .await?;
        driver.project_loop.catch_up().await?;
        Ok(())
    }
}

/// What is known when everything has gone by.
async fn finish(
    driver: &Driver,
    questions: &mut Questions,
    recorder: &mut Recorder,
    backtest: &Backtest,
    args: &BacktestArgs,
) -> Result<Record> {
    let project_loop = &driver.project_loop;
    let project = &project_loop.project;
    let currency = project
        .currency
        .clone()
        .unwrap_or_else(|| "(no currency)".to_owned());
    let assumed = Assumed {
        acted_on: args.acted_on,
        effect: args.effect,
        worth: args.worth,
    };
    let mut models = std::mem::take(&mut recorder.models);
    for of_model in &mut models {
        let model = &of_model.model;
        match project_loop.measure_staleness(model).await {
            Ok(measured) => of_model.staleness = Some(measured),
            Err(error) => of_model.staleness_unknown = Some(error.to_string()),
        }
        of_model.worth = worth::estimate(project_loop, model, assumed, &currency)?;
    }
    let consistency = project_loop
        .check_consistency(args.consistency_share)
        .await?;
    let (from, until) = (
        backtest.started.unwrap_or(Timestamp::EPOCH),
        driver.clock.now(),
    );
    Ok(Record {
        project: project.name.to_string(),
        from,
        until,
        history_events: backtest.history_events,
        events: backtest.events,
        questions: questions.asked,
        questions_left_out: questions.left_out,
        beside_server: false,
        assumptions: assumptions(assumed, &currency, questions.left_out),
        assumed,
        currency,
        models,
        values_compared: consistency.values,
        values_that_differ: consistency.mismatches,
        seconds: 0.0,
    })
}

fn assumptions(assumed: Assumed, currency: &str, left_out: u64) -> Vec<String> {
    let percent = |share: f64| share * 100.0;
    let mut said = vec![
        "Each event arrives when it arrived then, through the same intake, features, training, gate and promotion as live.".to_owned(),
        "Questions are asked at the moments at which a model is observed; lists of ten items before somebody takes something, once a day each. \
         What the application really asked is not replayed."
            .to_owned(),
        "Nobody saw an answer, so nobody acted otherwise than they did.".to_owned(),
        format!(
            "Worth: {:.0} % of the answers are acted on, those with the highest scores; acting changes {:.0} % of the right ones; one changed case is \
             worth {} {currency} (amounts are worth themselves). Change them with --acted-on, --effect and --worth.",
            percent(assumed.acted_on),
            percent(assumed.effect),
            assumed.worth
        ),
    ];
    if left_out > 0 {
        said.push(format!(
            "{left_out} questions were too many for their day and were not asked."
        ));
    }
    said
}

fn told(record: &Record, page: Option<&std::path::Path>) -> String {
    let mut lines = vec![format!(
        "{} from {} to {}: {} events replayed after {} known before, {} questions asked, in {:.0} s",
        record.project,
        record.from.date(),
        record.until.date(),
        thousands(record.events),
        thousands(record.history_events),
        thousands(record.questions),
        record.seconds
    )];
    if record.beside_server {
        lines.push(
            "a server has the original open: what it had not landed yet is not in here".to_owned(),
        );
    }
    for model in &record.models {
        lines.push(format!(
            "\n{}: {} promoted, {} refused, {} skipped, {} failed",
            model.model,
            model.count(RunState::Passed),
            model.count(RunState::Refused),
            model.count(RunState::Skipped),
            model.count(RunState::Failed)
        ));
        let rows: Vec<Vec<String>> = model.months.iter().map(month_row).collect();
        if !rows.is_empty() {
            lines.push(table(
                &["month", "answers", "versions", &model.metric, "interval"],
                &rows,
            ));
        }
        let refused = model
            .runs
            .iter()
            .filter(|run| run.state == RunState::Refused);
        lines.extend(refused.map(|run| {
            let number = run.version.unwrap_or_default();
            format!(
                "  {} refused @{number}: {}",
                run.at.date(),
                run.reasons.join("; ")
            )
        }));
        match (&model.staleness, &model.staleness_unknown) {
            (Some(measured), _) => lines.push(format!("  age: {}", measured.sentence)),
            (None, Some(why)) => lines.push(format!("  age: {why}")),
            (None, None) => {}
        }
        lines.extend(
            model
                .worth
                .as_ref()
                .map(|worth| format!("  worth: {}", worth.sentence)),
        );
    }
    lines.push(format!(
        "\n{} values of features were read again from the lake: {} differ from what was served",
        thousands(record.values_compared),
        thousands(record.values_that_differ)
    ));
    lines.push(String::new());
    lines.extend(
        record
            .assumptions
            .iter()
            .map(|one| format!("assumed: {one}")),
    );
    if let Some(page) = page {
        lines.push(format!("\nthe report with charts: {}", page.display()));
    }
    lines.join("\n")
}

fn month_row(month: &record::OfMonth) -> Vec<String> {
    vec![
        month.month.clone(),
        thousands(month.answers as u64),
        month.versions_told(),
        chart::plain(month.value),
        chart::interval(month.interval),
    ]
}

/// A share that is said on the command line.
pub fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text
        .parse()
        .map_err(|_| "write a number from 0 to 1".to_owned())?;
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err("a share is from 0 to 1".to_owned()),
    }
}

/// An amount that is said on the command line.
pub fn amount(text: &str) -> Result<f64, String> {
    let amount: f64 = text.parse().map_err(|_| "write a number".to_owned())?;
    amount
        .is_finite()
        .then_some(amount)
        .ok_or_else(|| "an amount is finite".to_owned())
}
