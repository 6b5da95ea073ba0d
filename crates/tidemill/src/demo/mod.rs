//! `tidemill demo`: thirteen months of a real shop through the whole loop, on a virtual clock.
//!
//! Nothing here is a side door: each invoice is sent to the handlers that live traffic meets, each question is asked
//! of the same handlers, and the loop trains, examines and promotes when its own schedule says so. What is virtual is the clock.

mod replay;
mod shop;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidemill_core::clock::{Stopwatch, VirtualClock};
use tidemill_core::project::Project;
use tidemill_core::{Clock, ModelName, Span};
use tidemill_store::catalog::Scope;

use crate::cli::{Cli, DemoArgs};
use crate::commands::configure;
use crate::node::Node;
use crate::output::Output;
use crate::replay::{Driver, Folder, SETTINGS};
use crate::serving;
use replay::Replay;
use timeline::Timeline;

/// While a model is trained the virtual clock stands still and nobody asks, so training has all cores.
const TRAINING: (&str, &str) = ("training_threads", "all");
/// How often the virtual clock is moved on by real time after the replay.
const FOLLOW: Duration = Duration::from_millis(200);

/// Replays the year, prints the timeline, then serves.
pub async fn run(cli: &Cli, args: &DemoArgs) -> Result<()> {
    let stopwatch = Stopwatch::start();
    let folder = Folder::new(args.data.clone(), "demo", "the demo")?;
    let suited = [&SETTINGS[..], &[TRAINING]].concat();
    let config = configure(cli, &suited, Some(&folder.path), args.listen.as_deref())?;
    let project = Project::parse(shop::PROJECT).context("the demo's project file has problems")?;
    let models: Vec<ModelName> = project.models.keys().cloned().collect();
    let name = project.name.clone();
    let listener = if args.exit {
        None
    } else {
        Some(serving::listen(&config).await?)
    };

    let mut visits = shop::visits()?.peekable();
    let Some(Ok(first)) = visits.peek() else {
        bail!("the shop's data are empty")
    };
    let start = first.time.floor(Span::from_days(1));
    let clock = Arc::new(VirtualClock::at(start));
    let node = Node::open(&config, vec![project], clock.clone()).await?;
    let project_loop = node
        .loops
        .get(&name)
        .context("the demo's project is open")?
        .clone();

    let mut timeline = Timeline::new(Output::new(cli.json), models.clone(), start);
    let driver = Driver::new(&node, &name, clock.clone())?;
    let mut replay = Replay::new(driver, models);
    let end = args
        .days
        .map(|days| start + Span::from_days(i64::from(days)));
    timeline.begin();
    for visit in visits {
        let visit = visit?;
        if end.is_some_and(|end| visit.time >= end) {
            break;
        }
        replay.pass_time_until(visit.time, &mut timeline).await?;
        replay.visit(&visit, &mut timeline).await?;
    }
    replay.finish(&mut timeline).await?;
    timeline.end(stopwatch.seconds(), &project_loop).await?;
    timeline.compared(&project_loop.check_consistency(1.0).await?);
    timeline.scored(&project_loop).await?;

    let Some(listener) = listener else {
        project_loop.commit()?;
        return Ok(());
    };
    let key = node.new_key(&name, Scope::Read, clock.as_ref()).await?;
    let announced = serving::announce(&folder.path, &listener)?;
    let address = listener.local_addr()?;
    let console = node.first_link(address).await?;
    timeline.farewell(
        &address.to_string(),
        (&key, console.as_deref()),
        &replay.last_answer(),
    );
    let following = tokio::spawn(follow(clock));
    let served = serving::run(node, listener, announced).await;
    following.abort();
    served
}

/// After the replay the clock goes on from where the year ended, as fast as real time.
async fn follow(clock: Arc<VirtualClock>) {
    let end = clock.now();
    let stopwatch = Stopwatch::start();
    loop {
        tokio::time::sleep(FOLLOW).await;
        let elapsed = i64::try_from(stopwatch.micros()).unwrap_or(i64::MAX);
        clock.advance_to(end + Span::from_micros(elapsed));
    }
}
