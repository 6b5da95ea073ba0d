//! The command line: every command and flag, once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tidemill_core::{ProjectName, Timestamp};

/// The whole production machine-learning loop in one binary: events in, answers out, and it learns from what
/// comes back.
#[derive(Debug, Parser)]
#[command(
    name = "tidemill",
    version,
    after_help = "First steps:\n  tidemill demo                      a real year of a real shop, replayed in a few minutes\n  tidemill init                      write a first project file here\n  tidemill serve --project FILE      collect events and answer questions\n\nEvery command explains itself: tidemill help COMMAND"
)]
pub struct Cli {
    /// Server settings are read from this file instead of ./tidemill.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any server setting, like --set landing_age=5m (see `tidemill config`). May be repeated.
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay thirteen months of a real shop through the whole loop, then stay up as a server.
    #[command(
        after_help = "Examples:\n  tidemill demo\n  tidemill demo --exit --json > timeline.jsonl"
    )]
    Demo(DemoArgs),
    /// Write a first project file.
    #[command(
        after_help = "Example:\n  tidemill init --name shop && tidemill check --project shop.toml"
    )]
    Init(InitArgs),
    /// Find everything that is wrong with a project file.
    #[command(after_help = "Example:\n  tidemill check --project shop.toml")]
    Check(ProjectArgs),
    /// Collect events and answer questions over HTTP.
    #[command(
        after_help = "Examples:\n  tidemill serve --project shop.toml\n  tidemill serve --project shop.toml --project blog.toml --listen 0.0.0.0:7878"
    )]
    Serve(ServeArgs),
    /// Import history from CSV, JSON lines or Parquet.
    #[command(
        after_help = "Example, with [sources.orders] in the project file:\n  tidemill import orders.csv.zst --project shop.toml --source orders\n\nAn import that was interrupted goes on where it stopped; one that was finished adds nothing."
    )]
    Import(ImportArgs),
    /// Suggest or show features.
    #[command(subcommand)]
    Features(FeaturesCommand),
    /// Build, look at, compare and export the rows that a model learns from.
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// Train a model now and examine the new version.
    #[command(after_help = "Example:\n  tidemill train will_return --project shop.toml")]
    Train(ModelArgs),
    /// Show models, their champions and their quality; with a model, its versions and runs.
    Models(ModelsArgs),
    /// Look at the runs of a model: what set them off, what they saw, what they found.
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Ask a model about a person.
    #[command(
        after_help = "Example:\n  tidemill predict will_return --user 17850 --project shop.toml"
    )]
    Predict(PredictArgs),
    /// Ask a model which items are for a person or a session, or go with an item.
    #[command(
        after_help = "Examples:\n  tidemill recommend for_you --user 17850 --project shop.toml\n  tidemill recommend for_you --session 85123A,22423 --filter \"item.price < 5\"\n  tidemill recommend for_you --similar 85123A\n  tidemill recommend for_you --all --to lists.parquet --active-within 90d"
    )]
    Recommend(RecommendArgs),
    /// Show the newest decisions, or everything about one.
    Decisions(DecisionsArgs),
    /// Let a version answer from now on.
    Promote(PromoteArgs),
    /// Return to the version that answered before; while a version takes over, send that one back.
    Rollback(RollbackArgs),
    /// Show how a version takes over: its stage, its share, the numbers of both, what it waits for.
    #[command(after_help = "Example:\n  tidemill rollout will_return --project shop.toml")]
    Rollout(ModelArgs),
    /// Try whether what must work in an emergency does.
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Write everything that is stored about a person into a file: what they did, what is known, what was answered, what became of it.
    #[command(after_help = "Example:\n  tidemill export 17850 --to 17850.json")]
    Export(ExportArgs),
    /// Erase a person: events, decisions, outcomes and everything that is known.
    #[command(
        after_help = "Example:\n  tidemill erase 17850 --reason \"asked on the phone\" --yes\n\nIt cannot be undone. What arrives later begins a new history."
    )]
    Erase(EraseArgs),
    /// Make, list and revoke access keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Copy the data folder with the hash of every file, also beside a running server; or verify such a copy.
    #[command(
        after_help = "Examples:\n  tidemill backup /backups/monday --data data\n  tidemill backup --verify /backups/monday\n  cp -a /backups/monday/data restored && tidemill serve --project shop.toml --data restored\n\nWho was erased since is still in it: keep backups only as long as you may."
    )]
    Backup(BackupArgs),
    /// Who may use the console, and links that sign them in.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidemill users add ada@example.com --role editor\n  tidemill users projects ada@example.com shop news\n  tidemill users link ada@example.com"
    )]
    Users(UsersCommand),
    /// Show what a model has earned, month by month, beside its holdout.
    #[command(after_help = "Example:\n  tidemill value for_you --project shop.toml")]
    Value(ModelArgs),
    /// Score a model by 28 tests of readiness, each with its evidence and its age; or record a test that a person did.
    #[command(
        after_help = "Examples:\n  tidemill scorecard\n  tidemill scorecard will_return --project shop.toml\n  tidemill scorecard will_return --record model1 --by \"the data team\" --note \"reviewed in the weekly minutes\"\n\nAn automatic test counts 1, one that was done by hand and written down 0.5, evidence that is too old 0. The score is the smallest of the four sums."
    )]
    Scorecard(ScorecardArgs),
    /// Replay the project's own history on a virtual clock, in a copy: what would the loop have done?
    #[command(
        after_help = "Examples:\n  tidemill backtest --project shop.toml --out report.html\n  tidemill backtest --from 2026-01-01 --model will_return --json\n  tidemill backtest --project other-features.toml     the same history with another project file\n\nThe original is only read. While a server has it open, what has not landed yet is left out."
    )]
    Backtest(BacktestArgs),
    /// Measure how much the versions of a model lose when they are a day, a week, a month old.
    #[command(after_help = "Example:\n  tidemill staleness will_return --project shop.toml")]
    Staleness(StalenessArgs),
    /// Show what is wrong, or silence an alert.
    #[command(
        after_help = "Examples:\n  tidemill alerts\n  tidemill alerts --silence event_stopped:Order --for 2d"
    )]
    Alerts(AlertsArgs),
    /// Show what arrives: how much, how complete, with which values, and what of it is not as before.
    #[command(
        after_help = "Examples:\n  tidemill data\n  tidemill data \"Order Completed\" --project shop.toml"
    )]
    Data(EventArgs),
    /// Show what a model answers and from what: which versions, with which scores, from which features, and what of it is not as before or as
    /// in training.
    #[command(
        after_help = "Examples:\n  tidemill answers will_return\n  tidemill answers will_return --feature user.orders_30d"
    )]
    Answers(AnswersArgs),
    /// Ask the project's tables in SQL: events, decisions, outcomes, datasets. Nothing can be changed.
    #[command(
        after_help = "Examples:\n  tidemill sql\n  tidemill sql \"SELECT name, count(*) FROM events GROUP BY name\"\n  tidemill sql --csv \"SELECT entity, score FROM decisions WHERE model = 'will_return'\" > scores.csv"
    )]
    Sql(SqlArgs),
    /// Say what keeps a project from giving good answers.
    Doctor(DataArgs),
    /// Measure learners on fixed splits of public data.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Show the effective server settings and where each comes from.
    Config,
}

/// What `bench` measures.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Learn recommendations from one file, ask for those of another, over the whole catalogue.
    #[command(
        after_help = "Examples:\n  tidemill bench recommend --train gowalla/train.txt.zst --test gowalla/test.txt.zst\n  tidemill bench recommend --train Beauty.txt.zst --format sequence\n  tidemill bench recommend --train train_seq.txt.zst --test test.tsv.zst --format session --json\n\nThe configuration is the same for all data; what is chosen is chosen on a part of the training data."
    )]
    Recommend(BenchRecommendArgs),
}

/// Arguments of `bench recommend`.
#[derive(Debug, Args)]
pub struct BenchRecommendArgs {
    /// What is learnt from, as text, plain or compressed with zstd.
    #[arg(long, value_name = "FILE")]
    pub train: PathBuf,
    /// What is asked; not needed for sequences, whose last items are the test.
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// How the files are written; found out from them where absent.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<SplitFormat>,
    /// Published figures to print beside: gowalla, amazon-beauty, diginetica, or a file with lines of name TAB figure TAB figure.
    /// By default those of the set that the training file's path names.
    #[arg(long, value_name = "NAME|FILE")]
    pub published: Option<String>,
    /// Only the sources that count, as a project's `training.budget` below 0.5 has them: seconds instead of minutes.
    #[arg(long)]
    pub quick: bool,
    /// Where random numbers start.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How a split is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SplitFormat {
    /// Lines of `user item item …`; items of the test file were taken by the same user: recall of unseen items.
    Pairs,
    /// Lines of `user item item …`, oldest first; the last item is the test.
    Sequence,
    /// Training: lines of `item item …`, one session each, in order of time. Test: `item item … TAB item`.
    Session,
    /// Training: `user,item,type,time` with a heading; types are view, cart and buy. Test: `user,item` with a heading, the buys held back.
    Events,
}

/// Where the data are.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The project's file, or the name of a project in the data folder; not needed while there is only one.
    #[arg(long, value_name = "FILE")]
    pub project: Option<String>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The data folder; a temporary one where absent. It must be empty.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port to serve on after the replay.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Stop after the replay instead of staying up as a server.
    #[arg(long)]
    pub exit: bool,
    /// Replay only the first days.
    #[arg(long, value_name = "DAYS")]
    pub days: Option<u32>,
}

/// Arguments of `data`.
#[derive(Debug, Args)]
pub struct EventArgs {
    /// Show this event day by day, with its properties.
    pub event: Option<String>,
    /// Where the project is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `answers`.
#[derive(Debug, Args)]
pub struct AnswersArgs {
    /// The model.
    pub model: String,
    /// Show this feature day by day, as it was served.
    #[arg(long)]
    pub feature: Option<String>,
    /// Where the project is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The question; the tables and their columns where absent.
    pub sql: Option<String>,
    /// Print the rows as CSV.
    #[arg(long, requires = "sql")]
    pub csv: bool,
    /// Where the project is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The project's name; the name of the folder where absent.
    #[arg(long)]
    pub name: Option<String>,
    /// Where to write it; NAME.toml where absent. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments that name a project file.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    /// The project file.
    #[arg(long, value_name = "FILE")]
    pub project: PathBuf,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A project file; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    pub project: Vec<PathBuf>,
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The files; those of the source's `path` where absent.
    pub files: Vec<PathBuf>,
    /// The project file.
    #[arg(long, value_name = "FILE")]
    pub project: PathBuf,
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which [sources.NAME] of the project file says what the columns mean; without one, columns are taken by
    /// their names.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Import a file again that was imported before; events that are known are not doubled.
    #[arg(long)]
    pub again: bool,
}

/// Subcommands of `features`.
#[derive(Debug, Subcommand)]
pub enum FeaturesCommand {
    /// Print a [features] section made from the events that were seen, with the reason of each choice.
    #[command(
        after_help = "Example:\n  tidemill features suggest --project shop.toml >> shop.toml"
    )]
    Suggest(DataArgs),
    /// Show what the features of a project are like, what they cost and what they are good for; or the values for a
    /// person.
    #[command(
        after_help = "Examples:\n  tidemill features show --project shop.toml\n  tidemill features show --model will_return\n  tidemill features show --user 17850"
    )]
    Show {
        /// Show only the features that this model reads.
        #[arg(long, value_name = "MODEL", conflicts_with = "user")]
        model: Option<String>,
        /// Show the values for this person.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Read the answers again that were given since the last check, from the lake, and compare every value with what was
    /// served; fails where one differs.
    #[command(after_help = "Example:\n  tidemill features check --project shop.toml --share 0.1")]
    Check(CheckFeaturesArgs),
}

/// How `features check` chooses.
#[derive(Debug, Args)]
pub struct CheckFeaturesArgs {
    /// The share of the answers that are read again, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub share: f64,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Subcommands of `dataset`.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Build the dataset that a training would learn from now, and keep it.
    #[command(
        after_help = "Examples:\n  tidemill dataset build will_return --project shop.toml\n  tidemill dataset build will_return --again 3     the same rows again, from the record"
    )]
    Build {
        /// The model.
        model: String,
        /// Build this version again from its record, and say whether the rows are the same bit for bit.
        #[arg(long, value_name = "VERSION")]
        again: Option<u64>,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show how a dataset came about and what is in it; where it is not said which, the newest, with a list of all.
    #[command(
        after_help = "Examples:\n  tidemill dataset show will_return\n  tidemill dataset show will_return@3 --json"
    )]
    Show {
        /// The model, or a dataset like will_return@3.
        dataset: String,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show the plan that read the rows of a dataset, with what each operator did: rows, time, what went to disk.
    #[command(
        after_help = "Examples:\n  tidemill dataset explain will_return\n  tidemill dataset explain will_return@3 --json"
    )]
    Explain {
        /// The model, or a dataset like will_return@3.
        dataset: String,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show what differs between two datasets: rows, definitions, and how far each feature has moved.
    #[command(after_help = "Example:\n  tidemill dataset diff will_return 3 7")]
    Diff {
        /// The model.
        model: String,
        /// The first version.
        a: u64,
        /// The second version.
        b: u64,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// Write the rows of a dataset to a Parquet or CSV file, for DuckDB, pandas or Polars.
    #[command(
        after_help = "Examples:\n  tidemill dataset export will_return --to rows.parquet\n  tidemill dataset export will_return 3 --to rows.csv"
    )]
    Export {
        /// The model.
        model: String,
        /// The version; the newest where absent.
        version: Option<u64>,
        /// The file, which ends in .parquet or .csv and must not be there yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Replace the file where it is there.
        #[arg(long)]
        overwrite: bool,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Arguments that name a model.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model.
    pub model: String,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `backtest`.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// The loop begins to work here; what happened before is only known.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// The replay ends before this.
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// Only this model; may be repeated.
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// Write a report with charts to this HTML file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite that file.
    #[arg(long)]
    pub force: bool,
    /// Replay in this folder, which must be empty, and keep it; in a temporary one where absent.
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
    /// Assumed for what it would have been worth: the share of the answers that are acted on.
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = crate::backtest::share)]
    pub acted_on: f64,
    /// Assumed: the share of the right ones among them that acting changes.
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = crate::backtest::share)]
    pub effect: f64,
    /// Assumed: what one changed case is worth. Amounts are worth themselves.
    #[arg(long, value_name = "AMOUNT", default_value = "1", value_parser = crate::backtest::amount)]
    pub worth: f64,
    /// The share of the answers whose features are read again from the lake.
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = crate::backtest::share)]
    pub consistency_share: f64,
    /// Where the history is.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `scorecard`.
#[derive(Debug, Args)]
pub struct ScorecardArgs {
    /// The model; all of them in a line each where absent.
    pub model: Option<String>,
    /// Record that this test was done.
    #[arg(long, value_name = "TEST", requires_all = ["model", "by", "note"])]
    pub record: Option<String>,
    /// Who did it.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// What was done, and where that is written down.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// When; now where absent.
    #[arg(long, value_name = "TIME")]
    pub date: Option<Timestamp>,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `staleness`.
#[derive(Debug, Args)]
pub struct StalenessArgs {
    /// The model.
    pub model: String,
    /// Show what was last measured instead of measuring.
    #[arg(long)]
    pub last: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Show this one in detail.
    pub model: Option<String>,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// What `runs` shows.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// The newest runs of a model.
    List {
        /// The model.
        model: String,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// One run, stage by stage; the newest where it is not said which.
    #[command(after_help = "Example:\n  tidemill runs show will_return")]
    Show {
        /// The model.
        model: String,
        /// The run's id.
        run: Option<String>,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// What differs between two runs of a model: data, features, metrics, checks; the newest two where it is not said which.
    #[command(after_help = "Example:\n  tidemill runs diff will_return")]
    Diff {
        /// The model.
        model: String,
        /// The earlier run's id.
        #[arg(requires = "b")]
        a: Option<String>,
        /// The later run's id.
        b: Option<String>,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
}

/// What is tried.
#[derive(Debug, Subcommand)]
pub enum DrillCommand {
    /// Plant a bad version where nobody hears it, and measure how long it takes until the champion answers again.
    #[command(
        after_help = "Example:\n  tidemill drill rollback will_return\n\nThe audit log has the result; it fails where the bad version stayed."
    )]
    Rollback(ModelArgs),
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The model.
    pub model: String,
    /// The person, by the id that the product knows them by.
    #[arg(long, required_unless_present = "anonymous_id")]
    pub user: Option<String>,
    /// The person, by an anonymous id.
    #[arg(long)]
    pub anonymous_id: Option<String>,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `recommend`.
#[derive(Debug, Args)]
pub struct RecommendArgs {
    /// The model.
    pub model: String,
    /// The person, by the id that the product knows them by.
    #[arg(long)]
    pub user: Option<String>,
    /// The person, by an anonymous id.
    #[arg(long)]
    pub anonymous_id: Option<String>,
    /// What was looked at just now, oldest first.
    #[arg(long, value_delimiter = ',', value_name = "ITEM,…")]
    pub session: Vec<String>,
    /// Items that go with this one, for nobody in particular.
    #[arg(long, value_name = "ITEM", conflicts_with_all = ["user", "anonymous_id", "session", "filter", "exclude", "diversity"])]
    pub similar: Option<String>,
    /// How many items.
    #[arg(long, default_value_t = 10)]
    pub limit: u32,
    /// Items that are not wanted.
    #[arg(long, value_delimiter = ',', value_name = "ITEM,…")]
    pub exclude: Vec<String>,
    /// What may be shown: SQL over item.…, user.…, request.…, seen, now.
    #[arg(long, value_name = "SQL")]
    pub filter: Option<String>,
    /// From 0, the best ones, to 1, those that are least alike.
    #[arg(long)]
    pub diversity: Option<f64>,
    /// A list for everybody whom the product knows, into a file.
    #[arg(long, requires = "to", conflicts_with_all = ["user", "anonymous_id", "session", "similar", "exclude"])]
    pub all: bool,
    /// With --all: the file, which ends in .parquet or .csv and must not be there yet.
    #[arg(long, value_name = "FILE", requires = "all")]
    pub to: Option<PathBuf>,
    /// With --all: only persons of whom something was heard in that time.
    #[arg(long, value_name = "SPAN", requires = "all")]
    pub active_within: Option<String>,
    /// With --all: replace the file where it is there.
    #[arg(long, requires = "all")]
    pub overwrite: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `alerts`.
#[derive(Debug, Args)]
pub struct AlertsArgs {
    /// Also those that are over.
    #[arg(long)]
    pub resolved: bool,
    /// Tell nobody of this open alert for a while.
    #[arg(long, value_name = "ID")]
    pub silence: Option<String>,
    /// How long.
    #[arg(long, value_name = "SPAN", default_value = "1d", requires = "silence")]
    pub r#for: String,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The person, by the id that the product knows them by.
    pub user: String,
    /// The id is an anonymous one.
    #[arg(long)]
    pub anonymous: bool,
    /// The file to write, as JSON; printed where absent.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The person, by the id that the product knows them by.
    pub user: String,
    /// The id is an anonymous one.
    #[arg(long)]
    pub anonymous: bool,
    /// Why; it is written into the audit log, the id is not.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Do it; without this it is only said what is known of the person.
    #[arg(long)]
    pub yes: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `decisions`.
#[derive(Debug, Args)]
pub struct DecisionsArgs {
    /// Show everything about this one.
    pub id: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The version, like will_return@3.
    pub version: String,
    /// Why; kept in the audit log.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Promote a version that the gate refused; needs a reason.
    #[arg(long)]
    pub override_gate: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The model.
    pub model: String,
    /// Why; kept in the audit log.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Where the data are.
    #[command(flatten)]
    pub data: DataArgs,
}

/// Subcommands of `users`.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Add a user and print a link that signs them in once.
    Add {
        /// What they are called: an address, a short name.
        name: String,
        /// What they may do: viewer, editor or admin.
        #[arg(long, default_value = "viewer")]
        role: tidemill_store::users::Role,
        /// Where the data are.
        #[command(flatten)]
        data: FolderArgs,
    },
    /// List users.
    List(FolderArgs),
    /// Change what a user may do.
    Role {
        /// Who.
        name: String,
        /// viewer, editor or admin.
        role: tidemill_store::users::Role,
        /// Where the data are.
        #[command(flatten)]
        data: FolderArgs,
    },
    /// Give a user some projects, or all of them; what they may do there is their role.
    Projects {
        /// Who.
        name: String,
        /// The only projects that they see from then on.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        projects: Vec<ProjectName>,
        /// All projects, also those to come.
        #[arg(long)]
        all: bool,
        /// Where the data are.
        #[command(flatten)]
        data: FolderArgs,
    },
    /// Print a link that signs a user in once, within a day.
    Link {
        /// Who.
        name: String,
        /// Where the data are.
        #[command(flatten)]
        data: FolderArgs,
    },
    /// Remove a user; their sessions end at once.
    Remove {
        /// Who.
        name: String,
        /// Where the data are.
        #[command(flatten)]
        data: FolderArgs,
    },
}

impl UsersCommand {
    /// Where the data are.
    pub fn data(&self) -> Option<&std::path::Path> {
        let (Self::Add { data, .. }
        | Self::List(data)
        | Self::Role { data, .. }
        | Self::Projects { data, .. }
        | Self::Link { data, .. }
        | Self::Remove { data, .. }) = self;
        data.data.as_deref()
    }
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder of the backup: a new or empty one, outside the data folder.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Copy nothing: read the backup in DIR again and say whether each file is as it was copied.
    #[arg(long)]
    pub verify: bool,
    /// Where the data are.
    #[command(flatten)]
    pub data: FolderArgs,
}

/// A data folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its secret is shown once.
    #[command(after_help = "Example:\n  tidemill keys create --project shop --scope write")]
    Create {
        /// What it may do: write (send events; safe in a browser), read (ask for answers) or admin.
        #[arg(long)]
        scope: tidemill_store::catalog::Scope,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
    /// List keys, without their secrets.
    List(DataArgs),
    /// Revoke a key by its id.
    Revoke {
        /// The id that `keys list` shows.
        id: String,
        /// Where the data are.
        #[command(flatten)]
        data: DataArgs,
    },
}
