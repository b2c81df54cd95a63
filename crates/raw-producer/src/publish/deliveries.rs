//! What Kafka acknowledged, as librdkafka reports it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::kafka::trouble::told;
use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::TradeSpans;
use crate::clock::now_micros;
use crate::metrics::FeedMetrics;

/// What is remembered of a record until its delivery is known.
#[derive(Debug)]
pub(crate) enum PendingDelivery {
    /// One of our own.
    State,
    /// A trade.
    Trade {
        /// When it happened, milliseconds.
        timestamp: i64,
        /// When it came in, microseconds.
        received_at: i64,
        /// Its spans end with its delivery.
        traced: Option<Box<TradeSpans>>,
    },
}

/// Where deliveries are reported; clones are one and the same.
#[derive(Clone)]
pub(crate) struct DeliveryReports {
    metrics: FeedMetrics,
    /// Per partition of the trades' topic: the offset behind the last trade.
    next_offsets: Arc<Mutex<Vec<i64>>>,
}

impl DeliveryReports {
    /// Nothing was acknowledged yet.
    pub(crate) fn new(metrics: FeedMetrics) -> Self {
        Self { metrics, next_offsets: Arc::default() }
    }

    /// The offsets as they were found at the start, per partition.
    pub(crate) fn begin_at(&self, next_offsets: Vec<i64>) {
        *self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner) = next_offsets;
    }

    /// The offset behind the last acknowledged trade of each partition.
    pub(crate) fn next_offsets(&self) -> Vec<i64> {
        self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts trades that are handed over.
    pub(crate) fn sent(&self) {
        self.metrics.in_flight.inc();
    }

    fn delivered(&self, partition: i32, offset: i64) {
        let mut offsets = self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = usize::try_from(partition).ok().and_then(|at| offsets.get_mut(at)) {
            *next = offset + 1;
        }
    }
}

impl ClientContext for DeliveryReports {
    fn error(&self, error: KafkaError, reason: &str) {
        told(&error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Box<PendingDelivery>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, in_flight: Box<PendingDelivery>) {
        let PendingDelivery::Trade { timestamp, received_at, traced } = *in_flight else {
            if let Err((error, _)) = delivery {
                tracing::debug!(%error, "kafka did not take a record of the producer's own");
            }
            return;
        };
        self.metrics.in_flight.dec();
        match delivery {
            Ok(record) => {
                self.delivered(record.partition(), record.offset());
                let now = now_micros();
                self.metrics.published.inc();
                self.metrics.feed_delay.observe(seconds(now - timestamp * 1000));
                self.metrics.publish_delay.observe(seconds(now - received_at));
            }
            Err((error, _)) => {
                self.metrics.refused.inc();
                tracing::debug!(%error, timestamp, "kafka did not take a trade");
            }
        }
        drop(traced);
    }
}

/// Microseconds as seconds; the exchange's clock may be ahead of ours.
fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
