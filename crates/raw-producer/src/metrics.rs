//! What an operator asks of this service.

use common::metrics::{Counter, FloatGauge, Gauge, Histogram, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

/// Why a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LostLabels {
    /// One of a few words, such as `silent`.
    reason: &'static str,
}

/// Which of several connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    connection: u32,
}

/// What sort of instrument.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    kind: &'static str,
}

/// Kinds that a channel's name may say.
const KINDS: [&str; 5] = ["future", "option", "spot", "future_combo", "option_combo"];

/// A count as a gauge takes it.
pub(crate) fn gauged(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Connections to the exchange.
#[derive(Debug, Clone)]
pub struct SessionMetrics {
    /// Connections that are up.
    pub connected: Gauge,
    /// Channels that the exchange did not take.
    pub channels_missing: Gauge,
    reconnects: Family<LostLabels, Counter>,
    connected_since: Family<ConnectionLabels, FloatGauge>,
}

impl SessionMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.gauge("connected", "Connections to the exchange that are up"),
            channels_missing: metrics.gauge("channels_missing", "Channels that the exchange did not take"),
            reconnects: metrics.family("reconnects", "Connections lost, by reason"),
            connected_since: metrics.family(
                "connected_since_seconds",
                "When a connection that is up was made, in seconds since the epoch",
            ),
        }
    }

    /// A connection was made, at that time in microseconds since the epoch.
    pub fn connected(&self, connection: usize, at: i64) {
        #[expect(clippy::cast_precision_loss, reason = "microseconds fit a double for centuries")]
        self.connected_since.get_or_create(&label(connection)).set(at as f64 / 1e6);
    }

    /// It is no more.
    pub fn disconnected(&self, connection: usize) {
        self.connected_since.remove(&label(connection));
    }

    /// A connection was lost.
    pub fn lost(&self, reason: &'static str) {
        self.reconnects.get_or_create(&LostLabels { reason }).inc();
    }
}

fn label(connection: usize) -> ConnectionLabels {
    ConnectionLabels { connection: u32::try_from(connection).unwrap_or(u32::MAX) }
}

/// Trades between socket and Kafka.
#[derive(Debug, Clone)]
pub struct FeedMetrics {
    received: Family<KindLabels, Counter>,
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
            received: metrics.family("trades_received", "Trades read from the socket, by kind of channel"),
            unreadable: metrics.counter("unreadable", "Frames and trades that could not be read"),
            published: metrics.counter("trades_published", "Trades that Kafka acknowledged"),
            refused: metrics.counter("trades_refused", "Trades that Kafka refused"),
            in_flight: metrics.gauge("trades_in_flight", "Trades not yet acknowledged by Kafka"),
            feed_delay: metrics
                .seconds("feed_delay_seconds", "Exchange timestamp to Kafka's acknowledgement"),
            publish_delay: metrics.seconds("publish_delay_seconds", "Reception to Kafka's acknowledgement"),
        }
    }

    /// So many trades came on a channel; one of a single instrument says no kind.
    pub fn received(&self, channel: &str, trades: usize) {
        let named = channel.split('.').nth(1);
        let kind = KINDS.into_iter().find(|kind| named == Some(kind)).unwrap_or("other");
        self.received.get_or_create(&KindLabels { kind }).inc_by(trades as u64);
    }
}

/// What waits inside the process, and how much of it may.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    /// Bytes of frames between the connections and the sequencer.
    pub frames: Gauge,
    /// Trades and whatever else is to be written, between the sequencer and the writer.
    pub items: Gauge,
    /// Their bounds; while one is reached, what is before it waits.
    pub bounds: (Gauge, Gauge),
}

impl QueueMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let bound = "While so many wait, the socket is not read";
        Self {
            frames: metrics
                .gauge("frames_waiting_bytes", "Bytes read from sockets that wait to be looked at"),
            items: metrics.gauge("items_waiting", "Trades and other records that wait for a transaction"),
            bounds: (
                metrics.gauge("frames_waiting_bytes_bound", bound),
                metrics.gauge("items_waiting_bound", bound),
            ),
        }
    }
}

/// Transactions and what goes with them.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    /// Transactions committed.
    pub transactions: Counter,
    /// Rounds of snapshots committed.
    pub snapshot_rounds: Counter,
    /// From a transaction's beginning to the end of its commit.
    pub commit: Histogram,
    /// Up to when the topic was compared with the exchange's history, in seconds since the epoch.
    pub reconciled_through: FloatGauge,
    /// Records passed over at a start because they are no trades.
    pub foreign: Counter,
    /// Times that everything had to be begun anew after a transaction had failed.
    pub restarts: Counter,
}

impl WriterMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            transactions: metrics.counter("transactions", "Transactions committed"),
            snapshot_rounds: metrics.counter("snapshot_rounds", "Rounds of snapshots committed"),
            commit: metrics
                .seconds("transaction_seconds", "A transaction from its beginning until it is committed"),
            reconciled_through: metrics.float_gauge(
                "reconciled_through_seconds",
                "Up to when the topic was compared with the exchange's history, in seconds since the epoch",
            ),
            foreign: metrics.counter(
                "foreign_records",
                "Records of the trades' topic that were passed over at a start, because they are no trades",
            ),
            restarts: metrics
                .counter("restarts", "Times that a failed transaction made everything begin anew"),
        }
    }
}

/// What the sequencer does.
#[derive(Debug, Clone)]
pub struct SequenceMetrics {
    /// Trades that had been published before.
    pub duplicates: Counter,
    /// Gaps that history was asked about.
    pub gaps: Counter,
    /// Trades that came from history.
    pub backfilled: Counter,
    /// Numbers without a trade: the exchange has none.
    pub confirmed_holes: Counter,
    /// Numbers of which the exchange never said what they were.
    pub lost: Counter,
    /// Trades whose number had been given up.
    pub too_late: Counter,
    /// Trades that were set aside.
    pub set_aside: Counter,
    /// Trades dropped for lack of room, to be asked for again.
    pub dropped: Counter,
    /// Times that history was read because too much was missing to be asked for one by one.
    pub overruns: Counter,
    /// Trades that wait.
    pub held: Gauge,
    /// Gaps open at present.
    pub open_gaps: Gauge,
    /// Calls that could be made at once.
    pub credits: Gauge,
    /// Calls that the exchange refused, and those without an answer.
    pub calls_failed: Counter,
}

impl SequenceMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            duplicates: metrics.counter("duplicates", "Trades that had been published before"),
            gaps: metrics.counter("gaps_asked", "Questions to the exchange's history about gaps"),
            backfilled: metrics
                .counter("trades_backfilled", "Trades published that came from the exchange's history"),
            confirmed_holes: metrics
                .counter("confirmed_holes", "Sequence numbers that the exchange has no trade of"),
            lost: metrics.counter("lost", "Sequence numbers of which the exchange never said what they were"),
            too_late: metrics.counter("trades_too_late", "Trades whose sequence number had been given up"),
            set_aside: metrics
                .counter("trades_set_aside", "Trades set aside: unreadable in history too, or far ahead"),
            dropped: metrics
                .counter("trades_dropped", "Trades dropped for lack of room, and asked for again"),
            overruns: metrics.counter(
                "overruns",
                "Times that too much was missing to be asked for gap by gap, and history was read instead",
            ),
            held: metrics.gauge("trades_held", "Trades that wait for one before them"),
            open_gaps: metrics.gauge("open_gaps", "Gaps that are not filled yet"),
            credits: metrics.gauge("call_credits", "Calls that could be made at once"),
            calls_failed: metrics
                .counter("calls_failed", "Calls that the exchange refused or did not answer"),
        }
    }
}
