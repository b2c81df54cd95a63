//! What the simulator counts.

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::metrics::family::Family;

use crate::faults::FaultKind;

/// A kind of fault.
type KindLabel = [(&'static str, &'static str); 1];

/// The simulator's own metrics.
#[derive(Debug, Clone)]
pub struct Meters {
    pub(crate) connections: Gauge,
    pub(crate) trades: Counter,
    pub(crate) notifications: Counter,
    pub(crate) calls: Counter,
    pub(crate) errors: Counter,
    pub(crate) refused: Counter,
    pub(crate) slow_readers: Counter,
    pub(crate) logins: Counter,
    pub(crate) renewals: Counter,
    faults: Family<KindLabel, Counter>,
}

impl Meters {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("connections", "Open websocket connections"),
            trades: metrics.counter("trades", "Trades made for the live feed"),
            notifications: metrics.counter("notifications", "Notifications sent on channels"),
            calls: metrics.counter("calls", "Calls answered, by websocket or HTTP"),
            errors: metrics.counter("errors", "Calls answered with an error"),
            refused: metrics
                .counter("connections_refused", "Connections refused, with 429 or by the plan of faults"),
            slow_readers: metrics
                .counter("slow_readers", "Connections cut off because their reader was too slow"),
            logins: metrics.counter("logins", "Logins by key"),
            renewals: metrics.counter("renewals", "Logins renewed by their token"),
            faults: metrics.family("faults", "Faults of the plan that were done, by kind"),
        }
    }

    /// A fault of the plan was done.
    pub(crate) fn fault(&self, kind: FaultKind) {
        self.faults.get_or_create(&[("kind", kind.name())]).inc();
    }
}
