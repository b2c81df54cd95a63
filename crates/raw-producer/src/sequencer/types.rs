//! What goes into the sequencer and what comes out.

use super::Holes;

/// The exchange's clock, milliseconds since the epoch.
pub(crate) type Millis = i64;

/// The gate when nothing is held back.
pub(crate) const OPEN: Millis = Millis::MAX;

/// An instrument, for as long as the sequencer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InstrumentId(pub(super) u32);

/// How long and how much is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a gap holds its partition.
    pub(crate) hold_max: Millis,
    /// Trades that wait, at most; what does not fit is dropped and asked for again.
    pub(crate) max_buffered: usize,
    /// A trade so far ahead of the exchange's clock is dead-lettered.
    pub(crate) max_ahead: Millis,
    /// Between the two answers that make a hole.
    pub(crate) confirm_after: Millis,
    /// A gap of which history shows neither the trades nor a later one is given up after this time.
    pub(crate) patience: Millis,
}

/// A trade that comes in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncomingTrade<T> {
    /// Its number.
    pub(crate) seq: i64,
    /// When it happened.
    pub(crate) timestamp: Millis,
    /// Whether it cannot be published, and only its number counts.
    pub(crate) dead_lettered: bool,
    /// Whatever else there is to it.
    pub(crate) body: T,
}

impl<T> IncomingTrade<T> {
    /// A trade that is dead-lettered may have any time; it must hold nothing up.
    pub(super) fn effective(&self, now: Millis) -> Millis {
        if self.dead_lettered { self.timestamp.min(now) } else { self.timestamp }
    }
}

/// Where a trade came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TradeSource {
    /// The stream.
    Live,
    /// History, asked about a gap.
    GapRequest,
    /// History, read by time from a point before which everything is whole.
    History,
}

/// What became of a trade at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It goes out at once.
    Published,
    /// It waits.
    Held,
    /// It was there before.
    Duplicate,
    /// Its number had been given up.
    TooLate,
    /// It is older than the topic's start.
    BeforeStart,
    /// There was no room; it is known to be missing.
    Dropped,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Released<T> {
    /// Publish the trade.
    Publish(InstrumentId, IncomingTrade<T>),
    /// Put the trade where unreadable ones go.
    DeadLettered(InstrumentId, IncomingTrade<T>),
    /// The exchange has no trades of these numbers.
    ConfirmedHole(InstrumentId, i64, i64),
    /// The exchange does not say what these numbers were.
    Lost(InstrumentId, i64, i64),
}

/// A question for history: the trades of an instrument from a number or time up to one, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRequest {
    /// Whose.
    pub(crate) id: InstrumentId,
    /// By time rather than by number.
    pub(crate) by_time: bool,
    /// Numbers.
    pub(crate) seqs: (i64, i64),
    /// Times.
    pub(crate) times: (Millis, Millis),
}

/// What is remembered of an instrument across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastPublished {
    /// The last number that was published or given up.
    pub(crate) last: i64,
    /// The time of the last published trade.
    pub(crate) timestamp: Millis,
    /// Numbers that were given up.
    pub(crate) holes: Holes,
}
