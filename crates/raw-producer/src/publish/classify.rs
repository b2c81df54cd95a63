//! Whether a record in the trades topic is a trade of this producer: other programs may write there too.
//!
//! A foreign record must not prevent a start. A skipped trade would be published twice. So a record is unrecognized only by an answer of the
//! registry, never because the registry is unavailable. And the registry alone does not decide that a record is no trade.

use apache_avro::Schema;
use common::avro::codec::SchemaId;
use common::avro::registry::RegistryError;
use common::avro::registry_decoder::{DecodeOutcome, RegistryDecoder};
use common::avro::schema::TRADE;
use common::model::Trade;
use rdkafka::Message;
use rdkafka::message::Timestamp;

/// Asks the registry for a schema; may block.
pub(crate) type SchemaLookup<'a> = &'a dyn Fn(SchemaId) -> Result<Schema, RegistryError>;

#[expect(clippy::large_enum_variant, reason = "nearly all records are trades")]
#[derive(Debug)]
pub(crate) enum RecordKind {
    Trade(Trade<'static>),
    /// Why it is no trade.
    Unrecognized(String),
}

/// Distinguishes trades from other records.
pub(crate) struct Classifier<'a> {
    lookup: SchemaLookup<'a>,
    by_registry: RegistryDecoder<Trade<'static>>,
    /// Assumes that every schema is the contract's.
    by_contract: RegistryDecoder<Trade<'static>>,
    /// The last schema that the registry does not have, and its answer. Records with such a schema seldom come alone.
    missing: Option<(SchemaId, RegistryError)>,
}

impl<'a> Classifier<'a> {
    pub(crate) fn new(lookup: SchemaLookup<'a>) -> Self {
        let (by_registry, by_contract) = (RegistryDecoder::new(&TRADE), RegistryDecoder::new(&TRADE));
        Self { lookup, by_registry, by_contract, missing: None }
    }

    /// Fails if the registry does not answer: then the record may be a trade.
    pub(crate) fn classify(&mut self, record: &impl Message) -> Result<RecordKind, RegistryError> {
        let Some(value) = record.payload() else {
            return Ok(RecordKind::Unrecognized("the value is null".into()));
        };
        let Self { lookup, by_registry, missing, .. } = self;
        let lookup_unless_missing = |id| match missing {
            Some((missing, error)) if *missing == id => Err(error.clone()),
            _ => lookup(id).inspect_err(|error| {
                if error.is_conclusive() {
                    *missing = Some((id, error.clone()));
                }
            }),
        };
        match by_registry.decode(value, lookup_unless_missing) {
            DecodeOutcome::Decoded(trade) => Ok(RecordKind::Trade(trade)),
            DecodeOutcome::RegistryUnavailable(error) => Err(error),
            DecodeOutcome::Undecodable(error) => Ok(match self.decode_as_ours(record, value) {
                Some(trade) => RecordKind::Trade(trade),
                None => RecordKind::Unrecognized(error.to_string()),
            }),
        }
    }

    /// A registry that was lost and filled again has other ids. A record with the contract's layout, its trade's name as key and its trade's
    /// time as timestamp is still one of ours.
    fn decode_as_ours(&mut self, record: &impl Message, value: &[u8]) -> Option<Trade<'static>> {
        let outcome = self.by_contract.decode(value, |_| Ok(TRADE.schema.clone()));
        let DecodeOutcome::Decoded(trade) = outcome else { return None };
        let is_ours = record.key() == Some(trade.instrument_name.as_bytes())
            && record.timestamp() == Timestamp::CreateTime(trade.timestamp);
        is_ours.then_some(trade)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use common::avro::trade_encoder::TradeEncoder;
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn value(id: SchemaId) -> Vec<u8> {
        let trade = Trade { instrument_name: "BTC".into(), trade_seq: 7, timestamp: 5, ..Trade::default() };
        let mut value = Vec::new();
        TradeEncoder::new(id).encode(&trade, &mut value);
        value
    }

    fn record(key: &str, value: Option<&[u8]>) -> OwnedMessage {
        let (key, value) = (Some(key.into()), value.map(<[u8]>::to_vec));
        OwnedMessage::new(value, key, "t".into(), Timestamp::CreateTime(5), 0, 0, None)
    }

    fn is_trade(kind: &RecordKind) -> bool {
        matches!(kind, RecordKind::Trade(trade) if trade.trade_seq == 7)
    }

    fn has_none(id: SchemaId) -> Result<Schema, RegistryError> {
        Err(RegistryError::UnknownId(id))
    }

    #[test]
    fn a_record_is_a_trade_if_it_decodes_by_its_registered_schema() {
        let ask = |_| Ok(TRADE.schema.clone());
        let kind = Classifier::new(&ask).classify(&record("any", Some(&value(3)))).unwrap();
        assert!(is_trade(&kind), "{kind:?}");
    }

    #[test]
    fn a_record_that_is_no_trade_by_any_answer_is_unrecognized_with_the_reason() {
        let text = Schema::parse_str("\"string\"").unwrap();
        let ask = |id| if id == 1 { Ok(text.clone()) } else { has_none(id) };
        for (bytes, reason) in [
            (None, "the value is null"),
            (Some(&b"{\"price\": 1}"[..]), "begins with 0x7b instead of 0x00"),
            (Some(&[0, 0, 0]), "only 3 bytes"),
            (Some(&[0, 0, 0, 0, 9, 1, 2]), "knows no schema 9"),
            (Some(&[0, 0, 0, 0, 1, 2, b'x']), "does not decode"),
        ] {
            match Classifier::new(&ask).classify(&record("BTC", bytes)).unwrap() {
                RecordKind::Unrecognized(why) => assert!(why.contains(reason), "{why}"),
                RecordKind::Trade(trade) => panic!("{trade:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_classified_while_the_registry_is_unavailable_or_refuses() {
        let away = |_| Err(RegistryError::Unavailable { url: "u".into(), detail: "d".into() });
        let refused = |_| Err(RegistryError::Refused { url: "u".into(), detail: "d".into() });
        Classifier::new(&away).classify(&record("BTC", Some(&value(3)))).unwrap_err();
        Classifier::new(&refused).classify(&record("BTC", Some(&value(3)))).unwrap_err();
    }

    #[test]
    fn a_trade_of_ours_is_recognized_after_the_registry_was_lost() {
        let other = Schema::parse_str("\"string\"").unwrap();
        let ask = |id| if id == 1 { Ok(other.clone()) } else { has_none(id) };
        let mut classifier = Classifier::new(&ask);
        for id in [1, 9] {
            let kind = classifier.classify(&record("BTC", Some(&value(id)))).unwrap();
            assert!(is_trade(&kind), "{kind:?}");
            let kind = classifier.classify(&record("another key", Some(&value(id)))).unwrap();
            assert!(!is_trade(&kind), "{kind:?}");
        }
    }

    #[test]
    fn the_registry_is_asked_once_for_a_schema_that_it_does_not_have() {
        let asked = Cell::new(0);
        let ask = |id| {
            asked.set(asked.get() + 1);
            has_none(id)
        };
        let mut classifier = Classifier::new(&ask);
        for _ in 0..3 {
            classifier.classify(&record("BTC", Some(&[0, 0, 0, 0, 9, 1]))).unwrap();
        }
        assert_eq!(asked.get(), 1);
    }
}
