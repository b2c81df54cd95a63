//! Decoding with the schema registry: decode; if the schema id is unknown, ask the registry and decode again.

use apache_avro::Schema;
use serde::de::DeserializeOwned;

use super::codec::{DecodeError, Decoder, SchemaId};
use super::registry::{Registry, RegistryError};
use super::schema::Contract;

/// What became of one value.
#[derive(Debug)]
pub enum DecodeOutcome<R> {
    /// The value was decoded.
    Decoded(R),
    /// The value is no record of the contract. Another attempt gives the same outcome while the registry stays as it is.
    Undecodable(DecodeError),
    /// The value's schema is needed, and the registry does not answer or refuses access. The value may be a record.
    RegistryUnavailable(RegistryError),
}

/// A [`Decoder`] that looks up each schema id once and keeps the answer.
///
/// Lookups that find no schema are not kept: the registry may be restored later.
pub struct RegistryDecoder<T>(Decoder<T>);

impl<T: DeserializeOwned> RegistryDecoder<T> {
    /// A decoder for values of `contract`. It knows no schema id yet.
    #[must_use]
    pub fn new(contract: &'static Contract) -> Self {
        Self(Decoder::new(contract))
    }

    /// Decodes `bytes`; `lookup` asks the registry and may block.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        lookup: impl FnOnce(SchemaId) -> Result<Schema, RegistryError>,
    ) -> DecodeOutcome<T> {
        self.decode_by(|decoder| decoder.decode(bytes), lookup)
    }

    /// As [`Self::decode`], by a function of the caller, such as one that calls [`Decoder::decode_part`].
    #[inline]
    pub fn decode_by<R>(
        &mut self,
        decode: impl Fn(&Decoder<T>) -> Result<R, DecodeError>,
        lookup: impl FnOnce(SchemaId) -> Result<Schema, RegistryError>,
    ) -> DecodeOutcome<R> {
        match decode(&self.0) {
            Err(DecodeError::UnknownSchema(id)) => self.decode_again(id, lookup(id), decode),
            decoded => outcome(decoded),
        }
    }

    /// As [`Self::decode`], with an asynchronous lookup.
    pub async fn decode_with(&mut self, bytes: &[u8], registry: &Registry) -> DecodeOutcome<T> {
        match self.0.decode(bytes) {
            Err(DecodeError::UnknownSchema(id)) => {
                let found = registry.schema(id).await;
                self.decode_again(id, found, |decoder| decoder.decode(bytes))
            }
            decoded => outcome(decoded),
        }
    }

    fn decode_again<R>(
        &mut self,
        id: SchemaId,
        found: Result<Schema, RegistryError>,
        decode: impl Fn(&Decoder<T>) -> Result<R, DecodeError>,
    ) -> DecodeOutcome<R> {
        match found {
            Ok(schema) => {
                self.0.learn(id, schema);
                outcome(decode(&self.0))
            }
            Err(error) if error.is_conclusive() => {
                DecodeOutcome::Undecodable(DecodeError::NoSchema(error.to_string()))
            }
            Err(error) => DecodeOutcome::RegistryUnavailable(error),
        }
    }
}

#[inline]
fn outcome<R>(decoded: Result<R, DecodeError>) -> DecodeOutcome<R> {
    match decoded {
        Ok(record) => DecodeOutcome::Decoded(record),
        Err(error) => DecodeOutcome::Undecodable(error),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::avro::schema::TRADE;
    use crate::avro::trade_encoder::TradeEncoder;
    use crate::config::SchemaRegistryConfig;
    use crate::model::Trade;

    type TradeDecoder = RegistryDecoder<Trade<'static>>;

    fn value(id: SchemaId) -> Vec<u8> {
        let trade = Trade { trade_seq: 7, ..Trade::default() };
        let mut value = Vec::new();
        TradeEncoder::new(id).encode(&trade, &mut value);
        value
    }

    fn unavailable() -> RegistryError {
        RegistryError::Unavailable { url: "u".into(), detail: "d".into() }
    }

    #[test]
    fn the_registry_is_asked_once_for_a_schema_that_it_has() {
        let (mut decoder, asked) = (TradeDecoder::new(&TRADE), Cell::new(0));
        for _ in 0..3 {
            let lookup = |id| {
                asked.set(asked.get() + 1);
                assert_eq!(id, 3);
                Ok(TRADE.schema.clone())
            };
            let outcome = decoder.decode(&value(3), lookup);
            assert!(matches!(outcome, DecodeOutcome::Decoded(trade) if trade.trade_seq == 7));
        }
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn a_part_of_a_record_is_decoded_by_the_same_rules() {
        let mut decoder = TradeDecoder::new(&TRADE);
        let value = value(3);
        let outcome = decoder.decode_by(
            |decoder| decoder.decode_part(&value, |trade| trade.trade_seq),
            |_| Ok(TRADE.schema.clone()),
        );
        assert!(matches!(outcome, DecodeOutcome::Decoded(7)), "{outcome:?}");
    }

    #[test]
    fn bytes_in_another_format_are_undecodable_without_a_lookup() {
        let lookup = |_| panic!("the registry was asked");
        let outcome = TradeDecoder::new(&TRADE).decode(b"{}", lookup);
        assert!(matches!(outcome, DecodeOutcome::Undecodable(DecodeError::NotWireFormat(_))), "{outcome:?}");
    }

    #[test]
    fn a_schema_that_does_not_fit_the_contract_makes_a_value_undecodable() {
        let lookup = |_| Ok(Schema::parse_str("\"string\"").unwrap());
        let outcome = TradeDecoder::new(&TRADE).decode(&value(3), lookup);
        assert!(matches!(outcome, DecodeOutcome::Undecodable(DecodeError::Malformed(_))), "{outcome:?}");
    }

    #[test]
    fn a_missing_schema_makes_a_value_undecodable_until_it_is_registered() {
        let mut decoder = TradeDecoder::new(&TRADE);
        for missing in
            [RegistryError::UnknownId(9), RegistryError::NotAvro { id: 9, why: "its type is Json".into() }]
        {
            let text = missing.to_string();
            match decoder.decode(&value(9), |_| Err(missing)) {
                DecodeOutcome::Undecodable(error @ DecodeError::NoSchema(_)) => {
                    assert_eq!(error.to_string(), text);
                }
                other => panic!("{other:?}"),
            }
        }
        let outcome = decoder.decode(&value(9), |_| Ok(TRADE.schema.clone()));
        assert!(matches!(outcome, DecodeOutcome::Decoded(_)), "{outcome:?}");
    }

    #[test]
    fn a_registry_that_does_not_answer_leaves_the_value_open() {
        let mut decoder = TradeDecoder::new(&TRADE);
        for error in [unavailable(), RegistryError::Refused { url: "u".into(), detail: "d".into() }] {
            let outcome = decoder.decode(&value(9), |_| Err(error));
            assert!(matches!(outcome, DecodeOutcome::RegistryUnavailable(_)), "{outcome:?}");
        }
        let outcome = decoder.decode(&value(9), |_| Ok(TRADE.schema.clone()));
        assert!(matches!(outcome, DecodeOutcome::Decoded(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn an_asynchronous_lookup_has_the_same_outcomes() {
        let config = SchemaRegistryConfig {
            url: "http://127.0.0.1:1/v7".parse().unwrap(),
            username: None,
            password_file: None,
        };
        let registry = Registry::new(&config).unwrap();
        let mut decoder = TradeDecoder::new(&TRADE);
        let outcome = decoder.decode_with(&value(3), &registry).await;
        assert!(
            matches!(outcome, DecodeOutcome::RegistryUnavailable(RegistryError::Unavailable { .. })),
            "{outcome:?}"
        );
        decoder.decode(&value(3), |_| Ok(TRADE.schema.clone()));
        let outcome = decoder.decode_with(&value(3), &registry).await;
        assert!(matches!(outcome, DecodeOutcome::Decoded(_)), "known schemas need no registry: {outcome:?}");
    }
}
