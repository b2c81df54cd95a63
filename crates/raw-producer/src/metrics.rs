//! What an operator asks of this service.

use common::metrics::{Counter, Gauge, Histogram, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

/// Why a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LostLabels {
    /// One of a few words, such as `silent`.
    reason: &'static str,
}

/// Connections to the exchange.
#[derive(Debug, Clone)]
pub struct SessionMetrics {
    /// 1 while connected.
    pub connected: Gauge,
    /// Channels that the exchange did not take.
    pub channels_missing: Gauge,
    reconnects: Family<LostLabels, Counter>,
}

impl SessionMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.gauge("connected", "1 while a connection to the exchange is up"),
            channels_missing: metrics.gauge("channels_missing", "Channels that the exchange did not take"),
            reconnects: metrics.family("reconnects", "Connections lost, by reason"),
        }
    }

    /// A connection was lost.
    pub fn lost(&self, reason: &'static str) {
        self.reconnects.get_or_create(&LostLabels { reason }).inc();
    }
}

/// Trades between socket and Kafka.
#[derive(Debug, Clone)]
pub struct FeedMetrics {
    /// Trades read from the socket.
    pub received: Counter,
    /// Frames and trades that could not be read.
    pub unreadable: Counter,
    /// Trades that Kafka acknowledged.
    pub published: Counter,
    /// Trades that Kafka refused.
    pub refused: Counter,
    /// Trades handed to the producer and not yet acknowledged.
    pub in_flight: Gauge,
    /// The exchange's timestamp to Kafka's acknowledgement.
    pub feed_delay: Histogram,
    /// Our reception to Kafka's acknowledgement.
    pub publish_delay: Histogram,
}

impl FeedMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            received: metrics.counter("trades_received", "Trades read from the socket"),
            unreadable: metrics.counter("unreadable", "Frames and trades that could not be read"),
            published: metrics.counter("trades_published", "Trades that Kafka acknowledged"),
            refused: metrics.counter("trades_refused", "Trades that Kafka refused"),
            in_flight: metrics.gauge("trades_in_flight", "Trades not yet acknowledged by Kafka"),
            feed_delay: metrics
                .seconds("feed_delay_seconds", "Exchange timestamp to Kafka's acknowledgement"),
            publish_delay: metrics.seconds("publish_delay_seconds", "Reception to Kafka's acknowledgement"),
        }
    }
}
