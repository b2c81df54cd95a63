//! From a record to a trade, or to the reason why it is none.

use std::time::Duration;

use common::avro::codec::{DecodeError, Decoder, SchemaId};
use common::avro::registry::{Registry, RegistryError};
use common::avro::schema::TRADE;
use common::model::{EventTime, Trade};
use rdkafka::message::{Message, Timestamp};
use tokio::runtime::Handle;

/// How long the registry may take for one answer. The thread waits for it: nothing can be decoded without it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Beyond this (the year 287,396) milliseconds are no whole doubles any more.
const LAST_TIMESTAMP: EventTime = 1 << 53;

/// What is known of a record.
#[derive(Debug)]
pub enum Verdict {
    /// A trade.
    Trade(Box<Trade<'static>>),
    /// Not a trade, and never will be: the reason.
    Undecodable(String),
    /// Not known yet, as the registry does not tell: the reason.
    RegistryAway(String),
}

/// Decodes trades by the schemas that they were written with.
pub struct TradeDecoder {
    decoder: Decoder<Trade<'static>>,
    registry: Registry,
    runtime: Handle,
}

impl TradeDecoder {
    /// A decoder that asks `registry`, on `runtime`, for each schema once.
    #[must_use]
    pub fn new(registry: Registry, runtime: Handle) -> Self {
        Self { decoder: Decoder::new(&TRADE), registry, runtime }
    }

    /// Judges a record. Blocks while the registry is asked.
    pub fn decode(&mut self, record: &impl Message) -> Verdict {
        let Some(value) = record.payload() else { return Verdict::Undecodable("the value is null".into()) };
        let mut decoded = self.decoder.decode(value);
        if let Err(DecodeError::UnknownSchema(id)) = decoded {
            if let Err(verdict) = self.learn(id) {
                return verdict;
            }
            decoded = self.decoder.decode(value);
        }
        match decoded.map_err(|error| error.to_string()).and_then(|trade| checked(trade, record.timestamp()))
        {
            Ok(trade) => Verdict::Trade(Box::new(trade)),
            Err(why) => Verdict::Undecodable(why),
        }
    }

    fn learn(&mut self, id: SchemaId) -> Result<(), Verdict> {
        let ask = async { tokio::time::timeout(ANSWER_WITHIN, self.registry.schema(id)).await };
        match self.runtime.block_on(ask) {
            Ok(Ok(schema)) => {
                self.decoder.learn(id, schema);
                Ok(())
            }
            Ok(Err(error @ RegistryError::UnknownId(_))) => Err(Verdict::Undecodable(error.to_string())),
            Ok(Err(error)) => Err(Verdict::RegistryAway(error.to_string())),
            Err(_) => Err(Verdict::RegistryAway(format!(
                "the schema registry did not tell within {ANSWER_WITHIN:?} what schema {id} is"
            ))),
        }
    }
}

/// A trade is sorted into its windows by its own timestamp, and found again by the record's: they must agree.
fn checked(trade: Trade<'static>, record: Timestamp) -> Result<Trade<'static>, String> {
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
