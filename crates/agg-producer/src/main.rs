//! `agg-producer`: Deribit trades to candles and moving averages.

use std::process::ExitCode;

use agg_producer::{App, Config};
use common::cli::{self, Invocation};
use common::config::ServiceConfig as _;
use common::{Failure, failure, service, telemetry};

const ABOUT: &str =
    "Turns trades in Kafka into candles and moving averages, each window once and exactly right";

fn main() -> ExitCode {
    failure::report(Config::SERVICE.name(), run())
}

fn run() -> Result<(), Failure> {
    match cli::load::<Config>(env!("CARGO_PKG_VERSION"), ABOUT)? {
        Invocation::Run(config) => serve(config),
        Invocation::Exit => Ok(()),
    }
}

#[tokio::main]
async fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.log, &config.tracing)?;
    service::run(telemetry, async |shutdown| App::build(config, shutdown).await, App::run).await
}
