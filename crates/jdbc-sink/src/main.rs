//! `jdbc-sink`: tables and Kafka Connect connectors as code, and their watcher.

use std::process::ExitCode;

use common::config::ServiceConfig as _;
use common::{Failure, failure, service, telemetry};
use jdbc_sink::{App, Config, cli};

fn main() -> ExitCode {
    failure::report(Config::SERVICE.name(), cli::run(serve))
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.log, &config.tracing)?;
    service::run(telemetry, async |shutdown| App::build(config, shutdown).await, App::run).await
}
