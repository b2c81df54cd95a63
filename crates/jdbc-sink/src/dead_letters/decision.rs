//! What is to be done about one dead letter.

use crate::dead_letters::headers::Origin;
use crate::record::{Reason, Record, Undecodable};

/// The reason of those that are good.
pub const BROUGHT_BACK: &str = "brought_back";

/// A letter that was judged.
pub struct Decision {
    /// The record that it once was; a letter that does not tell stands for itself.
    pub origin: Origin,
    /// [`BROUGHT_BACK`], or why not.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
    /// What gets its row.
    pub record: Option<Record>,
}

impl Decision {
    /// About a letter at `own` place, from the topic `expected` if Kafka Connect wrote it, whose value was judged so.
    #[must_use]
    pub fn of(
        own: Origin,
        (origin, expected): (Option<Origin>, &str),
        value: Result<Record, Undecodable>,
    ) -> Self {
        let Some(origin) = origin.filter(|origin| origin.topic == expected) else {
            let detail = format!("its headers do not say which record of {expected} it is");
            return Self { origin: own, reason: "no_origin", detail, record: None };
        };
        match value {
            Ok(record) => {
                let detail = "it decodes: Kafka Connect refused it for a passing reason".to_owned();
                Self { origin, reason: BROUGHT_BACK, detail, record: Some(record) }
            }
            Err(Undecodable { reason, detail }) => {
                Self { origin, reason: reason.name(), detail, record: None }
            }
        }
    }

    /// The same for a record that decodes but that Postgres refuses.
    #[must_use]
    pub fn refused(self, detail: String) -> Self {
        Self { reason: Reason::RefusedByPostgres.name(), detail, record: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::model::MovingAverage;

    fn place(topic: &str) -> Origin {
        Origin { topic: topic.into(), partition: 1, offset: 7 }
    }

    fn good() -> Record {
        Record::Average(Box::new(MovingAverage {
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
        }))
    }

    fn decide(origin: Option<Origin>, value: Result<Record, Undecodable>) -> Decision {
        Decision::of(place("t.connect-dlq"), (origin, "t"), value)
    }

    #[test]
    fn a_record_that_decodes_is_brought_back_under_its_own_place() {
        let decision = decide(Some(place("t")), Ok(good()));
        assert_eq!((decision.reason, decision.origin), (BROUGHT_BACK, place("t")));
        assert!(decision.record.is_some());
    }

    #[test]
    fn one_that_does_not_decode_stays_with_its_reason() {
        let undecodable = Undecodable { reason: Reason::Malformed, detail: "does not decode: x".into() };
        let decision = decide(Some(place("t")), Err(undecodable));
        assert_eq!((decision.reason, decision.detail.as_str()), ("malformed", "does not decode: x"));
        assert!(decision.record.is_none());
    }

    #[test]
    fn a_letter_that_kafka_connect_did_not_write_is_never_brought_back() {
        for origin in [None, Some(place("another"))] {
            let decision = decide(origin, Ok(good()));
            assert_eq!((decision.reason, decision.origin), ("no_origin", place("t.connect-dlq")));
            assert!(decision.record.is_none());
        }
    }

    #[test]
    fn what_postgres_refuses_stays() {
        let decision = decide(Some(place("t")), Ok(good())).refused("invalid byte sequence".into());
        assert_eq!(decision.reason, "refused_by_postgres");
        assert!(decision.record.is_none());
    }
}
