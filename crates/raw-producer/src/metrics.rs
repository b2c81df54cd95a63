//! Metrics of this service; all names begin with `raw_producer_`.

use common::metrics::{Counter, FloatGauge, Gauge, Histogram, Metrics as Registry};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

/// Label of `disconnects_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DisconnectLabels {
    /// One of a few words, such as `silent`.
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    connection: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Instrument kinds that can be part of a channel's name.
const KINDS: [&str; 5] = ["future", "option", "spot", "future_combo", "option_combo"];

/// Converts a count to a gauge's value.
pub(crate) fn gauged(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Metrics that the supervisor hands to its parts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) feed: FeedMetrics,
    pub(crate) sequencer: SequencerMetrics,
    pub(crate) writer: WriterMetrics,
    pub(crate) queues: QueueMetrics,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            feed: FeedMetrics::new(registry),
            sequencer: SequencerMetrics::new(registry),
            writer: WriterMetrics::new(registry),
            queues: QueueMetrics::new(registry),
        }
    }
}

/// Connections to the exchange.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionMetrics {
    pub(crate) connections: Gauge,
    pub(crate) unsubscribed_channels: Gauge,
    disconnects: Family<DisconnectLabels, Counter>,
    start: Family<ConnectionLabels, FloatGauge>,
}

impl ConnectionMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            connections: registry.gauge("connections", "Connections to the exchange that are up"),
            unsubscribed_channels: registry
                .gauge("unsubscribed_channels", "Configured channels that the exchange does not know"),
            disconnects: registry.family("disconnects", "Connections lost, by reason"),
            start: registry.family(
                "connection_start_timestamp_seconds",
                "When each open connection was established, in seconds since 1970",
            ),
        }
    }

    /// Notes that a connection was established at `micros` since 1970.
    pub(crate) fn connected(&self, connection: usize, micros: i64) {
        #[expect(clippy::cast_precision_loss, reason = "microseconds fit a double for centuries")]
        self.start.get_or_create(&label(connection)).set(micros as f64 / 1e6);
    }

    pub(crate) fn disconnected(&self, connection: usize) {
        self.start.remove(&label(connection));
    }

    /// Counts a lost connection or a failed attempt to connect.
    pub(crate) fn lost(&self, reason: &'static str) {
        self.disconnects.get_or_create(&DisconnectLabels { reason }).inc();
    }
}

fn label(connection: usize) -> ConnectionLabels {
    ConnectionLabels { connection: u32::try_from(connection).unwrap_or(u32::MAX) }
}

/// Trades from the socket to Kafka.
#[derive(Debug, Clone)]
pub(crate) struct FeedMetrics {
    received: Family<KindLabels, Counter>,
    pub(crate) parse_errors: Counter,
    pub(crate) published: Counter,
    pub(crate) refused: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) feed_delay: Histogram,
    pub(crate) publish_delay: Histogram,
}

impl FeedMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            received: registry.family("trades_received", "Trades read from the socket, by kind of channel"),
            parse_errors: registry.counter("parse_errors", "Frames and trades that could not be parsed"),
            published: registry.counter("trades_published", "Trades that Kafka acknowledged"),
            refused: registry.counter("trades_refused", "Trades that Kafka did not accept"),
            in_flight: registry.gauge("trades_in_flight", "Trades not yet acknowledged by Kafka"),
            feed_delay: registry.seconds(
                "feed_delay_seconds",
                "Time from the exchange's timestamp to Kafka's acknowledgement",
            ),
            publish_delay: registry
                .seconds("publish_delay_seconds", "Time from reception to Kafka's acknowledgement"),
        }
    }

    /// Counts trades of a channel. The channel of a single instrument has no kind; it counts as `other`.
    pub(crate) fn received(&self, channel: &str, trades: usize) {
        let named = channel.split('.').nth(1);
        let kind = KINDS.into_iter().find(|kind| named == Some(kind)).unwrap_or("other");
        self.received.get_or_create(&KindLabels { kind }).inc_by(trades as u64);
    }
}

/// The two bounded queues inside the process.
#[derive(Debug, Clone)]
pub(crate) struct QueueMetrics {
    /// Frames on their way from the connections to the feed.
    pub(crate) frame_bytes: Gauge,
    pub(crate) frame_capacity: Gauge,
    /// Records on their way from the feed to the writer.
    pub(crate) publish_length: Gauge,
    pub(crate) publish_capacity: Gauge,
}

impl QueueMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let capacity = "The queue's capacity; while it is full, sockets are not read";
        Self {
            frame_bytes: registry
                .gauge("frame_queue_bytes", "Bytes of received frames that are not processed yet"),
            frame_capacity: registry.gauge("frame_queue_capacity_bytes", capacity),
            publish_length: registry
                .gauge("publish_queue_length", "Trades and other records that wait for a transaction"),
            publish_capacity: registry.gauge("publish_queue_capacity", capacity),
        }
    }
}

/// Transactions.
#[derive(Debug, Clone)]
pub(crate) struct WriterMetrics {
    pub(crate) transactions: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) commit: Histogram,
    pub(crate) reconciled_through: FloatGauge,
    pub(crate) unrecognized: Counter,
    pub(crate) restarts: Counter,
}

impl WriterMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            transactions: registry.counter("transactions", "Transactions committed"),
            snapshots: registry.counter("snapshots_committed", "Rounds of snapshots committed"),
            commit: registry.seconds("transaction_seconds", "Time from a transaction's begin to its commit"),
            reconciled_through: registry.float_gauge(
                "reconciled_through_timestamp_seconds",
                "Time up to which the topic was compared with the exchange's history, in seconds since 1970",
            ),
            unrecognized: registry.counter(
                "unrecognized_records",
                "Records in the trades topic that a start skipped, because they are not trades of this producer",
            ),
            restarts: registry
                .counter("producer_restarts", "Restarts from the last committed transaction after a failure"),
        }
    }
}

/// What happens to sequence numbers.
#[derive(Debug, Clone)]
pub(crate) struct SequencerMetrics {
    pub(crate) duplicates: Counter,
    pub(crate) gap_requests: Counter,
    pub(crate) backfilled: Counter,
    pub(crate) confirmed_holes: Counter,
    pub(crate) lost: Counter,
    pub(crate) after_given_up: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) dropped: Counter,
    pub(crate) backfill_restarts: Counter,
    pub(crate) held: Gauge,
    pub(crate) open_gaps: Gauge,
    pub(crate) credits: Gauge,
    pub(crate) requests_failed: Counter,
}

impl SequencerMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            duplicates: registry.counter("duplicates", "Trades received that were already published"),
            gap_requests: registry.counter("gap_requests", "Requests to the exchange's history to fill gaps"),
            backfilled: registry.counter("trades_backfilled", "Trades that came from the exchange's history"),
            confirmed_holes: registry
                .counter("confirmed_holes", "Sequence numbers for which the exchange has no trade"),
            lost: registry.counter(
                "trades_lost",
                "Sequence numbers given up although the exchange may have had a trade",
            ),
            after_given_up: registry.counter(
                "trades_after_given_up",
                "Trades dropped because their sequence number was already given up",
            ),
            dead_lettered: registry.counter(
                "trades_dead_lettered",
                "Trades sent to the dead-letter topic: unreadable in history too, or too far in the future",
            ),
            dropped: registry.counter(
                "trades_dropped",
                "Trades dropped because the buffer was full; they are requested again",
            ),
            backfill_restarts: registry.counter(
                "backfill_restarts",
                "Backfills started because more gaps were open than can be requested one by one",
            ),
            held: registry.gauge("trades_held", "Trades buffered until an earlier one is published"),
            open_gaps: registry.gauge("open_gaps", "Gaps that are neither filled nor given up"),
            credits: registry.gauge("rate_limit_credits", "Requests that the exchange would accept now"),
            requests_failed: registry
                .counter("exchange_requests_failed", "Requests that the exchange rejected"),
        }
    }
}
