//! A record of a topic: its location, and its row or the reason why it has none.

use std::time::Duration;

use common::Failure;
use common::avro::codec::{DecodeError, Decoder};
use common::avro::registry::{Registry, RegistryError};
use common::avro::schema::{MOVING_AVERAGE, TRADE};
use common::backoff::until_deadline;
use common::model::{MovingAverage, Trade};
use rdkafka::Message;

use crate::sink::Sink;
use crate::table::{Row, TRADES};

/// Where a record is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordLocation {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl RecordLocation {
    pub(crate) fn of(message: &impl Message) -> Self {
        Self { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() }
    }
}

/// Why a record has no row. The names are stored in the table `dead_letters`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum NoRowReason {
    /// It has no value.
    Tombstone,
    /// Its value is not in the wire format.
    NotWireFormat,
    /// The registry answered that it does not know the schema.
    UnknownSchema,
    /// The value does not fit its schema, or the schema does not fit the contract.
    Malformed,
    /// It decodes, but Postgres rejects the row.
    #[serde(rename = "refused_by_postgres")]
    #[strum(serialize = "refused_by_postgres")]
    RejectedByPostgres,
}

impl NoRowReason {
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// A value that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable {
    pub(crate) reason: NoRowReason,
    pub(crate) detail: String,
}

/// The result of decoding a value for which the registry, if it was needed, answered.
pub(crate) enum RecordOutcome {
    Decoded(DecodedRecord),
    Undecodable(Undecodable),
}

pub(crate) enum DecodedRecord {
    Trade(Box<Trade<'static>>),
    MovingAverage(Box<MovingAverage<'static>>),
}

impl DecodedRecord {
    pub(crate) fn row(&self) -> Row<'_> {
        match self {
            Self::Trade(trade) => Row::from(&**trade),
            Self::MovingAverage(average) => Row::from(&**average),
        }
    }
}

/// Decodes the values of a sink's topic.
pub(crate) struct RowDecoder {
    registry: Registry,
    values: ValueDecoder,
}

enum ValueDecoder {
    Trades(Decoder<Trade<'static>>),
    MovingAverages(Decoder<MovingAverage<'static>>),
}

impl RowDecoder {
    pub(crate) fn new(sink: &Sink, registry: Registry) -> Self {
        let values = if sink.table == &TRADES {
            ValueDecoder::Trades(Decoder::new(&TRADE))
        } else {
            ValueDecoder::MovingAverages(Decoder::new(&MOVING_AVERAGE))
        };
        Self { registry, values }
    }

    /// Decodes a value; asks the registry for a schema that is not known yet.
    ///
    /// # Errors
    /// [`RegistryError`] if the registry does not answer: the value may still be good.
    pub(crate) async fn decode(&mut self, value: Option<&[u8]>) -> Result<RecordOutcome, RegistryError> {
        let Some(value) = value else {
            let (reason, detail) = (NoRowReason::Tombstone, "a null value".to_owned());
            return Ok(RecordOutcome::Undecodable(Undecodable { reason, detail }));
        };
        let decoded = match self.values.decode(value) {
            Err(DecodeError::UnknownSchema(id)) => match self.registry.schema(id).await {
                Ok(schema) => {
                    match &mut self.values {
                        ValueDecoder::Trades(decoder) => decoder.learn(id, schema),
                        ValueDecoder::MovingAverages(decoder) => decoder.learn(id, schema),
                    }
                    self.values.decode(value)
                }
                Err(RegistryError::UnknownId(id) | RegistryError::NotAvro { id, .. }) => {
                    Err(DecodeError::UnknownSchema(id))
                }
                Err(error) => return Err(error),
            },
            decoded => decoded,
        };
        Ok(match decoded {
            Ok(record) => RecordOutcome::Decoded(record),
            Err(error) => RecordOutcome::Undecodable(error.into()),
        })
    }

    /// Decodes a value; retries until `deadline` while the registry does not answer.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] without a registry; [`Failure::Config`] if it rejects our requests.
    pub(crate) async fn decode_within(
        &mut self,
        value: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<RecordOutcome, Failure> {
        match self.decode(value).await {
            Ok(outcome) => Ok(outcome),
            // A timer costs something, and a billion records do not need one.
            Err(_) => {
                until_deadline("the schema registry", deadline, async || self.decode(value).await).await
            }
        }
    }
}

impl From<DecodeError> for Undecodable {
    fn from(error: DecodeError) -> Self {
        let reason = match error {
            DecodeError::NotWireFormat(_) => NoRowReason::NotWireFormat,
            DecodeError::UnknownSchema(_) | DecodeError::NoSchema(_) => NoRowReason::UnknownSchema,
            DecodeError::Malformed(_) => NoRowReason::Malformed,
        };
        Self { reason, detail: error.to_string() }
    }
}

impl ValueDecoder {
    fn decode(&self, value: &[u8]) -> Result<DecodedRecord, DecodeError> {
        Ok(match self {
            Self::Trades(decoder) => DecodedRecord::Trade(Box::new(decoder.decode(value)?)),
            Self::MovingAverages(decoder) => DecodedRecord::MovingAverage(Box::new(decoder.decode(value)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn decoder(sink: &Sink) -> RowDecoder {
        let config: crate::Config = load_from(
            None,
            [("KSTREAM__SCHEMA_REGISTRY__URL".into(), "http://127.0.0.1:1/apis/ccompat/v7".into())],
        )
        .unwrap();
        RowDecoder::new(sink, Registry::new(&config.schema_registry).unwrap())
    }

    fn sinks() -> [Sink; 2] {
        let config: crate::Config = load_from(None, []).unwrap();
        Sink::all(&config.topics)
    }

    fn reason(outcome: &RecordOutcome) -> Option<NoRowReason> {
        match outcome {
            RecordOutcome::Decoded(_) => None,
            RecordOutcome::Undecodable(Undecodable { reason, .. }) => Some(*reason),
        }
    }

    #[tokio::test]
    async fn a_tombstone_and_foreign_bytes_need_no_registry() {
        for sink in &sinks() {
            let mut decoder = decoder(sink);
            let outcome = decoder.decode(None).await.unwrap();
            assert_eq!(reason(&outcome), Some(NoRowReason::Tombstone));
            let outcome = decoder.decode(Some(b"{}")).await.unwrap();
            assert_eq!(reason(&outcome), Some(NoRowReason::NotWireFormat));
        }
    }

    #[tokio::test]
    async fn an_unavailable_registry_decides_nothing() {
        let mut decoder = decoder(&sinks()[0]);
        let outcome = decoder.decode(Some(&[0, 0, 0, 0, 7, 1])).await;
        assert!(matches!(outcome, Err(RegistryError::Unavailable { .. })));
    }

    #[test]
    fn reasons_have_one_name_in_metrics_reports_and_the_database() {
        use strum::VariantArray as _;
        let names: Vec<_> = NoRowReason::VARIANTS.iter().map(|reason| reason.name()).collect();
        let expected = ["tombstone", "not_wire_format", "unknown_schema", "malformed", "refused_by_postgres"];
        assert_eq!(names, expected);
        assert_eq!(serde_json::to_value(NoRowReason::VARIANTS).unwrap(), serde_json::json!(expected));
    }
}
