//! What the simulator counts.

use common::metrics::{Counter, Gauge, Metrics};

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
            refused: metrics.counter("connections_refused", "Connections refused with 429"),
            slow_readers: metrics
                .counter("slow_readers", "Connections cut off because their reader was too slow"),
        }
    }
}
