//! `deribit-sim`: a simulated exchange.

use std::process::ExitCode;

use common::cli::Invocation;
use common::config::ServiceConfig as _;
use common::{Failure, failure, service, telemetry};
use deribit_sim::{App, Config, SimArgs};

fn main() -> ExitCode {
    failure::report(Config::SERVICE.name(), run())
}

fn run() -> Result<(), Failure> {
    match SimArgs::load()? {
        Invocation::Run(config) => serve(&config),
        Invocation::Exit => Ok(()),
    }
}

#[tokio::main]
async fn serve(config: &Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.log, &config.tracing)?;
    service::run(telemetry, async |_| App::start(config).await, App::run).await
}
