//! Metrics of the simulator.

use common::metrics::{Counter, Gauge, Metrics as MetricsRegistry};
use prometheus_client::metrics::family::Family;

use crate::faults::FaultKind;

type KindLabel = [(&'static str, &'static str); 1];

/// The metrics of the simulator, named `deribit_sim_…`.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) trades: Counter,
    pub(crate) notifications: Counter,
    pub(crate) calls: Counter,
    pub(crate) errors: Counter,
    pub(crate) refused: Counter,
    pub(crate) slow_consumers_disconnected: Counter,
    pub(crate) logins: Counter,
    pub(crate) token_refreshes: Counter,
    faults: Family<KindLabel, Counter>,
}

impl Metrics {
    /// Registers the metrics in `metrics`.
    #[must_use]
    pub fn new(metrics: &MetricsRegistry) -> Self {
        Self {
            connections: metrics.gauge("connections", "Open websocket connections"),
            trades: metrics.counter("trades", "Trades generated for the live feed"),
            notifications: metrics.counter("notifications", "Notifications sent on channels"),
            calls: metrics.counter("calls", "Requests answered, by websocket or HTTP"),
            errors: metrics.counter("errors", "Requests answered with an error"),
            refused: metrics
                .counter("connections_refused", "Connections refused with 429 or by an injected fault"),
            slow_consumers_disconnected: metrics.counter(
                "slow_consumers_disconnected",
                "Connections closed because the client read too slowly",
            ),
            logins: metrics.counter("logins", "Logins with client credentials"),
            token_refreshes: metrics.counter("token_refreshes", "Logins renewed with a refresh token"),
            faults: metrics.family("faults", "Injected faults by kind"),
        }
    }

    /// Counts an injected fault.
    pub(crate) fn fault(&self, kind: FaultKind) {
        self.faults.get_or_create(&[("kind", kind.name())]).inc();
    }
}
