//! Starting and stopping the exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::Failure;
use common::metrics::Metrics as MetricsRegistry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::faults::FaultKind;
use crate::market::Market;
use crate::metrics::Metrics;
use crate::server::router;

/// A running exchange with its listener and feed.
#[derive(Debug)]
pub struct Simulator {
    addr: SocketAddr,
    exchange: Arc<Exchange>,
    server: JoinHandle<std::io::Result<()>>,
    feed: JoinHandle<()>,
    deadline: Duration,
}

impl Simulator {
    /// Starts the exchange. `admin`, `log` and `tracing` are for the process around it.
    ///
    /// # Errors
    /// [`Failure::Config`] if the port is taken or the plan of faults is invalid.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        Self::start_with(config, Metrics::new(&MetricsRegistry::new("deribit_sim"))).await
    }

    /// As [`Simulator::start`], with the metrics given.
    ///
    /// # Errors
    /// As [`Simulator::start`].
    pub async fn start_with(config: &Config, metrics: Metrics) -> Result<Self, Failure> {
        let plan = config.faults.plan().map_err(|invalid| Failure::Config(invalid.to_string()))?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            Failure::Config(format!(
                "listen: cannot listen on {}: {error}; expected a free address and port",
                config.listen
            ))
        })?;
        let addr = listener.local_addr().context("the listener has no address")?;
        let exchange = Arc::new(Exchange::new(config, &plan, metrics));
        let (market, metrics) = (Arc::clone(&exchange.market), exchange.metrics.clone());
        let feed = tokio::spawn(exchange.feed.clone().run(market, exchange.clock, metrics));
        let service = router(Arc::clone(&exchange)).into_make_service_with_connect_info::<SocketAddr>();
        let stopping = exchange.stopping.clone().cancelled_owned();
        let server =
            tokio::spawn(axum::serve(listener, service).with_graceful_shutdown(stopping).into_future());
        Ok(Self { addr, exchange, server, feed, deadline: *config.shutdown_deadline })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The market that it publishes.
    #[must_use]
    pub fn market(&self) -> &Arc<Market> {
        &self.exchange.market
    }

    /// The clock of the exchange.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.exchange.clock
    }

    /// The number of open websocket connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.exchange.sessions.len()
    }

    /// The number of injected faults by kind, without holes, which belong to the market.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<FaultKind, u64> {
        self.exchange.injector.counts()
    }

    /// The number of logins by client credentials, and by refresh token.
    #[must_use]
    pub fn logins(&self) -> (u64, u64) {
        (self.exchange.metrics.logins.get(), self.exchange.metrics.token_refreshes.get())
    }

    /// Resolves when one of its tasks ends, which happens only by a failure.
    pub(crate) async fn failed(&mut self) -> Failure {
        let part = tokio::select! {
            _ = &mut self.server => "the server",
            _ = &mut self.feed => "the feed",
        };
        Failure::Internal(format!("{part} ended without being asked to"))
    }

    /// Closes all connections and stops, within `shutdown_deadline`.
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
    /// A failing test drops its simulator: nothing must keep running.
    fn drop(&mut self) {
        self.exchange.stopping.cancel();
        self.server.abort();
        self.feed.abort();
    }
}
