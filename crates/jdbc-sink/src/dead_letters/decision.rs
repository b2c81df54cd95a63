//! Decides whether a dead letter is requeued.

use crate::record::{DecodedRecord, NoRowReason, RecordLocation, RecordOutcome, Undecodable};

/// The reason of requeued letters, as the table `dead_letters` has stored it since migration V2.
pub(super) const REQUEUED: &str = "brought_back";

/// The reason of letters that Kafka Connect did not write, likewise.
const NO_ORIGIN: &str = "no_origin";

pub(super) struct DeadLetterDecision {
    /// The record in its own topic; a letter without origin stands for itself.
    pub(super) location: RecordLocation,
    /// [`REQUEUED`], or why the record has no row.
    pub(super) reason: &'static str,
    pub(super) detail: String,
    /// Is written to the table.
    pub(super) record: Option<DecodedRecord>,
}

impl DeadLetterDecision {
    /// About a letter at `location` in the dead-letter topic of `topic`.
    pub(super) fn new(
        location: RecordLocation,
        origin: Option<RecordLocation>,
        topic: &str,
        outcome: RecordOutcome,
    ) -> Self {
        match origin.filter(|origin| origin.topic == topic) {
            Some(origin) => Self::of_origin(origin, outcome),
            None => {
                let detail = format!("its headers do not say which record of {topic} it is");
                Self { location, reason: NO_ORIGIN, detail, record: None }
            }
        }
    }

    /// About the record from which a letter was made.
    pub(super) fn of_origin(location: RecordLocation, outcome: RecordOutcome) -> Self {
        match outcome {
            RecordOutcome::Decoded(record) => {
                let detail = "it decodes: Kafka Connect rejected it for a temporary reason".to_owned();
                Self { location, reason: REQUEUED, detail, record: Some(record) }
            }
            RecordOutcome::Undecodable(Undecodable { reason, detail }) => {
                Self { location, reason: reason.name(), detail, record: None }
            }
        }
    }

    /// The same about a record that decodes but that Postgres rejects.
    pub(super) fn rejected(self, detail: String) -> Self {
        Self { reason: NoRowReason::RejectedByPostgres.name(), detail, record: None, ..self }
    }

    pub(super) fn is_requeued(&self) -> bool {
        self.reason == REQUEUED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::MovingAverage;

    fn location(topic: &str) -> RecordLocation {
        RecordLocation { topic: topic.into(), partition: 1, offset: 7 }
    }

    fn good() -> RecordOutcome {
        RecordOutcome::Decoded(DecodedRecord::MovingAverage(Box::new(MovingAverage {
            instrument_name: "A".into(),
            window_start: 0,
            window_end: 1,
            trade_count: 1,
            sma: 1.0,
            ema: 1.0,
            vwap: 1.0,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 1.0,
        })))
    }

    fn decide(origin: Option<RecordLocation>, outcome: RecordOutcome) -> DeadLetterDecision {
        DeadLetterDecision::new(location("t.connect-dlq"), origin, "t", outcome)
    }

    #[test]
    fn a_record_that_decodes_is_requeued_under_its_origin() {
        let decision = decide(Some(location("t")), good());
        assert_eq!((decision.reason, decision.location), (REQUEUED, location("t")));
        assert!(decision.record.is_some());
    }

    #[test]
    fn one_that_does_not_decode_is_kept_with_its_reason() {
        let undecodable = Undecodable { reason: NoRowReason::Malformed, detail: "does not decode: x".into() };
        let decision = decide(Some(location("t")), RecordOutcome::Undecodable(undecodable));
        assert_eq!((decision.reason, decision.detail.as_str()), ("malformed", "does not decode: x"));
        assert!(decision.record.is_none());
    }

    #[test]
    fn a_letter_that_kafka_connect_did_not_write_is_never_requeued() {
        for origin in [None, Some(location("another"))] {
            let decision = decide(origin, good());
            assert_eq!((decision.reason, decision.location), ("no_origin", location("t.connect-dlq")));
            assert!(decision.record.is_none());
        }
    }

    #[test]
    fn one_that_postgres_rejects_is_kept() {
        let decision = decide(Some(location("t")), good()).rejected("invalid byte sequence".into());
        assert_eq!(decision.reason, "refused_by_postgres");
        assert!(decision.record.is_none());
    }
}
