//! Metrics of Kafka Connect.

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::metrics::family::Family;

use super::apply::ApplyOutcome;
use crate::labels::ConnectorLabel;

#[derive(Debug, Clone)]
pub(crate) struct ConnectMetrics {
    /// 1 while Kafka Connect responds.
    pub(crate) up: Gauge,
    config_updates: Family<ConnectorLabel, Counter>,
}

impl ConnectMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            up: metrics.gauge("connect_up", "1 while Kafka Connect responds"),
            config_updates: metrics
                .family("connector_config_updates", "Times that a connector was created or reconfigured"),
        }
    }

    /// Shows the counter at 0, so that the first update already has a rate.
    pub(crate) fn register(&self, connector: &'static str) {
        drop(self.config_updates.get_or_create(&ConnectorLabel { connector }));
    }

    pub(crate) fn count_update(&self, connector: &'static str, outcome: &ApplyOutcome) {
        if *outcome != ApplyOutcome::Unchanged {
            self.config_updates.get_or_create(&ConnectorLabel { connector }).inc();
        }
    }
}
