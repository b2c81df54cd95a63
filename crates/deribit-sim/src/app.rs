//! The process around the exchange: command line and admin endpoints.

use std::time::Duration;

use clap::{Parser, Subcommand};
use common::Failure;
use common::admin::{Admin, Health};
use common::cli::{self, CommonArgs, Invocation, Program};
use common::config::{Flag, ServiceConfig as _};
use common::metrics::Metrics as MetricsRegistry;
use common::shutdown::{Shutdown, Tasks};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::simulator::Simulator;

const PROGRAM: Program = Program {
    version: env!("CARGO_PKG_VERSION"),
    about: "Simulates the Deribit exchange: public market data of a synthetic market",
    examples: "deribit-sim --rate 1000 --instruments 500\nderibit-sim --speed 10 --origin 2026-01-01T00:00:00Z\nKSTREAM__FAULTS__FILE=faults.toml deribit-sim",
};

/// The simulator's command line.
#[derive(Debug, Parser)]
pub struct SimArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Address and port of the exchange
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// Mean trades a second over all instruments
    #[arg(long)]
    rate: Option<f64>,
    /// Active instruments at any time
    #[arg(long, value_name = "N")]
    instruments: Option<u32>,
    /// Seed of the market; each seed is another market
    #[arg(long)]
    seed: Option<u64>,
    /// Exchange seconds for one second of the wall clock; needs --origin
    #[arg(long)]
    speed: Option<f64>,
    /// When exchange time and wall clock agree, such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    origin: Option<String>,
    #[command(subcommand)]
    command: Option<SimCommand>,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Ask the running simulator whether it is ready; exit 0 if so (for container health checks)
    Health,
}

impl SimArgs {
    /// Parses the command line and loads the configuration; flags override every other source.
    ///
    /// # Errors
    /// [`Failure::Config`] for arguments or configuration; [`Failure::Other`] if `health` finds the simulator not ready.
    pub fn load() -> Result<Invocation<Config>, Failure> {
        let Some(args) = cli::parse::<Self>(Config::SERVICE.name(), &PROGRAM)? else {
            return Ok(Invocation::Exit);
        };
        match (args.common.load::<Config>(&args.overrides())?, args.command) {
            (Invocation::Run(config), Some(SimCommand::Health)) => {
                cli::health(config.admin()).map(|()| Invocation::Exit)
            }
            (invocation, _) => Ok(invocation),
        }
    }

    /// The given flags as overrides of configuration keys.
    fn overrides(&self) -> Vec<Flag> {
        let given = [
            ("--listen", "listen", self.listen.map(|value| value.to_string())),
            ("--rate", "market.rate", self.rate.map(|value| value.to_string())),
            ("--instruments", "market.instruments", self.instruments.map(|value| value.to_string())),
            ("--seed", "market.seed", self.seed.map(|value| value.to_string())),
            ("--speed", "market.speed", self.speed.map(|value| value.to_string())),
            ("--origin", "market.origin", self.origin.clone()),
        ];
        given.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key, value: value? })).collect()
    }
}

/// The service: the exchange and its admin endpoints, listening.
#[derive(Debug)]
pub struct App {
    simulator: Simulator,
    admin: Admin,
    metrics: MetricsRegistry,
    deadline: Duration,
}

impl App {
    /// Binds both ports.
    ///
    /// # Errors
    /// [`Failure::Config`] that names the port that is taken.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let metrics = MetricsRegistry::new("deribit_sim");
        let admin = Admin::bind(&config.admin).await?;
        let simulator = Simulator::start_with(config, Metrics::new(&metrics)).await?;
        let (addr, market) = (simulator.addr(), &config.market);
        tracing::info!(%addr, market.rate, market.instruments, market.seed, market.speed, "exchange simulator listening");
        Ok(Self { simulator, admin, metrics, deadline: *config.shutdown_deadline })
    }

    /// Runs until the shutdown is requested.
    ///
    /// # Errors
    /// [`Failure::Internal`] if a task ends before it was asked to.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self { mut simulator, admin, metrics, deadline } = self;
        // Both ports are bound: the simulator is ready.
        let _serving = admin.serve(Health::new(), metrics, shutdown.clone());
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("exchange", async move {
            tokio::select! {
                () = shutdown.requested() => simulator.stop().await,
                failure = simulator.failed() => return Err(failure),
            }
            Ok(())
        });
        tasks.run_to_end(deadline + Duration::from_secs(1)).await
    }
}
