//! The records of `<topics.trades>.sequences`, in JSON.
//!
//! | key | value |
//! |---|---|
//! | an instrument's name | [`InstrumentSnapshot`] |
//! | `:owner` | [`Owner`] |
//! | `:topic` | [`TopicState`] |
//!
//! A round of snapshots covers every instrument with trades since the last round, in one transaction. So every trade below the highest
//! `covered` of a partition is part of some snapshot. Only the trades after it must be read at a start.

use serde::{Deserialize, Serialize};

use crate::clock::ExchangeTime;
use crate::sequencer::{Holes, LastPublished};

/// The key of [`Owner`]; no instrument's name begins with a colon.
pub(crate) const OWNER: &str = ":owner";
/// The key of [`TopicState`].
pub(crate) const TOPIC: &str = ":topic";

/// The process that writes the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Unique for each process.
    pub(crate) owner: String,
    /// Its start by our clock, milliseconds since 1970.
    pub(crate) since: i64,
}

/// The state of the topic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicState {
    /// Older trades do not belong to the topic.
    pub(crate) start: ExchangeTime,
    /// Up to this time the topic was compared with history and has every trade.
    pub(crate) reconciled_through: ExchangeTime,
}

/// The state of an instrument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstrumentSnapshot {
    /// The last number that was published or given up.
    pub(crate) last: i64,
    /// The time of the last published trade.
    pub(crate) timestamp: ExchangeTime,
    /// The partition of the instrument's trades.
    pub(crate) partition: i32,
    /// The snapshots of this round include all trades of the partition below this offset.
    pub(crate) covered: i64,
    /// Numbers that were given up.
    #[serde(default, skip_serializing_if = "Holes::is_empty")]
    pub(crate) holes: Holes,
}

impl InstrumentSnapshot {
    pub(crate) fn last_published(&self) -> LastPublished {
        LastPublished { seq: self.last, timestamp: self.timestamp, holes: self.holes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_and_stays_small() {
        let mut snapshot = InstrumentSnapshot {
            last: 7,
            timestamp: 1_786_911_707_538,
            partition: 3,
            covered: 99,
            holes: Holes::default(),
        };
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(text, r#"{"last":7,"timestamp":1786911707538,"partition":3,"covered":99}"#);
        assert_eq!(serde_json::from_str::<InstrumentSnapshot>(&text).unwrap(), snapshot);
        snapshot.holes.add(3, 5);
        let text = serde_json::to_string(&snapshot).unwrap();
        assert!(text.ends_with(r#""holes":[[3,5]]}"#), "{text}");
        assert_eq!(serde_json::from_str::<InstrumentSnapshot>(&text).unwrap(), snapshot);
    }
}
