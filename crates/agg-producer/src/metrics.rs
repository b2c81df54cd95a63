//! What an operator asks of this service.

use std::time::Duration;

use common::metrics::{Counter, FloatGauge, Gauge, Histogram, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

/// Of which partition of the trades' topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: i32,
}

/// Which way partitions moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RebalanceLabels {
    kind: &'static str,
}

/// What one committed transaction held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Published {
    /// Averages.
    pub averages: u64,
    /// Candles.
    pub candles: u64,
    /// Late trades.
    pub late: u64,
    /// Undecodable records.
    pub undecodable: u64,
}

impl Published {
    /// Records in all.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.averages + self.candles + self.late + self.undecodable
    }
}

/// How a partition stands.
#[derive(Debug, Clone, Copy)]
pub struct PartitionStats {
    /// Wall clock less stream time.
    pub behind: Option<Duration>,
    /// Slices not closed yet.
    pub open_slices: usize,
    /// Instruments with state.
    pub instruments: usize,
}

/// The metrics of all pairs of the process.
#[derive(Debug, Clone)]
pub struct AggregatorMetrics {
    trades: Counter,
    averages: Counter,
    candles: Counter,
    late: Counter,
    undecodable: Counter,
    restored: Counter,
    rebuilt: Counter,
    restore_time: Histogram,
    transaction_time: Histogram,
    aborted: Counter,
    rebalances: Family<RebalanceLabels, Counter>,
    rejoins: Counter,
    ownerless: Gauge,
    lag: Family<PartitionLabels, Gauge>,
    behind: Family<PartitionLabels, FloatGauge>,
    open_slices: Family<PartitionLabels, Gauge>,
    instruments: Family<PartitionLabels, Gauge>,
}

impl AggregatorMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            trades: metrics.counter("trades_processed", "Trades added to a slice, restored ones excluded"),
            averages: metrics.counter(
                "moving_averages_published",
                "Moving averages published, one for each window and instrument",
            ),
            candles: metrics
                .counter("candles_published", "Candles published, one for each slice and instrument"),
            late: metrics.counter("late_trades", "Trades whose slice had closed"),
            undecodable: metrics.counter("undecodable_records", "Records sent to the dead-letter topic"),
            restored: metrics.counter("restore_records", "Records read again to rebuild state"),
            rebuilt: metrics.counter(
                "partitions_restored",
                "Times that a partition became live after records of it were read again",
            ),
            restore_time: metrics
                .seconds("restore_seconds", "Time from the assignment of a partition until it is live"),
            transaction_time: metrics
                .seconds("transaction_seconds", "Time from the begin of a transaction to its commit"),
            aborted: metrics.counter("transactions_aborted", "Transactions aborted"),
            rebalances: metrics.family("rebalances", "Rebalances by kind: assigned, revoked, lost"),
            rejoins: metrics.counter(
                "rejoins",
                "Times that a member rejoined the group because partitions were unassigned",
            ),
            ownerless: metrics
                .gauge("unassigned_partitions", "Partitions that are assigned to no member of the group"),
            lag: metrics.family(
                "consumer_lag_records",
                "Records between the committed position and the readable end of the partition",
            ),
            behind: metrics.family("stream_time_lag_seconds", "Wall clock time minus stream time"),
            open_slices: metrics.family("open_slices", "Slices that have not closed yet"),
            instruments: metrics.family("instruments", "Instruments with a trade in the last window"),
        }
    }

    /// A trade was added to its slice.
    pub fn trade(&self) {
        self.trades.inc();
    }

    /// A record was read again to rebuild state.
    pub fn restored(&self) {
        self.restored.inc();
    }

    /// A partition is live, so long after its assignment, and so many records were read again for it.
    pub fn live_after(&self, elapsed: Duration, records: i64) {
        self.rebuilt.inc_by(u64::from(records > 0));
        self.restore_time.observe(elapsed.as_secs_f64());
    }

    /// A transaction was committed.
    pub fn committed(&self, published: &Published, elapsed: Duration) {
        self.averages.inc_by(published.averages);
        self.candles.inc_by(published.candles);
        self.late.inc_by(published.late);
        self.undecodable.inc_by(published.undecodable);
        self.transaction_time.observe(elapsed.as_secs_f64());
    }

    /// A transaction was not committed.
    pub fn aborted(&self) {
        self.aborted.inc();
    }

    /// Partitions were `assigned`, `revoked` or `lost`.
    pub fn rebalanced(&self, kind: &'static str) {
        self.rebalances.get_or_create(&RebalanceLabels { kind }).inc();
    }

    /// The group was joined again.
    pub fn rejoined(&self) {
        self.rejoins.inc();
    }

    /// How far a partition is behind.
    pub fn lag(&self, partition: i32, records: i64) {
        self.lag.get_or_create(&PartitionLabels { partition }).set(records);
    }

    /// How a partition stands.
    pub fn stats(&self, partition: i32, standing: &PartitionStats) {
        let labels = PartitionLabels { partition };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(behind) = standing.behind {
            self.behind.get_or_create(&labels).set(behind.as_secs_f64());
        }
        self.open_slices.get_or_create(&labels).set(count(standing.open_slices));
        self.instruments.get_or_create(&labels).set(count(standing.instruments));
    }

    /// So many partitions belong to no member of the group.
    pub fn unassigned(&self, partitions: usize) {
        self.ownerless.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// A partition is another member's now: what was known of it is not shown any more.
    pub fn gone(&self, partition: i32) {
        let labels = PartitionLabels { partition };
        self.lag.remove(&labels);
        self.behind.remove(&labels);
        self.open_slices.remove(&labels);
        self.instruments.remove(&labels);
    }
}
