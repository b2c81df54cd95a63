//! What goes into Kafka: everything in transactions, in one order, by one thread.
//!
//! | module | what is in it |
//! |---|---|
//! | here | what can be handed in |
//! | [`state`] | the producer's own records, by which a later one learns what was published |
//! | [`learn`] | reading them, and the trades behind them, at a start |
//! | [`recognize`] | which of them are trades at all |
//! | [`book`] | what goes with the trades, and when |
//! | [`deliveries`] | what Kafka acknowledged |
//! | [`thread`] | the transactions |

pub(crate) mod classify;
pub(crate) mod deliveries;
pub(crate) mod recovery;
pub(crate) mod snapshot_records;
pub(crate) mod snapshots;
pub(crate) mod writer;

use std::sync::Arc;

use common::telemetry::trace::{self, Kind};
use snapshot_records::TopicState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Span;

use crate::clock::Millis;
use crate::sequencer::{Holes, InstrumentId};

/// The spans of a sampled trade; they end when Kafka has acknowledged it, or refused.
#[derive(Debug)]
pub(crate) struct TradeSpans {
    _received: Span,
    publish: Span,
}

impl TradeSpans {
    /// Begins the span of writing to Kafka, below that of receiving.
    pub(crate) fn new(received: Span) -> Self {
        let publish = trace::child(&trace::context(&received), "kafka publish", Kind::Producer);
        Self { _received: received, publish }
    }
}

/// A trade but for what orders it: its record's value, ready to be sent.
#[derive(Debug)]
pub(crate) struct EncodedTrade {
    /// In the wire format.
    pub(crate) value: Box<[u8]>,
    /// Our clock when it came in, microseconds since the epoch.
    pub(crate) received_at: i64,
    /// If it is sampled.
    pub(crate) traced: Option<Box<TradeSpans>>,
}

/// An instrument and where its records go.
#[derive(Debug, Clone)]
pub(crate) struct InstrumentRef {
    /// As the sequencer has it; other than its name it is compared at once.
    pub(crate) id: InstrumentId,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// In `deribit.trades`.
    pub(crate) partition: i32,
}

/// Something to be written; what is handed in first is committed first.
#[derive(Debug)]
pub(crate) enum OutboundRecord {
    /// A trade; its instrument's numbers go up from one to the next.
    Trade {
        /// Whose.
        of: InstrumentRef,
        /// Its number.
        seq: i64,
        /// When it happened.
        timestamp: Millis,
        /// The rest.
        body: EncodedTrade,
    },
    /// The instrument goes on behind numbers without a trade.
    Skipped {
        /// Whose.
        of: InstrumentRef,
        /// The last number that was given up.
        last: i64,
        /// The time of the instrument's last published trade.
        timestamp: Millis,
        /// All of the instrument's numbers without a trade.
        holes: Holes,
    },
    /// What is known of the topic as a whole, once what was handed in before is committed.
    TopicState(TopicState),
    /// Nothing more will come of the instrument.
    RemoveInstrument(Arc<str>),
    /// All trades of the partition up to this time have been handed in.
    Watermark {
        /// The partition.
        partition: i32,
        /// The time.
        time: Millis,
    },
    /// Something from the exchange that cannot be used.
    DeadLetter(DeadLetter),
}

/// Bytes from the socket, and why they could not be used.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Where they came from.
    pub(crate) channel: String,
    /// What is wrong with them.
    pub(crate) reason: String,
    /// As they came, at most [`DeadLetter::LONGEST`].
    pub(crate) bytes: Box<[u8]>,
    /// How many they were.
    pub(crate) length: usize,
    /// Its share of [`Self::WAITING`], while it waits to be written.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl DeadLetter {
    /// What is longer is cut.
    pub(crate) const LONGEST: usize = 512 * 1024;
    /// Bytes of them that wait to be written, at most.
    pub(crate) const WAITING: usize = 16 * 1024 * 1024;

    /// Likewise of a channel or a reason, which may quote what came: characters.
    const LONGEST_HEADER: usize = 1_000;

    /// A dead letter of `bytes`.
    pub(crate) fn new(channel: &str, reason: String, bytes: &[u8]) -> Self {
        let kept = bytes.get(..Self::LONGEST).unwrap_or(bytes);
        let cut = |mut text: String| {
            if let Some((at, _)) = text.char_indices().nth(Self::LONGEST_HEADER) {
                text.truncate(at);
            }
            text
        };
        Self {
            channel: cut(channel.to_owned()),
            reason: cut(reason),
            bytes: kept.into(),
            length: bytes.len(),
            room: None,
        }
    }

    /// Waits until there is room for it.
    pub(crate) async fn within(mut self, room: &Arc<Semaphore>) -> Self {
        let bytes = u32::try_from(self.bytes.len()).expect("the longest fits 32 bits");
        self.room = room.clone().acquire_many_owned(bytes).await.ok();
        self
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dead_letters_wait_outside_until_there_is_room_for_their_bytes() {
        let room = Arc::new(Semaphore::new(DeadLetter::WAITING));
        let letter = || DeadLetter::new("", String::new(), &[0; DeadLetter::LONGEST]).within(&room);
        let mut waiting = Vec::new();
        while let Ok(letter) = timeout(std::time::Duration::from_secs(1), letter()).await {
            waiting.push(letter);
        }
        assert_eq!(waiting.len(), DeadLetter::WAITING / DeadLetter::LONGEST);
        waiting.pop();
        drop(letter().await);
    }
}
