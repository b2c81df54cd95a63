//! The records of `<topics.trades>.sequences`: JSON, for people too.
//!
//! | key | value |
//! |---|---|
//! | an instrument | its last number, the time of its last trade, its holes; below which offset of its partition every trade is meant |
//! | `:owner` | which process writes the topic |
//! | `:topic` | where the topic starts, and up to when it was compared with the exchange's history |
//!
//! A round of snapshots has every instrument with trades since the round before, in one transaction. So everything below the highest
//! `covered` of a partition is in some snapshot, and only what is behind it has to be read.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::sequencer::{Holes, LastPublished};

/// The key of [`Owner`]; no instrument's name begins with a colon.
pub(crate) const OWNER: &str = ":owner";
/// The key of [`TopicState`].
pub(crate) const TOPIC: &str = ":topic";

/// Which process writes the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Different for each process.
    pub(crate) owner: String,
    /// When it began, by our clock.
    pub(crate) since: Millis,
}

/// What is known of the topic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicState {
    /// Trades before this time do not belong to it.
    pub(crate) start: Millis,
    /// Up to this time it was compared with history, and found or made whole.
    pub(crate) reconciled_through: Millis,
}

/// What is known of an instrument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstrumentSnapshot {
    /// The last number that was published or given up.
    pub(crate) last: i64,
    /// The time of the last published trade.
    pub(crate) timestamp: Millis,
    /// The instrument's partition of the trades' topic.
    pub(crate) partition: i32,
    /// Trades of that partition at lower offsets are taken into account, of all instruments in the same round.
    pub(crate) covered: i64,
    /// Numbers without a trade.
    #[serde(default, skip_serializing_if = "Holes::is_empty")]
    pub(crate) holes: Holes,
}

impl InstrumentSnapshot {
    /// What the sequencer wants to know.
    pub(crate) fn known(&self) -> LastPublished {
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
