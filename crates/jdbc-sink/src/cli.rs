//! The command line: what every service has, `verify`, `status` and `pass-over`.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::cli::{self, CommonArgs};
use common::config::{self, ServiceConfig as _};
use common::{Failure, exit};

use crate::Config;
use crate::dead_letters::headers::Origin;
use crate::dead_letters::pass_over;
use crate::monitor::status::status;
use crate::verify::verify;

const ABOUT: &str =
    "Makes the tables and the Kafka Connect connectors that bring the topics into Postgres, and watches them";

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the running service whether it is ready; exit 0 if so (for container health checks)
    Health,
    /// Compare each topic with its table, record by record; exit 1 and the first differences if there are any
    Verify(VerifyArguments),
    /// Tell state, lag and dead letters of each connector; exit 1 if one does not run
    Status(StatusArguments),
    /// Pass over a record that Postgres refuses: it becomes a dead letter, and everything else gets its row
    PassOver(PassOverArguments),
}

/// What `pass-over` takes: the record's place, as the service tells it.
#[derive(Debug, Args)]
struct PassOverArguments {
    /// The topic that the record is in
    #[arg(long)]
    topic: String,
    /// Its partition there
    #[arg(long)]
    partition: i32,
    /// Its offset there
    #[arg(long)]
    offset: i64,
}

/// What `status` takes.
#[derive(Debug, Args)]
struct StatusArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `verify` takes.
#[derive(Debug, Args)]
struct VerifyArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How long rows are waited for that the connectors have not brought yet
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Does what the command line asks for; `serve` is the service itself.
///
/// # Errors
/// What ended it; that topics and tables differ is one.
pub fn run(serve: impl FnOnce(Config) -> Result<(), Failure>) -> Result<(), Failure> {
    let service = Config::SERVICE.name();
    let Some(arguments) = cli::parse::<Arguments>(service, env!("CARGO_PKG_VERSION"), ABOUT)? else {
        return Ok(());
    };
    let config: Config = config::load(arguments.common.config.as_deref())?;
    match arguments.command {
        _ if arguments.common.check_config => Ok(()),
        Some(Command::Health) => cli::health(config.admin()),
        Some(Command::Verify(arguments)) => ask(verify_and_print(&config, &arguments)),
        Some(Command::Status(arguments)) => ask(status_and_print(&config, &arguments)),
        Some(Command::PassOver(PassOverArguments { topic, partition, offset })) => {
            ask(async { Box::pin(pass_over(&config, &Origin { topic, partition, offset })).await })
        }
        None => serve(config),
    }
}

fn ask(question: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    exit::end_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(question)
}

async fn verify_and_print(config: &Config, arguments: &VerifyArguments) -> Result<(), Failure> {
    let report = Box::pin(verify(config, arguments.wait)).await?;
    print(&if arguments.json { json(&report)? } else { report.text() })?;
    if report.same { Ok(()) } else { Err(anyhow::anyhow!("topics and tables are not the same").into()) }
}

async fn status_and_print(config: &Config, arguments: &StatusArguments) -> Result<(), Failure> {
    let status = Box::pin(status(config)).await?;
    print(&if arguments.json { json(&status)? } else { status.text() })?;
    if status.well { Ok(()) } else { Err(anyhow::anyhow!("not everything runs").into()) }
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

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once(&"jdbc-sink").chain(arguments))
    }

    #[test]
    fn the_service_runs_unless_something_else_is_asked_for() {
        assert!(parsed(&[]).unwrap().command.is_none());
        assert!(matches!(parsed(&["health"]).unwrap().command, Some(Command::Health)));
        assert!(parsed(&["--check-config"]).unwrap().common.check_config);
    }

    #[test]
    fn verify_prints_text_and_waits_two_minutes_by_itself() {
        let Some(Command::Verify(arguments)) = parsed(&["verify"]).unwrap().command else { panic!() };
        assert_eq!((arguments.json, arguments.wait), (false, Duration::from_secs(120)));
        let given = parsed(&["verify", "--json", "--wait", "5s", "--config", "x.toml"]).unwrap();
        assert!(given.common.config.is_some());
        let Some(Command::Verify(arguments)) = given.command else { panic!() };
        assert_eq!((arguments.json, arguments.wait), (true, Duration::from_secs(5)));
    }
}
