//! Kafka's acknowledgements, as librdkafka reports them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::clock::now_micros;
use common::kafka::client_log::log_client_error;
use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::TradeSpans;
use crate::metrics::FeedMetrics;

/// What a delivery report needs to know of its record.
#[derive(Debug)]
pub(crate) enum PendingDelivery {
    /// A snapshot, a watermark, a dead letter.
    Internal,
    Trade {
        /// By the exchange, milliseconds.
        timestamp: i64,
        /// By our clock, microseconds.
        received_at: i64,
        /// They end with the delivery.
        spans: Option<Box<TradeSpans>>,
    },
}

/// Receives delivery reports; clones share their state.
#[derive(Clone)]
pub(crate) struct DeliveryReports {
    metrics: FeedMetrics,
    /// For each partition of the trades topic, the offset after the last trade.
    next_offsets: Arc<Mutex<Vec<i64>>>,
}

impl DeliveryReports {
    pub(crate) fn new(metrics: FeedMetrics) -> Self {
        Self { metrics, next_offsets: Arc::default() }
    }

    /// Sets the offset after the last trade of each partition, as found at the start.
    pub(crate) fn set_next_offsets(&self, next_offsets: Vec<i64>) {
        *self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner) = next_offsets;
    }

    /// The offset after the last acknowledged trade of each partition.
    pub(crate) fn next_offsets(&self) -> Vec<i64> {
        self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a trade that is passed to librdkafka.
    pub(crate) fn on_send(&self) {
        self.metrics.in_flight.inc();
    }

    fn on_delivery(&self, partition: i32, offset: i64) {
        let mut offsets = self.next_offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = usize::try_from(partition).ok().and_then(|at| offsets.get_mut(at)) {
            *next = offset + 1;
        }
    }
}

impl ClientContext for DeliveryReports {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Box<PendingDelivery>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, pending: Box<PendingDelivery>) {
        let PendingDelivery::Trade { timestamp, received_at, spans } = *pending else {
            if let Err((error, _)) = delivery {
                tracing::debug!(%error, "internal record was not delivered");
            }
            return;
        };
        self.metrics.in_flight.dec();
        match delivery {
            Ok(record) => {
                self.on_delivery(record.partition(), record.offset());
                let now = now_micros();
                self.metrics.published.inc();
                self.metrics.feed_delay.observe(seconds(now - timestamp * 1000));
                self.metrics.publish_delay.observe(seconds(now - received_at));
            }
            Err((error, _)) => {
                self.metrics.refused.inc();
                tracing::debug!(%error, timestamp, "trade was not delivered");
            }
        }
        drop(spans);
    }
}

/// Microseconds as seconds. A negative delay counts as 0: the exchange's clock may be ahead of ours.
fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
