//! Writes to Kafka: everything in transactions, in one order, on one thread.
//!
//! | module | contents |
//! |---|---|
//! | here | the records that the writer accepts |
//! | [`writer`] | the transactions |
//! | [`pacing`] | when a transaction begins and when it is committed |
//! | [`snapshots`] | records that go with the trades: snapshots, watermarks, the topic's state |
//! | [`snapshot_records`] | the format of snapshots |
//! | [`recovery`] | reads snapshots, and the trades after them, at a start |
//! | [`classify`] | whether a record in the trades topic is a trade of this producer |
//! | [`deliveries`] | Kafka's acknowledgements |
//! | [`dead_letter`] | records for the dead-letter topic |

pub(crate) mod classify;
pub(crate) mod dead_letter;
pub(crate) mod deliveries;
mod pacing;
pub(crate) mod recovery;
pub(crate) mod snapshot_records;
pub(crate) mod snapshots;
pub(crate) mod writer;

use std::sync::Arc;

use common::telemetry::trace::{self, SpanKind};
pub(crate) use dead_letter::DeadLetter;
pub use pacing::BATCH_MAX;
use snapshot_records::TopicState;
use tracing::Span;

use crate::clock::ExchangeTime;
use crate::sequencer::{Holes, InstrumentId};

/// The spans of a sampled trade. They end when Kafka has acknowledged or rejected it.
#[derive(Debug)]
pub(crate) struct TradeSpans {
    _received: Span,
    publish: Span,
}

impl TradeSpans {
    /// Starts the span of publishing as a child of `received`.
    pub(crate) fn new(received: Span) -> Self {
        let publish = trace::child(&trace::context(&received), "kafka publish", SpanKind::Producer);
        Self { _received: received, publish }
    }
}

/// A trade without its number and time.
#[derive(Debug)]
pub(crate) struct EncodedTrade {
    /// In the registry's wire format.
    pub(crate) value: Box<[u8]>,
    /// Our clock, microseconds since 1970.
    pub(crate) received_at: i64,
    /// Set if the trade is sampled.
    pub(crate) spans: Option<Box<TradeSpans>>,
}

/// An instrument, and the partition of its records.
#[derive(Debug, Clone)]
pub(crate) struct InstrumentRef {
    /// Cheaper to compare than the name.
    pub(crate) id: InstrumentId,
    pub(crate) name: Arc<str>,
    pub(crate) partition: i32,
}

/// Something to write. Records are committed in the order in which the writer accepts them.
#[derive(Debug)]
pub(crate) enum OutboundRecord {
    /// Numbers of an instrument go up from one trade to the next.
    Trade {
        instrument: InstrumentRef,
        seq: i64,
        timestamp: ExchangeTime,
        trade: EncodedTrade,
    },
    /// The instrument continues after numbers without a published trade.
    Skipped {
        instrument: InstrumentRef,
        /// The last number that was given up.
        last: i64,
        /// The time of the last published trade.
        timestamp: ExchangeTime,
        /// All given-up numbers of the instrument.
        holes: Holes,
    },
    /// Valid once all earlier records are committed.
    TopicState(TopicState),
    /// The instrument has no more trades; its snapshot is deleted.
    RemoveInstrument(Arc<str>),
    /// All trades of the partition up to this time were accepted before.
    Watermark {
        partition: i32,
        complete_through: ExchangeTime,
    },
    DeadLetter(DeadLetter),
}
