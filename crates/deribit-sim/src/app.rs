//! The process around the exchange: command line and admin endpoints.

use std::time::Duration;

use clap::{Parser, Subcommand};
use common::Failure;
use common::admin::{Admin, Health};
use common::cli::{self, CommonArgs, Invocation};
use common::config::{ServiceConfig as _, load_from};
use common::metrics::Metrics as MetricsRegistry;
use common::shutdown::{Shutdown, Tasks};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::simulator::Simulator;

const ABOUT: &str = "A stand-in for the Deribit exchange: its public market data, of a synthetic market";

/// The simulator's command line.
#[derive(Debug, Parser)]
pub struct Flags {
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

impl Flags {
    /// Parses the command line and loads the configuration; flags override every other source.
    ///
    /// # Errors
    /// [`Failure::Config`] for arguments or configuration; [`Failure::Other`] if `health` finds the simulator not ready.
    pub fn load(version: &'static str) -> Result<Invocation<Config>, Failure> {
        let Some(flags) = cli::parse::<Self>(Config::SERVICE.name(), version, ABOUT)? else {
            return Ok(Invocation::Exit);
        };
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let config: Config =
            load_from(flags.common.config.as_deref(), environment.chain(flags.as_environment()))?;
        match flags.command {
            Some(SimCommand::Health) => cli::health(config.admin()).map(|()| Invocation::Exit),
            None if flags.common.check_config => Ok(Invocation::Exit),
            None => Ok(Invocation::Run(config)),
        }
    }

    /// The flags as environment variables. The last variable of a name wins.
    fn as_environment(&self) -> impl Iterator<Item = (String, String)> {
        let given = [
            ("KSTREAM__LISTEN", self.listen.map(|value| value.to_string())),
            ("KSTREAM__MARKET__RATE", self.rate.map(|value| value.to_string())),
            ("KSTREAM__MARKET__INSTRUMENTS", self.instruments.map(|value| value.to_string())),
            ("KSTREAM__MARKET__SEED", self.seed.map(|value| value.to_string())),
            ("KSTREAM__MARKET__SPEED", self.speed.map(|value| value.to_string())),
            ("KSTREAM__MARKET__ORIGIN", self.origin.clone()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
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
