//! The exchange as a thing that is started and stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::Failure;
use common::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::faults::FaultKind;
use crate::market::Market;
use crate::metrics::Meters;
use crate::server::router;

/// An exchange that runs.
#[derive(Debug)]
pub struct Simulator {
    addr: SocketAddr,
    exchange: Arc<Exchange>,
    server: JoinHandle<std::io::Result<()>>,
    feed: JoinHandle<()>,
    deadline: Duration,
}

impl Simulator {
    /// Starts the exchange as the configuration says; its `admin`, `log` and `tracing` are for the process around it.
    ///
    /// # Errors
    /// [`Failure::Config`] if it cannot listen there, or the plan of faults cannot be read.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        Self::start_with(config, Meters::new(&Metrics::new("deribit_sim"))).await
    }

    /// As [`Simulator::start`], with the metrics given.
    ///
    /// # Errors
    /// As [`Simulator::start`].
    pub async fn start_with(config: &Config, meters: Meters) -> Result<Self, Failure> {
        let plan = config.faults.plan().map_err(|invalid| Failure::Config(invalid.to_string()))?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            Failure::Config(format!(
                "listen: cannot listen on {}: {error}; expected a free address and port",
                config.listen
            ))
        })?;
        let addr = listener.local_addr().context("the listener has no address")?;
        let exchange = Arc::new(Exchange::new(config, &plan, meters));
        let (market, meters) = (Arc::clone(&exchange.market), exchange.meters.clone());
        let feed = tokio::spawn(exchange.feed.clone().run(market, exchange.clock, meters));
        let service = router(Arc::clone(&exchange)).into_make_service_with_connect_info::<SocketAddr>();
        let stopping = exchange.stopping.clone().cancelled_owned();
        let server =
            tokio::spawn(axum::serve(listener, service).with_graceful_shutdown(stopping).into_future());
        Ok(Self { addr, exchange, server, feed, deadline: *config.shutdown_deadline })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it trades.
    #[must_use]
    pub fn market(&self) -> &Arc<Market> {
        &self.exchange.market
    }

    /// What time it has.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.exchange.clock
    }

    /// Open websocket connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.exchange.sessions.len()
    }

    /// How often each kind of fault of the plan has struck; holes, which are the market's, not among them.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<FaultKind, u64> {
        self.exchange.trouble.done()
    }

    /// How often somebody has logged in by key, and how often a login was renewed by its token.
    #[must_use]
    pub fn logins(&self) -> (u64, u64) {
        (self.exchange.meters.logins.get(), self.exchange.meters.renewals.get())
    }

    /// Returns if a part of it ends, which none does by itself.
    pub(crate) async fn failed(&mut self) -> Failure {
        let part = tokio::select! {
            _ = &mut self.server => "the server",
            _ = &mut self.feed => "the feed",
        };
        Failure::Internal(format!("{part} ended without being asked to"))
    }

    /// Says goodbye on all connections and stops, within the configured `shutdown_deadline`.
    pub async fn stop(mut self) {
        self.exchange.stopping.cancel();
        self.exchange.sessions.close();
        let end = async {
            self.exchange.sessions.wait().await;
            (&mut self.server).await.ok();
        };
        tokio::time::timeout(self.deadline, end).await.ok();
    }
}

impl Drop for Simulator {
    /// A simulator that a failing test drops leaves nothing running.
    fn drop(&mut self) {
        self.exchange.stopping.cancel();
        self.server.abort();
        self.feed.abort();
    }
}
