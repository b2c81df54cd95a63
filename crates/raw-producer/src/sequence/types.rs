//! What goes into the sequencer and what comes out.

use super::Holes;

/// The exchange's clock, milliseconds since the epoch.
pub type Millis = i64;

/// The gate when nothing is held back.
pub const OPEN: Millis = Millis::MAX;

/// An instrument, for as long as the sequencer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(super) u32);

/// How long and how much is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a gap holds its partition.
    pub hold_max: Millis,
    /// Trades that wait, at most; what does not fit is dropped and asked for again.
    pub max_held: usize,
    /// A trade so far ahead of the exchange's clock is set aside.
    pub max_ahead: Millis,
    /// Between the two answers that make a hole.
    pub confirm_after: Millis,
    /// A gap of which history shows neither the trades nor a later one is given up after this time.
    pub patience: Millis,
}

/// A trade that comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival<T> {
    /// Its number.
    pub seq: i64,
    /// When it happened.
    pub timestamp: Millis,
    /// Whether it cannot be published, and only its number counts.
    pub aside: bool,
    /// Whatever else there is to it.
    pub body: T,
}

impl<T> Arrival<T> {
    /// A trade that is set aside may have any time; it must hold nothing up.
    pub(super) fn effective(&self, now: Millis) -> Millis {
        if self.aside { self.timestamp.min(now) } else { self.timestamp }
    }
}

/// Where a trade came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The stream.
    Live,
    /// History, asked about a gap.
    Asked,
    /// History, read by time from a point before which everything is whole.
    Scan,
}

/// What became of a trade at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
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
pub enum Out<T> {
    /// Publish the trade.
    Publish(Id, Arrival<T>),
    /// Put the trade where unreadable ones go.
    SetAside(Id, Arrival<T>),
    /// The exchange has no trades of these numbers.
    Hole(Id, i64, i64),
    /// The exchange does not say what these numbers were.
    Lost(Id, i64, i64),
}

/// A question for history: the trades of an instrument from a number or time up to one, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub id: Id,
    /// By time rather than by number.
    pub by_time: bool,
    /// Numbers.
    pub seqs: (i64, i64),
    /// Times.
    pub times: (Millis, Millis),
}

/// What is remembered of an instrument across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The last number that was published or given up.
    pub last: i64,
    /// The time of the last published trade.
    pub timestamp: Millis,
    /// Numbers that were given up.
    pub holes: Holes,
}
