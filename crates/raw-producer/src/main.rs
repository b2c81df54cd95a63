//! `raw-producer`: writes every trade that Deribit publishes to Kafka.

use std::process::ExitCode;

use common::cli::{self, Invocation, Program};
use common::config::ServiceConfig as _;
use common::{Failure, failure, service, telemetry};
use raw_producer::{App, Config};

const PROGRAM: Program = Program {
    version: env!("CARGO_PKG_VERSION"),
    about: "Writes every trade of Deribit's public websocket to Kafka, exactly once and in order",
    examples: "raw-producer --config raw-producer.toml\nKSTREAM__DERIBIT__START_FROM=2d raw-producer\nraw-producer --print-config",
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

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.common.log, &config.common.tracing)?;
    service::run(telemetry, async |_| App::build(config).await, App::run).await
}
