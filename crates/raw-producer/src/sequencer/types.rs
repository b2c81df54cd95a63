//! Inputs and outputs of the sequencer.

use std::ops::RangeInclusive;

use super::Holes;
use crate::clock::{ExchangeTime, Millis};

/// The gate's value while it holds nothing back.
pub(crate) const GATE_OPEN: ExchangeTime = ExchangeTime::MAX;

/// An instrument, by its position in the sequencer that returned this id. Valid for that sequencer only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InstrumentId(pub(super) u32);

/// Bounds of buffering and waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A gap holds its partition for at most this long.
    pub(crate) hold_max: Millis,
    /// The most trades that are held. Trades beyond that are dropped and requested again.
    pub(crate) max_buffered: usize,
    /// A trade further ahead of the exchange's clock is sent to the dead-letter topic.
    pub(crate) max_ahead: Millis,
    /// Time between the two answers that confirm a hole.
    pub(crate) confirm_after: Millis,
    /// A gap is given up after this time if history returns neither its trades nor a later one.
    pub(crate) give_up_after: Millis,
}

/// A trade as it arrives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncomingTrade<T> {
    pub(crate) seq: i64,
    pub(crate) timestamp: ExchangeTime,
    /// The trade goes to the dead-letter topic once its number is due.
    pub(crate) unpublishable: bool,
    /// What the caller needs to publish the trade; the sequencer does not look at it.
    pub(crate) payload: T,
}

impl<T> IncomingTrade<T> {
    /// The time that orders the trade. An unpublishable trade may have any timestamp; a later one than now must not hold others back.
    pub(super) fn effective_time(&self, now: ExchangeTime) -> ExchangeTime {
        if self.unpublishable { self.timestamp.min(now) } else { self.timestamp }
    }
}

/// Where a trade came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TradeSource {
    /// The subscribed channels.
    Live,
    /// The answer to a [`GapRequest`].
    GapRequest,
    /// History, read in order from a time before which nothing is missing.
    History,
}

/// The immediate fate of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Published,
    Held,
    /// Its number is published or held already.
    Duplicate,
    /// Its number was given up before it arrived.
    AfterGivenUp,
    /// It is older than the topic's start.
    BeforeStart,
    /// The buffer is full. The sequencer remembers that the trade exists and requests it.
    Dropped,
}

/// An output; the caller must process outputs in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Released<T> {
    Publish(InstrumentId, IncomingTrade<T>),
    DeadLetter(InstrumentId, IncomingTrade<T>),
    /// The exchange has no trades with these numbers.
    ConfirmedHole(InstrumentId, RangeInclusive<i64>),
    /// The exchange returned neither these trades nor a later one.
    Lost(InstrumentId, RangeInclusive<i64>),
}

/// How history is searched for missing trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchBy {
    Sequence,
    Time,
}

/// A request to history for the missing trades of one instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRequest {
    pub(crate) id: InstrumentId,
    pub(crate) by: SearchBy,
    pub(crate) seqs: RangeInclusive<i64>,
    pub(crate) times: RangeInclusive<ExchangeTime>,
}

/// The state of an instrument that outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastPublished {
    /// The last number that was published or given up.
    pub(crate) seq: i64,
    /// The highest timestamp of its published trades.
    pub(crate) timestamp: ExchangeTime,
    pub(crate) holes: Holes,
}

/// A trade that is known to exist, whether it is held or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownTrade {
    pub(super) seq: i64,
    pub(super) timestamp: ExchangeTime,
}
