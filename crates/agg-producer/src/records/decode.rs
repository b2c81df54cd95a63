//! From a record to a trade, or to the reason why it is none.

use std::borrow::Cow;
use std::time::Duration;

use common::avro::Schema;
use common::avro::codec::{DecodeError, Decoder, SchemaId};
use common::avro::registry::{Registry, RegistryError};
use common::avro::schema::TRADE;
use common::model::{EventTime, Trade};
use rdkafka::message::Timestamp;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

/// How long the registry may take for one answer. The thread waits for it: nothing can be decoded without it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Beyond this (the year 287,396) milliseconds are no whole doubles any more.
const LAST_TIMESTAMP: EventTime = 1 << 53;

/// What is needed of a trade.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedTrade<'r> {
    /// What was traded.
    pub instrument: Cow<'r, str>,
    /// Event time.
    pub timestamp: EventTime,
    /// In the instrument's quote currency.
    pub price: f64,
    /// As the exchange counts it.
    pub amount: f64,
}

impl<'r> From<Trade<'r>> for DecodedTrade<'r> {
    #[inline]
    fn from(trade: Trade<'r>) -> Self {
        let Trade { instrument_name: instrument, timestamp, price, amount, .. } = trade;
        Self { instrument, timestamp, price, amount }
    }
}

/// What is known of a record.
#[derive(Debug)]
pub enum DecodeOutcome<'r> {
    /// A trade.
    Trade(DecodedTrade<'r>),
    /// Not a trade, and never will be: the reason.
    Undecodable(String),
    /// Not known yet, as the registry does not tell: the reason.
    RegistryAway(String),
    /// It never will be known, as the registry refuses us: the reason.
    Refused(String),
}

/// What the registry said of a schema, other than the schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It answered, and there is no such Avro schema.
    #[error("{0}")]
    None(RegistryError),
    /// It did not answer.
    #[error("{0}")]
    Away(String),
    /// It does not talk to us.
    #[error("{0}")]
    Refused(RegistryError),
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is not what its schema says.
    #[error("{0}")]
    Damaged(DecodeError),
    /// Its schema is not known.
    #[error("{0}")]
    Schema(#[from] SchemaError),
}

/// Asks the registry for schemas, from a thread that waits for the answer.
#[derive(Clone)]
pub struct Schemas {
    registry: Registry,
    runtime: Handle,
}

impl Schemas {
    /// Asks `registry`, on `runtime`.
    #[must_use]
    pub fn new(registry: Registry, runtime: Handle) -> Self {
        Self { registry, runtime }
    }

    /// Blocks until the registry has answered, or for too long.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn ask(&self, id: SchemaId) -> Result<Schema, SchemaError> {
        let ask = async { tokio::time::timeout(ANSWER_WITHIN, self.registry.schema(id)).await };
        match self.runtime.block_on(ask) {
            Ok(Ok(schema)) => Ok(schema),
            Ok(Err(error)) if error.is_conclusive() => Err(SchemaError::None(error)),
            Ok(Err(error @ RegistryError::Unavailable { .. })) => Err(SchemaError::Away(error.to_string())),
            Ok(Err(error)) => Err(SchemaError::Refused(error)),
            Err(_) => Err(SchemaError::Away(format!(
                "the schema registry did not return schema {id} within {ANSWER_WITHIN:?}"
            ))),
        }
    }

    /// What `decode` makes of a record, by a decoder that is taught the record's schema first if it does not know it. Blocks while the
    /// registry is asked.
    ///
    /// # Errors
    /// [`Unread`].
    #[inline]
    pub fn taught<T: DeserializeOwned, R>(
        &self,
        decoder: &mut Decoder<T>,
        decode: impl Fn(&Decoder<T>) -> Result<R, DecodeError>,
    ) -> Result<R, Unread> {
        let decoded = match decode(decoder) {
            Err(DecodeError::UnknownSchema(id)) => {
                decoder.learn(id, self.ask(id)?);
                decode(decoder)
            }
            decoded => decoded,
        };
        decoded.map_err(Unread::Damaged)
    }
}

/// Decodes trades by the schemas that they were written with.
pub struct TradeDecoder {
    decoder: Decoder<Trade<'static>>,
    schemas: Schemas,
}

impl TradeDecoder {
    /// A decoder that asks for each schema once.
    #[must_use]
    pub fn new(schemas: Schemas) -> Self {
        Self { decoder: Decoder::new(&TRADE), schemas }
    }

    /// Judges a record by its value and timestamp. Blocks while the registry is asked.
    pub fn decode<'r>(&mut self, value: Option<&'r [u8]>, timestamp: Timestamp) -> DecodeOutcome<'r> {
        let Some(value) = value else { return DecodeOutcome::Undecodable("the value is null".into()) };
        let decode = |decoder: &Decoder<Trade<'static>>| decoder.decode_part(value, DecodedTrade::from);
        match self.schemas.taught(&mut self.decoder, decode) {
            Ok(trade) => {
                checked(trade, timestamp).map_or_else(DecodeOutcome::Undecodable, DecodeOutcome::Trade)
            }
            Err(Unread::Damaged(error)) => DecodeOutcome::Undecodable(error.to_string()),
            Err(Unread::Schema(SchemaError::None(error))) => DecodeOutcome::Undecodable(error.to_string()),
            Err(Unread::Schema(SchemaError::Away(why))) => DecodeOutcome::RegistryAway(why),
            Err(Unread::Schema(SchemaError::Refused(error))) => DecodeOutcome::Refused(error.to_string()),
        }
    }
}

/// A trade is sorted into its windows by its own timestamp, and found again by the record's: they must agree.
fn checked(trade: DecodedTrade<'_>, record: Timestamp) -> Result<DecodedTrade<'_>, String> {
    let time = trade.timestamp;
    if record != Timestamp::CreateTime(time) {
        return Err(format!(
            "the trade's timestamp is {time}, the record's {}",
            record.to_millis().unwrap_or(-1)
        ));
    }
    if !(0..=LAST_TIMESTAMP).contains(&time) {
        return Err(format!("the timestamp {time} is not within 0 to {LAST_TIMESTAMP}"));
    }
    Ok(trade)
}
