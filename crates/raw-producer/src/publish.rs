//! Records in flight to Kafka: many at a time, each delivery checked, the order of each partition kept by the idempotent producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::Failure;
use common::avro::codec::Encoder;
use common::kafka::admin::client_refused;
use common::model::Trade;
use common::telemetry::trace::{self, Kind, TRACEPARENT};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::watch;
use tracing::Span;

use crate::feed::now_micros;
use crate::metrics::FeedMetrics;

/// How long to wait before a full queue is tried again: about what it takes Kafka to acknowledge a batch.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// The spans of a sampled trade; they end when Kafka has acknowledged it, or refused.
#[derive(Debug)]
pub struct Traced {
    _received: Span,
    publish: Span,
}

impl Traced {
    /// Begins the span of writing to Kafka, below that of receiving.
    #[must_use]
    pub fn new(received: Span) -> Self {
        let publish = trace::child(&trace::context(&received), "kafka publish", Kind::Producer);
        Self { _received: received, publish }
    }
}

/// What is remembered of a record until its delivery is known.
struct InFlight {
    timestamp: i64,
    received_at: i64,
    traced: Option<Traced>,
}

/// Publishes trades.
pub struct Publisher {
    producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
    topic: String,
    encoder: Encoder,
    value: Vec<u8>,
    fatal: watch::Receiver<Option<String>>,
}

impl Publisher {
    /// A publisher to `topic`.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(
        config: &ClientConfig,
        topic: &str,
        encoder: Encoder,
        metrics: FeedMetrics,
    ) -> Result<Self, Failure> {
        let (fatal_tx, fatal) = watch::channel(None);
        let deliveries = Deliveries { metrics, unacknowledged: Arc::default(), fatal: Arc::new(fatal_tx) };
        let producer =
            config.create_with_context(deliveries.clone()).map_err(|error| client_refused(&error))?;
        Ok(Self {
            producer,
            deliveries,
            topic: topic.to_owned(),
            encoder,
            value: Vec::with_capacity(256),
            fatal,
        })
    }

    /// Hands a trade to the producer; waits while its queue is full.
    ///
    /// # Errors
    /// If Kafka cannot be written to any more.
    pub async fn publish(&mut self, trade: &Trade<'_>, traced: Option<Traced>) -> Result<(), Failure> {
        self.encoder.encode(trade, &mut self.value).map_err(|error| Failure::Defect(error.to_string()))?;
        let headers = traced
            .as_ref()
            .and_then(|traced| trace::inject(&traced.publish))
            .map(|context| OwnedHeaders::new().insert(Header { key: TRACEPARENT, value: Some(&context) }));
        let in_flight = InFlight { timestamp: trade.timestamp, received_at: trade.received_at, traced };
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(in_flight))
            .key(trade.instrument_name.as_ref())
            .payload(self.value.as_slice())
            .timestamp(trade.timestamp);
        record.headers = headers;
        loop {
            if let Some(why) = self.fatal.borrow().as_ref() {
                return Err(Failure::Other(anyhow::anyhow!("cannot write to {}: {why}", self.topic)));
            }
            // Counted before it is handed over: its delivery may be known before `send` returns.
            self.deliveries.sent();
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    self.deliveries.done();
                    if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                        return Err(Failure::Other(anyhow::anyhow!(
                            "cannot write to {}: {error}",
                            self.topic
                        )));
                    }
                    record = back;
                    tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                }
            }
        }
    }

    /// Waits until every trade is acknowledged, at most for `within`.
    ///
    /// # Errors
    /// If some are not.
    pub async fn flush(self, within: Duration) -> Result<(), Failure> {
        let Self { producer, deliveries, topic, .. } = self;
        // Counted before the producer is dropped: that reports what is left as purged.
        let flush = move || {
            producer.flush(within).map_err(|error| (error, deliveries.unacknowledged.load(Ordering::Relaxed)))
        };
        match tokio::task::spawn_blocking(flush).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((error, left))) => Err(Failure::Other(anyhow::anyhow!(
                "{left} trades were not acknowledged by {topic}: {error}"
            ))),
            Err(panicked) => Err(Failure::Defect(panicked.to_string())),
        }
    }
}

/// Where librdkafka reports deliveries, on its own thread.
#[derive(Clone)]
struct Deliveries {
    metrics: FeedMetrics,
    unacknowledged: Arc<AtomicU64>,
    fatal: Arc<watch::Sender<Option<String>>>,
}

impl Deliveries {
    fn sent(&self) {
        self.unacknowledged.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
    }

    fn done(&self) {
        self.unacknowledged.fetch_sub(1, Ordering::Relaxed);
        self.metrics.in_flight.dec();
    }
}

impl ClientContext for Deliveries {
    /// A fatal error leaves the idempotent producer unable to keep order: it takes nothing any more.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal.send_replace(Some(format!("{error}: {reason}")));
        }
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        self.done();
        match delivery {
            Ok(_) => {
                let now = now_micros();
                self.metrics.published.inc();
                self.metrics.feed_delay.observe(seconds(now - in_flight.timestamp * 1000));
                self.metrics.publish_delay.observe(seconds(now - in_flight.received_at));
            }
            Err((error, _)) => {
                self.metrics.refused.inc();
                tracing::error!(%error, timestamp = in_flight.timestamp, "kafka refused a trade");
            }
        }
        // Its spans end here.
        drop(in_flight.traced);
    }
}

/// Microseconds as seconds; the exchange's clock may be ahead of ours.
fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
