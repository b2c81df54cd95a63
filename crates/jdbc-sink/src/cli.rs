//! The command line: `verify`, `status` and `skip` beside what every service has.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::cli::{self, CommonArgs, Invocation, Program};
use common::config::ServiceConfig as _;
use common::{Failure, failure};

use crate::Config;
use crate::connect::api::ConnectApi;
use crate::dead_letters::skip;
use crate::monitor::status::status;
use crate::postgres::connection::Database;
use crate::record::RecordLocation;
use crate::sink::Sink;
use crate::verify::verify;

const PROGRAM: Program = Program {
    version: env!("CARGO_PKG_VERSION"),
    about: "Applies the SQL migrations and connector configurations of the Postgres sink, and restarts failed connectors",
    examples: "jdbc-sink --config jdbc-sink.toml\njdbc-sink status\njdbc-sink verify --json --wait 5m\njdbc-sink --print-config",
};

#[derive(Debug, Parser)]
struct SinkArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Option<SinkCommand>,
}

#[derive(Debug, Subcommand)]
enum SinkCommand {
    /// Ask the running service whether it is ready; exit 0 if so (for container health checks)
    Health,
    /// Compare each topic with its table, record by record (exit 1 and the first differences if they do not match)
    #[command(after_help = "Examples:\n  \
        jdbc-sink verify\n  \
        jdbc-sink verify --wait 10m       # after a long backfill\n  \
        jdbc-sink verify --json | jq '.sinks[] | {topic, match, records, rows}'")]
    Verify(VerifyArgs),
    /// Show the state, lag and dead letters of each connector (exit 1 if any is not running)
    #[command(after_help = "Examples:\n  \
        jdbc-sink status\n  \
        jdbc-sink status --json | jq '.connectors[] | {connector, running, lag}'")]
    Status(StatusArgs),
    /// Skip a record that Postgres rejects; it is stored as a dead letter
    #[command(
        alias = "pass-over",
        after_help = "Topic, partition and offset are those that `jdbc-sink status` shows.\n\n\
            Examples:\n  \
            jdbc-sink skip --topic deribit.trades --partition 3 --offset 4711"
    )]
    Skip(SkipArgs),
}

#[derive(Debug, Args)]
struct SkipArgs {
    /// Topic of the record
    #[arg(long)]
    topic: String,
    /// Partition of the record
    #[arg(long)]
    partition: i32,
    /// Offset of the record
    #[arg(long)]
    offset: i64,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for rows not yet written
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Runs the command, or `serve` without one.
///
/// # Errors
/// The failure of the command. If topics and tables do not match, or a connector does not run, that is one.
pub fn run(serve: impl FnOnce(Config) -> Result<(), Failure>) -> Result<(), Failure> {
    let service = Config::SERVICE.name();
    let Some(args) = cli::parse::<SinkArgs>(service, &PROGRAM)? else {
        return Ok(());
    };
    let Invocation::Run(config) = args.common.load::<Config>(&[])? else { return Ok(()) };
    match args.command {
        Some(SinkCommand::Health) => cli::health(config.admin()),
        Some(SinkCommand::Verify(args)) => block_on(run_verify(&config, &args)),
        Some(SinkCommand::Status(args)) => block_on(run_status(&config, &args)),
        Some(SinkCommand::Skip(args)) => block_on(run_skip(&config, args)),
        None => serve(config),
    }
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    failure::exit_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(command)
}

async fn run_verify(config: &Config, args: &VerifyArgs) -> Result<(), Failure> {
    let (sinks, database) = (Sink::all(&config.topics), Database::new(&config.postgres)?);
    let (kafka, registry) = (&config.kafka, &config.schema_registry);
    let deadline = *config.startup_deadline;
    let report = Box::pin(verify(&sinks, kafka, registry, &database, deadline, args.wait)).await?;
    print(&if args.json { json(&report)? } else { report.text() })?;
    if report.matches { Ok(()) } else { Err(anyhow::anyhow!("topics and tables do not match").into()) }
}

async fn run_status(config: &Config, args: &StatusArgs) -> Result<(), Failure> {
    let (sinks, api) = (Sink::all(&config.topics), ConnectApi::new(&config.connect.url)?);
    let (kafka, registry) = (&config.kafka, &config.schema_registry);
    let report = Box::pin(status(&sinks, &api, kafka, registry, &config.postgres)).await?;
    print(&if args.json { json(&report)? } else { report.text() })?;
    if report.healthy { Ok(()) } else { Err(anyhow::anyhow!("at least one connector is not running").into()) }
}

async fn run_skip(config: &Config, args: SkipArgs) -> Result<(), Failure> {
    let SkipArgs { topic, partition, offset } = args;
    let location = RecordLocation { topic, partition, offset };
    let (sinks, api) = (Sink::all(&config.topics), ConnectApi::new(&config.connect.url)?);
    let (kafka, registry) = (&config.kafka, &config.schema_registry);
    let database = Database::new(&config.postgres)?;
    Box::pin(skip(&location, &sinks, &api, kafka, registry, &database)).await
}

fn json(report: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(report).map_err(anyhow::Error::from)?;
    Ok(text + "\n")
}

fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes()).map_err(anyhow::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parsed(args: &[&str]) -> Result<SinkArgs, clap::Error> {
        SinkArgs::try_parse_from(std::iter::once(&"jdbc-sink").chain(args))
    }

    #[test]
    fn the_service_runs_without_a_command() {
        assert!(parsed(&[]).unwrap().command.is_none());
        assert!(matches!(parsed(&["health"]).unwrap().command, Some(SinkCommand::Health)));
        assert!(parsed(&["--check-config"]).unwrap().common.check_config);
    }

    #[test]
    fn verify_prints_text_and_waits_two_minutes_by_default() {
        let Some(SinkCommand::Verify(args)) = parsed(&["verify"]).unwrap().command else { panic!() };
        assert_eq!((args.json, args.wait), (false, Duration::from_secs(120)));
        let given = parsed(&["verify", "--json", "--wait", "5s", "--config", "x.toml"]).unwrap();
        assert!(given.common.config.is_some());
        let Some(SinkCommand::Verify(args)) = given.command else { panic!() };
        assert_eq!((args.json, args.wait), (true, Duration::from_secs(5)));
    }

    #[test]
    fn skip_is_also_known_by_its_former_name_which_help_does_not_show() {
        for name in ["skip", "pass-over"] {
            let given = parsed(&[name, "--topic", "t", "--partition", "3", "--offset", "7"]).unwrap();
            let Some(SinkCommand::Skip(args)) = given.command else { panic!() };
            assert_eq!((args.topic.as_str(), args.partition, args.offset), ("t", 3, 7));
        }
        assert!(!SinkArgs::command().render_help().to_string().contains("pass-over"));
    }

    #[test]
    fn the_help_of_each_command_has_examples_that_parse() {
        for name in ["verify", "status", "skip"] {
            let help = SinkArgs::command().find_subcommand_mut(name).unwrap().render_long_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap();
            for line in examples.lines() {
                let command = line.trim().trim_start_matches("jdbc-sink ");
                let command = command.split(['|', '#']).next().unwrap();
                parsed(&command.split_whitespace().collect::<Vec<_>>()).unwrap();
            }
        }
    }
}
