//! Reading back a group's own candles: what a restart puts closed slices together from.

use common::Failure;
use common::avro::codec::{Decoder, SchemaId};
use common::avro::schema::CANDLE;
use common::config::{KafkaConfig, ServiceConfig as _};
use common::model::{Candle, EventTime};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::Config;
use crate::records::decode::{SchemaError, Schemas, Unread};
use crate::records::encode::GROUP;
use common::kafka::topic_reader::{ReadFrom, TopicReader};

/// Why a record among the candles is none.
#[derive(Debug)]
pub enum Unreadable {
    /// Not known yet, as the registry does not tell: the reason.
    Away(String),
    /// It never will be one: the reason.
    Damaged(String),
}

/// A reader of candles, which has a client for as long as there is something to read.
pub struct Candles {
    kafka: KafkaConfig,
    topic: String,
    group_id: String,
    reader: Option<TopicReader>,
    decoder: Decoder<Candle<'static>>,
    schemas: Schemas,
}

impl Candles {
    /// Reads nothing yet; `id` is the registry's for candles of the contract.
    #[must_use]
    pub fn new(config: &Config, id: SchemaId, schemas: Schemas) -> Self {
        let mut decoder = Decoder::new(&CANDLE);
        decoder.learn(id, CANDLE.schema.clone());
        Self {
            kafka: config.kafka.clone(),
            topic: config.topics.candles.clone(),
            group_id: config.group_id.clone(),
            reader: None,
            decoder,
            schemas,
        }
    }

    /// Reads a partition from the first candle on that ends then or later.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn assign(&mut self, partition: i32, ends_from: EventTime) -> Result<(), Failure> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(TopicReader::new(&self.kafka, Config::SERVICE.name(), self.topic.clone())?),
        };
        reader.assign(partition, ReadFrom::Time(ends_from));
        Ok(())
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, partition: i32) {
        self.reader.iter_mut().for_each(|reader| reader.unassign(partition));
        self.reader.take_if(|reader| reader.is_idle());
    }

    /// Whether any partition is being read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.reader.is_some()
    }

    /// The next candle of the group's, if there is one by now.
    pub fn take(&mut self) -> Option<(i32, Result<Candle<'static>, Unreadable>)> {
        let reader = self.reader.as_mut()?;
        reader.begin_wanted();
        loop {
            let record = reader.poll()?;
            if is_of(&record, &self.group_id) {
                return Some((record.partition(), candle(&record, &mut self.decoder, &self.schemas)));
            }
        }
    }

    /// Whether a partition has been read to where it ended when that was begun; or is not being read.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn has_read(&self, partition: i32) -> KafkaResult<bool> {
        self.reader.as_ref().map_or(Ok(true), |reader| reader.has_read(partition))
    }

    /// Whether there is no more to come of a partition, as it has been read to its end. Blocks.
    ///
    /// # Errors
    /// If Kafka does not tell.
    pub fn has_read_all(&self, partition: i32) -> KafkaResult<bool> {
        self.reader.as_ref().map_or(Ok(false), |reader| reader.has_read_all(partition))
    }
}

fn is_of(record: &BorrowedMessage<'_>, group: &str) -> bool {
    let mut headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    headers.any(|header| header.key == GROUP && header.value == Some(group.as_bytes()))
}

fn candle(
    record: &BorrowedMessage<'_>,
    decoder: &mut Decoder<Candle<'static>>,
    schemas: &Schemas,
) -> Result<Candle<'static>, Unreadable> {
    let damaged = |why: String| Unreadable::Damaged(format!("offset {}: {why}", record.offset()));
    let value = record.payload().ok_or_else(|| damaged("the value is null".into()))?;
    schemas.taught(decoder, |decoder| decoder.decode(value)).map_err(|error| match error {
        Unread::Schema(SchemaError::Away(why)) => Unreadable::Away(why),
        other => damaged(other.to_string()),
    })
}
