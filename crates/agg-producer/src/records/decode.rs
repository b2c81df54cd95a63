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
/// Longest instrument name, in bytes.
const MAX_INSTRUMENT_BYTES: usize = 255;

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
pub enum TradeDecodeOutcome<'r> {
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
    pub fn decode<'r>(&mut self, value: Option<&'r [u8]>, timestamp: Timestamp) -> TradeDecodeOutcome<'r> {
        let Some(value) = value else { return TradeDecodeOutcome::Undecodable("the value is null".into()) };
        let decode = |decoder: &Decoder<Trade<'static>>| decoder.decode_part(value, DecodedTrade::from);
        match self.schemas.taught(&mut self.decoder, decode) {
            Ok(trade) => checked(trade, timestamp)
                .map_or_else(TradeDecodeOutcome::Undecodable, TradeDecodeOutcome::Trade),
            Err(Unread::Damaged(error)) => TradeDecodeOutcome::Undecodable(error.to_string()),
            Err(Unread::Schema(SchemaError::None(error))) => {
                TradeDecodeOutcome::Undecodable(error.to_string())
            }
            Err(Unread::Schema(SchemaError::Away(why))) => TradeDecodeOutcome::RegistryAway(why),
            Err(Unread::Schema(SchemaError::Refused(error))) => {
                TradeDecodeOutcome::Refused(error.to_string())
            }
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
    match defect(&trade) {
        None => Ok(trade),
        Some(defect) => Err(defect),
    }
}

/// What keeps a trade from being one, whoever wrote it: it would spoil every window that it enters, or the table that its averages go to.
fn defect(trade: &DecodedTrade<'_>) -> Option<String> {
    let DecodedTrade { instrument, price, amount, .. } = trade;
    if !price.is_finite() {
        return Some(format!("the price is {price}"));
    }
    if !amount.is_finite() || *amount < 0.0 {
        return Some(format!("the amount is {amount}"));
    }
    if instrument.is_empty() || instrument.len() > MAX_INSTRUMENT_BYTES {
        let bytes = instrument.len();
        return Some(format!("the instrument name has {bytes} bytes, not 1 to {MAX_INSTRUMENT_BYTES}"));
    }
    instrument.chars().any(char::is_control).then(|| "the instrument name has control characters".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defect_of(instrument: &str, price: f64, amount: f64) -> Option<String> {
        defect(&DecodedTrade { instrument: Cow::Borrowed(instrument), timestamp: 1, price, amount })
    }

    #[test]
    fn a_trade_may_be_free_negative_in_price_and_called_anything_printable() {
        assert_eq!(defect_of("BTC-FS-27DEC24_PERP", -12.5, 0.0), None);
        assert_eq!(defect_of(&"ä".repeat(127), 0.0, f64::MAX), None);
    }

    #[test]
    fn what_would_spoil_a_window_or_a_table_is_no_trade_and_the_reason_names_the_field() {
        let long = "x".repeat(256);
        for (instrument, price, amount, reason) in [
            ("A", f64::NAN, 1.0, "the price is NaN"),
            ("A", f64::INFINITY, 1.0, "the price is inf"),
            ("A", 1.0, f64::NAN, "the amount is NaN"),
            ("A", 1.0, f64::NEG_INFINITY, "the amount is -inf"),
            ("A", 1.0, -0.5, "the amount is -0.5"),
            ("", 1.0, 1.0, "the instrument name has 0 bytes, not 1 to 255"),
            (long.as_str(), 1.0, 1.0, "the instrument name has 256 bytes, not 1 to 255"),
            ("A\0B", 1.0, 1.0, "the instrument name has control characters"),
        ] {
            assert_eq!(defect_of(instrument, price, amount).as_deref(), Some(reason));
        }
    }
}
