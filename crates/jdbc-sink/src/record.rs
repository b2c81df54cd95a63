//! What a record of a topic is: a row, or none, and why.

use std::time::Duration;

use common::Failure;
use common::avro::codec::{DecodeError, Decoder};
use common::avro::registry::{Registry, RegistryError};
use common::avro::schema::{MOVING_AVERAGE, TRADE};
use common::backoff::until_deadline;
use common::model::{MovingAverage, Trade};

use crate::sink::Pair;
use crate::table::{Row, TRADES};

/// Why a record has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It has no value.
    Tombstone,
    /// Its value is not in the wire format.
    NotWireFormat,
    /// The registry answered that it does not know the schema.
    UnknownSchema,
    /// The value does not fit its schema, or the schema not the contract.
    Malformed,
    /// It decodes, but Postgres takes no such row.
    RefusedByPostgres,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Tombstone, Self::NotWireFormat, Self::UnknownSchema, Self::Malformed, Self::RefusedByPostgres];

    /// As labels have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::NotWireFormat => "not_wire_format",
            Self::UnknownSchema => "unknown_schema",
            Self::Malformed => "malformed",
            Self::RefusedByPostgres => "refused_by_postgres",
        }
    }
}

/// A record that has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// Of what kind.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

/// Makes rows of the values of a pair's topic.
pub struct RowDecoder {
    registry: Registry,
    records: Records,
}

enum Records {
    Trades(Decoder<Trade<'static>>),
    Averages(Decoder<MovingAverage<'static>>),
}

/// A decoded record.
pub enum Record {
    /// A trade.
    Trade(Box<Trade<'static>>),
    /// A window's averages.
    Average(Box<MovingAverage<'static>>),
}

impl Record {
    /// Its row.
    #[must_use]
    pub fn row(&self) -> Row<'_> {
        match self {
            Self::Trade(trade) => Row::from(&**trade),
            Self::Average(average) => Row::from(&**average),
        }
    }
}

impl RowDecoder {
    /// A decoder for the pair's values.
    #[must_use]
    pub fn new(pair: &Pair, registry: Registry) -> Self {
        let records = if pair.table == &TRADES {
            Records::Trades(Decoder::new(&TRADE))
        } else {
            Records::Averages(Decoder::new(&MOVING_AVERAGE))
        };
        Self { registry, records }
    }

    /// The record in `value`, or that there is none in it.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry must be asked and does not answer: that is no verdict.
    pub async fn decode(
        &mut self,
        value: Option<&[u8]>,
    ) -> Result<Result<Record, Undecodable>, RegistryError> {
        let Some(value) = value else {
            return Ok(Err(Undecodable { reason: Reason::Tombstone, detail: "a null value".into() }));
        };
        let decoded = match self.records.decode(value) {
            Err(DecodeError::UnknownSchema(id)) => match self.registry.schema(id).await {
                Ok(schema) => {
                    match &mut self.records {
                        Records::Trades(decoder) => decoder.learn(id, schema),
                        Records::Averages(decoder) => decoder.learn(id, schema),
                    }
                    self.records.decode(value)
                }
                Err(RegistryError::UnknownId(id) | RegistryError::NotAvro { id, .. }) => {
                    Err(DecodeError::UnknownSchema(id))
                }
                Err(error) => return Err(error),
            },
            decoded => decoded,
        };
        Ok(decoded.map_err(undecodable))
    }

    /// The same, waiting for the registry at most for `deadline`.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] without a registry, [`Failure::Config`] if it refuses us.
    pub async fn decode_within(
        &mut self,
        value: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<Result<Record, Undecodable>, Failure> {
        match self.decode(value).await {
            Ok(judged) => Ok(judged),
            // Waiting has a price, which each of a billion records need not pay.
            Err(_) => {
                until_deadline("the schema registry", deadline, async || self.decode(value).await).await
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn undecodable(error: DecodeError) -> Undecodable {
    let reason = match error {
        DecodeError::NotWireFormat(_) => Reason::NotWireFormat,
        DecodeError::UnknownSchema(_) => Reason::UnknownSchema,
        DecodeError::Malformed(_) => Reason::Malformed,
    };
    Undecodable { reason, detail: error.to_string() }
}

impl Records {
    fn decode(&self, value: &[u8]) -> Result<Record, DecodeError> {
        Ok(match self {
            Self::Trades(decoder) => Record::Trade(Box::new(decoder.decode(value)?)),
            Self::Averages(decoder) => Record::Average(Box::new(decoder.decode(value)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn decoder(pair: &Pair) -> RowDecoder {
        let config: crate::Config = load_from(
            None,
            [("KSTREAM__SCHEMA_REGISTRY__URL".into(), "http://127.0.0.1:1/apis/ccompat/v7".into())],
        )
        .unwrap();
        RowDecoder::new(pair, Registry::new(&config.schema_registry).unwrap())
    }

    fn pairs() -> [Pair; 2] {
        let config: crate::Config = load_from(None, []).unwrap();
        Pair::all(&config.topics)
    }

    #[tokio::test]
    async fn a_tombstone_and_other_bytes_are_judged_without_asking_anybody() {
        for pair in &pairs() {
            let mut decoder = decoder(pair);
            let judged = decoder.decode(None).await.unwrap();
            assert_eq!(judged.err().unwrap().reason, Reason::Tombstone);
            let judged = decoder.decode(Some(b"{}")).await.unwrap();
            assert_eq!(judged.err().unwrap().reason, Reason::NotWireFormat);
        }
    }

    #[tokio::test]
    async fn a_registry_that_does_not_answer_is_no_verdict() {
        let mut decoder = decoder(&pairs()[0]);
        let asked = decoder.decode(Some(&[0, 0, 0, 0, 7, 1])).await;
        assert!(matches!(asked, Err(RegistryError::Away { .. })));
    }
}
