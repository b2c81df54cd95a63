//! Which records of the trades' topic are trades: nothing keeps others from writing there too.
//!
//! A record that is none must not keep the producer from starting, and one that is must not be passed over: its trade would be published
//! twice. So only answers count, never silence, and a trade is known by more than what the registry says of it.

use apache_avro::Schema;
use common::avro::codec::{DecodeError, Decoder, SchemaId};
use common::avro::registry::RegistryError;
use common::avro::schema::TRADE;
use common::model::Trade;
use rdkafka::Message;
use rdkafka::message::Timestamp;

/// Asks the registry for a schema that trades were written by.
pub(crate) type AskRegistry<'a> = &'a dyn Fn(SchemaId) -> Result<Schema, RegistryError>;

/// What a record is.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are trades")]
#[derive(Debug)]
pub(crate) enum RecordKind {
    /// A trade.
    Trade(Trade<'static>),
    /// Somebody else's: why it is no trade.
    Unrecognized(String),
}

/// Tells trades from other records.
pub(crate) struct Classifier<'a> {
    ask: AskRegistry<'a>,
    by_registry: Decoder<Trade<'static>>,
    /// Takes every record for one of the contract's.
    by_contract: Decoder<Trade<'static>>,
    /// The last schema that the registry does not have: whoever writes by it seldom writes one record.
    missing: Option<(SchemaId, String)>,
}

impl<'a> Classifier<'a> {
    /// One that knows no schema yet.
    pub(crate) fn new(ask: AskRegistry<'a>) -> Self {
        let (by_registry, by_contract) = (Decoder::new(&TRADE), Decoder::new(&TRADE));
        Self { ask, by_registry, by_contract, missing: None }
    }

    /// What the record is.
    ///
    /// # Errors
    /// If the registry does not say what it was written by: then nobody knows.
    pub(crate) fn judge(&mut self, record: &impl Message) -> Result<RecordKind, RegistryError> {
        let Some(value) = record.payload() else {
            return Ok(RecordKind::Unrecognized("the value is null".into()));
        };
        Ok(match self.as_registered(value)? {
            Ok(trade) => RecordKind::Trade(trade),
            Err(why) => self.as_ours(record, value).map_or(RecordKind::Unrecognized(why), RecordKind::Trade),
        })
    }

    /// The trade, or why it is none, by the schema that the registry has for it.
    fn as_registered(&mut self, value: &[u8]) -> Result<Result<Trade<'static>, String>, RegistryError> {
        let mut decoded = self.by_registry.decode(value);
        if let Err(DecodeError::UnknownSchema(id)) = decoded {
            if let Some((_, why)) = self.missing.as_ref().filter(|(missing, _)| *missing == id) {
                return Ok(Err(why.clone()));
            }
            match (self.ask)(id) {
                Ok(schema) => self.by_registry.learn(id, schema),
                Err(error) if error.is_verdict() => {
                    self.missing = Some((id, error.to_string()));
                    return Ok(Err(error.to_string()));
                }
                Err(error) => return Err(error),
            }
            decoded = self.by_registry.decode(value);
        }
        Ok(decoded.map_err(|error| error.to_string()))
    }

    /// A registry that was lost and filled anew knows other numbers. What has the contract's layout, its trade's name for a key and its
    /// trade's time for a timestamp was written by a producer of ours all the same.
    fn as_ours(&mut self, record: &impl Message, value: &[u8]) -> Option<Trade<'static>> {
        let mut decoded = self.by_contract.decode(value);
        if let Err(DecodeError::UnknownSchema(id)) = decoded {
            self.by_contract.learn(id, TRADE.schema.clone());
            decoded = self.by_contract.decode(value);
        }
        decoded.ok().filter(|trade| {
            record.key() == Some(trade.instrument_name.as_bytes())
                && record.timestamp() == Timestamp::CreateTime(trade.timestamp)
        })
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

    fn is_trade(verdict: &RecordKind) -> bool {
        matches!(verdict, RecordKind::Trade(trade) if trade.trade_seq == 7)
    }

    fn has_none(id: SchemaId) -> Result<Schema, RegistryError> {
        Err(RegistryError::UnknownId(id))
    }

    #[test]
    fn a_trade_is_one_by_the_schema_that_the_registry_has_for_it() {
        let ask = |_| Ok(TRADE.schema.clone());
        let verdict = Classifier::new(&ask).judge(&record("any", Some(&value(3)))).unwrap();
        assert!(is_trade(&verdict), "{verdict:?}");
    }

    #[test]
    fn what_is_no_trade_by_any_answer_is_foreign_and_the_reason_is_told() {
        let text = Schema::parse_str("\"string\"").unwrap();
        let ask = |id| if id == 1 { Ok(text.clone()) } else { has_none(id) };
        for (bytes, reason) in [
            (None, "the value is null"),
            (Some(&b"{\"price\": 1}"[..]), "begins with 0x7b instead of 0x00"),
            (Some(&[0, 0, 0]), "only 3 bytes"),
            (Some(&[0, 0, 0, 0, 9, 1, 2]), "knows no schema 9"),
            (Some(&[0, 0, 0, 0, 1, 2, b'x']), "does not decode"),
        ] {
            match Classifier::new(&ask).judge(&record("BTC", bytes)).unwrap() {
                RecordKind::Unrecognized(why) => assert!(why.contains(reason), "{why}"),
                RecordKind::Trade(trade) => panic!("{trade:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_judged_while_the_registry_is_away_or_refuses() {
        let away = |_| Err(RegistryError::Away { url: "u".into(), detail: "d".into() });
        let refused = |_| Err(RegistryError::Refused { url: "u".into(), detail: "d".into() });
        Classifier::new(&away).judge(&record("BTC", Some(&value(3)))).unwrap_err();
        Classifier::new(&refused).judge(&record("BTC", Some(&value(3)))).unwrap_err();
    }

    #[test]
    fn a_trade_of_ours_stays_one_when_the_registry_was_lost() {
        let other = Schema::parse_str("\"string\"").unwrap();
        let ask = |id| if id == 1 { Ok(other.clone()) } else { has_none(id) };
        let mut recognizer = Classifier::new(&ask);
        for id in [1, 9] {
            let verdict = recognizer.judge(&record("BTC", Some(&value(id)))).unwrap();
            assert!(is_trade(&verdict), "{verdict:?}");
            let verdict = recognizer.judge(&record("another key", Some(&value(id)))).unwrap();
            assert!(!is_trade(&verdict), "{verdict:?}");
        }
    }

    #[test]
    fn the_registry_is_asked_once_for_what_it_does_not_have() {
        let asked = Cell::new(0);
        let ask = |id| {
            asked.set(asked.get() + 1);
            has_none(id)
        };
        let mut recognizer = Classifier::new(&ask);
        for _ in 0..3 {
            recognizer.judge(&record("BTC", Some(&[0, 0, 0, 0, 9, 1]))).unwrap();
        }
        assert_eq!(asked.get(), 1);
    }
}
