//! `jdbc-sink`: tables and Kafka Connect connectors as code, and their watcher.

use std::process::ExitCode;

use common::cli::{self, Invocation};
use common::config::ServiceConfig as _;
use common::shutdown::Shutdown;
use common::{Failure, exit, telemetry};
use jdbc_sink::{App, Config};

const ABOUT: &str =
    "Makes the tables and the Kafka Connect connectors that bring the topics into Postgres, and watches them";

fn main() -> ExitCode {
    exit::report(Config::SERVICE.name(), run())
}

fn run() -> Result<(), Failure> {
    match cli::load::<Config>(env!("CARGO_PKG_VERSION"), ABOUT)? {
        Invocation::Run(config) => serve(config),
        Invocation::Done => Ok(()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config) -> Result<(), Failure> {
    let telemetry = telemetry::start(Config::SERVICE.name(), &config.log, &config.tracing)?;
    let shutdown = Shutdown::on_signals()?;
    let app = App::build(config, shutdown.clone()).await?;
    let end = app.run(shutdown).await;
    telemetry.stop().await;
    end
}
