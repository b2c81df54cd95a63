//! What becomes of a trade between socket and Kafka.

use std::time::{SystemTime, UNIX_EPOCH};

use common::Failure;
use common::telemetry::trace::{self, Kind, Sampler};

use crate::deribit::message::Bundle;
use crate::metrics::FeedMetrics;
use crate::publish::{Publisher, Traced};

/// Takes the trades of a connection, in its order, and publishes each.
pub struct Feed {
    publisher: Publisher,
    sampler: Sampler,
    metrics: FeedMetrics,
    taken: u64,
}

impl Feed {
    /// A feed into `publisher` that traces those trades that `sampler` lets pass.
    #[must_use]
    pub fn new(publisher: Publisher, sampler: Sampler, metrics: FeedMetrics) -> Self {
        Self { publisher, sampler, metrics, taken: 0 }
    }

    /// Publishes the trades of one notification; waits while Kafka is slower than the exchange, and then the socket is not read.
    ///
    /// # Errors
    /// If Kafka cannot be written to any more.
    pub async fn take(&mut self, bundle: Bundle<'_>) -> Result<(), Failure> {
        for (text, why) in &bundle.unreadable {
            self.unreadable(&format!(
                "a trade of {}: {why}: {}",
                bundle.channel,
                text.get(..200).unwrap_or(text)
            ));
        }
        for trade in &bundle.trades {
            let traced = self.sampler.take().then(|| begin_trace(&bundle.channel, &trade.instrument_name));
            self.publisher.publish(trade, traced).await?;
            self.metrics.received.inc();
            self.taken += 1;
        }
        Ok(())
    }

    /// Notes something that came from the exchange and could not be read.
    pub fn unreadable(&self, what: &str) {
        self.metrics.unreadable.inc();
        tracing::warn!(what, "cannot read what the exchange sent");
    }

    /// Trades taken since the start.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The publisher, when no more trades will come.
    #[must_use]
    pub fn into_publisher(self) -> Publisher {
        self.publisher
    }
}

/// The trace of one trade: from the socket until Kafka has it, and below it the writing to Kafka.
fn begin_trace(channel: &str, instrument: &str) -> Traced {
    let received = trace::root("websocket receive", Kind::Consumer);
    trace::tag(&received, "deribit.channel", channel.to_owned());
    trace::tag(&received, "deribit.instrument", instrument.to_owned());
    Traced::new(received)
}

/// Our clock, in microseconds since the epoch.
#[must_use]
pub fn now_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}
