//! `agg-producer`: Deribit trades to candles and moving averages.

use std::process::ExitCode;

use agg_producer::{App, Config};
use common::cli::{self, Invocation, Program};
use common::config::ServiceConfig as _;
use common::{Failure, failure, service, telemetry};

const PROGRAM: Program = Program {
    version: env!("CARGO_PKG_VERSION"),
    about: "Turns trades in Kafka into candles and moving averages, each window once and exactly right",
    examples: "agg-producer --config agg-producer.toml\nKSTREAM__WINDOW__SIZE=1m agg-producer\nagg-producer --print-config",
};

fn main() -> ExitCode {
    failure::report(Config::SERVICE.name(), run())
}

fn run() -> Result<(), Failure> {
    match cli::load::<Config>(&PROGRAM)? {
        Invocation::Run(config) => serve(config),
        Invocation::Exit => Ok(()),
    }
}

#[tokio::main]
async fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.log, &config.tracing)?;
    service::run(telemetry, async |shutdown| App::build(config, shutdown).await, App::run).await
}
