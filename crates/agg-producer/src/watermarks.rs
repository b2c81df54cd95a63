//! Reading the producer's watermarks, beside the group and outside of it.
//!
//! They are hints, and nothing rests on their being read at once or at all: one that is missed delays windows until the next. What came
//! of them is committed with the offsets (docs/adr/0026).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::avro::codec::{DecodeError, Decoder, SchemaId};
use common::avro::schema::WATERMARK;
use common::kafka::admin::TopicSpec;
use common::kafka::admin::client_refused;
use common::kafka::client::{self, Role};
use common::model::Watermark;
use common::{Failure, config::ServiceConfig as _};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::Config;
use crate::aggregator::Offset;
use crate::decode::Schemas;
use crate::watermark::CompleteThrough;

/// How far before the end of its partition the newest watermark is looked for, in offsets; markers and aborted ones have some too.
const TAIL: i64 = 1_000;
/// How long the broker may take to tell where a partition ends, and when it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long a schema that the registry did not tell is not asked for again: the loop waits for its answer.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A reader of the partitions that the group's consumer has.
pub struct Watermarks {
    topic: String,
    consumer: BaseConsumer,
    decoder: Decoder<Watermark>,
    schemas: Schemas,
    reading: BTreeSet<i32>,
    wanted: BTreeSet<i32>,
    next_attempt: Instant,
    next_question: Instant,
}

impl Watermarks {
    /// Reads nothing yet; `id` is the registry's for watermarks of the contract.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(config: &Config, id: SchemaId, schemas: Schemas) -> Result<Self, Failure> {
        let settings = client::config(&config.kafka, Config::SERVICE.name(), &Role::Reader);
        let consumer = settings.create().map_err(|error| client_refused(&error))?;
        let mut decoder = Decoder::new(&WATERMARK);
        decoder.learn(id, WATERMARK.schema.clone());
        let (topic, now) = (TopicSpec::watermarks(&config.topics).name, Instant::now());
        let (reading, wanted) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { topic, consumer, decoder, schemas, reading, wanted, next_attempt: now, next_question: now })
    }

    /// Reads a partition from its newest watermark on, once more if it was read before.
    pub fn follow(&mut self, partition: i32) {
        self.leave(partition);
        self.wanted.insert(partition);
        self.next_attempt = Instant::now();
    }

    /// Reads a partition no longer.
    pub fn leave(&mut self, partition: i32) {
        self.wanted.remove(&partition);
        if self.reading.remove(&partition) {
            let mut left = TopicPartitionList::new();
            left.add_partition(&self.topic, partition);
            if let Err(error) = self.consumer.incremental_unassign(&left) {
                tracing::warn!(partition, %error, "watermarks are still read");
            }
        }
    }

    /// The next watermark, if there is one by now.
    pub fn take(&mut self) -> Option<(i32, CompleteThrough)> {
        if !self.wanted.is_empty() && Instant::now() >= self.next_attempt {
            self.begin_wanted();
        }
        loop {
            match self.consumer.poll(Duration::ZERO)? {
                Ok(record) => {
                    let partition = record.partition();
                    match watermark(&record, &mut self.decoder, (&self.schemas, &mut self.next_question)) {
                        Ok(watermark) if self.reading.contains(&partition) => {
                            return Some((partition, watermark));
                        }
                        Ok(_) => {}
                        Err(why) => {
                            tracing::warn!(partition, offset = record.offset(), why, "not a watermark");
                        }
                    }
                }
                // Brokers away and the like: librdkafka goes on trying.
                Err(error) => tracing::debug!(%error, "watermarks"),
            }
        }
    }

    fn begin_wanted(&mut self) {
        for partition in self.wanted.clone() {
            match self.begin(partition) {
                Ok(()) => {
                    self.wanted.remove(&partition);
                    self.reading.insert(partition);
                }
                Err(error) => {
                    tracing::debug!(partition, %error, "watermarks cannot be read yet");
                    self.next_attempt = Instant::now() + ANSWER_WITHIN;
                    return;
                }
            }
        }
    }

    fn begin(&self, partition: i32) -> KafkaResult<()> {
        let (first, end) = self.consumer.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN)?;
        let mut from = TopicPartitionList::new();
        let tail = rdkafka::Offset::Offset(first.max(end - TAIL));
        from.add_partition_offset(&self.topic, partition, tail)?;
        self.consumer.incremental_assign(&from)
    }
}

fn watermark(
    record: &BorrowedMessage<'_>,
    decoder: &mut Decoder<Watermark>,
    (schemas, next_question): (&Schemas, &mut Instant),
) -> Result<CompleteThrough, String> {
    let value = record.payload().ok_or("the value is null")?;
    let mut decoded = decoder.decode(value);
    if let Err(DecodeError::UnknownSchema(id)) = decoded
        && Instant::now() >= *next_question
    {
        *next_question = Instant::now() + ASK_AGAIN;
        let schema = schemas.ask(id).map_err(|unknown| unknown.to_string())?;
        decoder.learn(id, schema);
        decoded = decoder.decode(value);
    }
    let Watermark { partition, complete_through, offset } = decoded.map_err(|error| error.to_string())?;
    if partition != record.partition() {
        return Err(format!("it speaks of partition {partition}"));
    }
    Ok(CompleteThrough { time: complete_through, offset: Offset(offset) })
}
