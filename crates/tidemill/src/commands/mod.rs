//! What each command does.

mod alerts;
mod answers;
mod backup;
mod bench;
mod data;
mod dataset;
mod dataset_text;
mod decisions;
mod doctor;
mod erase;
mod export;
mod features;
mod files;
mod import;
mod keys;
mod models;
mod recommend;
mod rollout;
mod runs;
mod scorecard;
mod serve;
mod sql;
mod staleness;
mod target_file;
mod users;
mod value;

use std::path::Path;

use anyhow::Result;

use crate::backtest;
use crate::cli::{BenchCommand, Cli, Command, DataArgs, DrillCommand, RunsCommand};
use crate::client::Client;
use crate::config::Config;
use crate::demo;
use crate::output::Output;

/// Carries out a command.
pub async fn run(cli: &Cli) -> Result<()> {
    let output = Output::new(cli.json);
    match &cli.command {
        Command::Demo(args) => demo::run(cli, args).await,
        Command::Backtest(args) => backtest::run(cli, args, output).await,
        Command::Init(args) => files::init(args, output),
        Command::Check(args) => files::check(&args.project, output),
        Command::Config => files::config(&configure(cli, &[], None, None)?, output),
        Command::Bench(BenchCommand::Recommend(args)) => bench::recommend(args, output),
        Command::Serve(args) => {
            let config = configure(cli, &[], args.data.as_deref(), args.listen.as_deref())?;
            serve::run(&config, args, output).await
        }
        Command::Users(command) => {
            let config = configure(cli, &[], command.data(), None)?;
            users::run(&config, command, output).await
        }
        Command::Backup(args) => {
            let config = configure(cli, &[], args.data.data.as_deref(), None)?;
            backup::run(&config, args, output).await
        }
        Command::Import(args) => {
            import::run(
                &configure(cli, &[], args.data.as_deref(), None)?,
                args,
                output,
            )
            .await
        }
        other => {
            let data = data_of(other);
            let config = configure(cli, &[], data.data.as_deref(), None)?;
            let client = Client::connect(&config, data).await?;
            let result = ask(&client, other, output).await;
            client.close()?;
            result
        }
    }
}

/// The commands that ask a project something.
async fn ask(client: &Client, command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Features(command) => features::run(client, command, output).await,
        Command::Dataset(command) => dataset::run(client, command, output).await,
        Command::Train(args) => models::train(client, &args.model, output).await,
        Command::Models(args) => models::show(client, args.model.as_deref(), output).await,
        Command::Promote(args) => models::promote(client, args, output).await,
        Command::Rollback(args) => models::rollback(client, args, output).await,
        Command::Rollout(args) => rollout::show(client, &args.model, output).await,
        Command::Drill(DrillCommand::Rollback(args)) => {
            rollout::drill(client, &args.model, output).await
        }
        Command::Predict(args) => decisions::predict(client, args, output).await,
        Command::Recommend(args) => recommend::run(client, args, output).await,
        Command::Runs(command) => runs::run(client, command, output).await,
        Command::Erase(args) => erase::run(client, args, output).await,
        Command::Export(args) => export::run(client, args, output).await,
        Command::Value(args) => value::run(client, args, output).await,
        Command::Scorecard(args) => scorecard::run(client, args, output).await,
        Command::Staleness(args) => staleness::run(client, args, output).await,
        Command::Alerts(args) => alerts::run(client, args, output).await,
        Command::Data(args) => data::run(client, args, output).await,
        Command::Answers(args) => answers::run(client, args, output).await,
        Command::Sql(args) => sql::run(client, args, output).await,
        Command::Decisions(args) => decisions::show(client, args, output).await,
        Command::Keys(command) => keys::run(client, command, output).await,
        Command::Doctor(_) => doctor::run(client, output).await,
        Command::Demo(_)
        | Command::Backtest(_)
        | Command::Init(_)
        | Command::Check(_)
        | Command::Serve(_)
        | Command::Import(_)
        | Command::Bench(_)
        | Command::Users(_)
        | Command::Backup(_)
        | Command::Config => Ok(()),
    }
}

fn data_of(command: &Command) -> &DataArgs {
    use crate::cli::{DatasetCommand, FeaturesCommand, KeysCommand};
    const NONE: &DataArgs = &DataArgs {
        data: None,
        project: None,
    };
    match command {
        Command::Features(FeaturesCommand::Suggest(data) | FeaturesCommand::Show { data, .. }) => {
            data
        }
        Command::Features(FeaturesCommand::Check(args)) => &args.data,
        Command::Dataset(
            DatasetCommand::Build { data, .. }
            | DatasetCommand::Show { data, .. }
            | DatasetCommand::Explain { data, .. }
            | DatasetCommand::Diff { data, .. }
            | DatasetCommand::Export { data, .. },
        ) => data,
        Command::Train(args) => &args.data,
        Command::Models(args) => &args.data,
        Command::Predict(args) => &args.data,
        Command::Recommend(args) => &args.data,
        Command::Runs(
            RunsCommand::List { data, .. }
            | RunsCommand::Show { data, .. }
            | RunsCommand::Diff { data, .. },
        ) => data,
        Command::Erase(args) => &args.data,
        Command::Export(args) => &args.data,
        Command::Value(args) => &args.data,
        Command::Scorecard(args) => &args.data,
        Command::Staleness(args) => &args.data,
        Command::Alerts(args) => &args.data,
        Command::Data(args) => &args.data,
        Command::Answers(args) => &args.data,
        Command::Sql(args) => &args.data,
        Command::Decisions(args) => &args.data,
        Command::Promote(args) => &args.data,
        Command::Rollback(args) => &args.data,
        Command::Rollout(args) | Command::Drill(DrillCommand::Rollback(args)) => &args.data,
        Command::Keys(
            KeysCommand::Create { data, .. }
            | KeysCommand::List(data)
            | KeysCommand::Revoke { data, .. },
        ) => data,
        Command::Doctor(data) => data,
        Command::Demo(_)
        | Command::Backtest(_)
        | Command::Init(_)
        | Command::Check(_)
        | Command::Serve(_)
        | Command::Import(_)
        | Command::Bench(_)
        | Command::Users(_)
        | Command::Backup(_)
        | Command::Config => NONE,
    }
}

/// The settings of a command: those that suit it, under what the user sets.
pub fn configure(
    cli: &Cli,
    suited: &[(&str, &str)],
    data: Option<&Path>,
    listen: Option<&str>,
) -> Result<Config> {
    let suited = suited.iter();
    let mut flags: Vec<(String, String)> = suited
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    flags.extend(cli.set.iter().cloned());
    flags.extend(data.map(|data| ("data".to_owned(), data.display().to_string())));
    flags.extend(listen.map(|listen| ("listen".to_owned(), listen.to_owned())));
    Config::load(cli.config.as_deref(), &flags)
}
