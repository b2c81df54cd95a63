//! Reading the producer's watermarks, beside the group and outside of it.
//!
//! They are hints, and nothing rests on their being read at once or at all: one that is missed delays windows until the next. What came
//! of them is committed with the offsets (docs/adr/0012).

use std::time::{Duration, Instant};

use common::Failure;
use common::avro::codec::{Decoder, SchemaId};
use common::avro::schema::WATERMARK;
use common::config::ServiceConfig as _;
use common::kafka::admin::TopicSpec;
use common::model::Watermark;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::Config;
use crate::records::decode::{Schemas, Unread};
use crate::store::aggregator::Offset;
use crate::store::watermark::WatermarkAt;
use common::kafka::topic_reader::{ReadFrom, TopicReader};

/// How far before the end of its partition the newest watermark is looked for, in offsets; markers and aborted ones have some too.
const TAIL: i64 = 1_000;
/// How long a schema that the registry did not tell is not asked for again: the loop waits for its answer.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A reader of the partitions that the group's consumer has.
pub struct WatermarkReader {
    reader: TopicReader,
    decoder: Decoder<Watermark>,
    schemas: Schemas,
    next_question: Instant,
}

impl WatermarkReader {
    /// Reads nothing yet; `id` is the registry's for watermarks of the contract.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(config: &Config, id: SchemaId, schemas: Schemas) -> Result<Self, Failure> {
        let reader = TopicReader::new(
            &config.kafka,
            Config::SERVICE.name(),
            TopicSpec::watermarks(&config.topics).name,
        )?;
        let mut decoder = Decoder::new(&WATERMARK);
        decoder.learn(id, WATERMARK.schema.clone());
        Ok(Self { reader, decoder, schemas, next_question: Instant::now() })
    }

    /// Reads a partition from its newest watermark on, once more if it was read before.
    pub fn assign(&mut self, partition: i32) {
        self.reader.assign(partition, ReadFrom::Tail(TAIL));
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, partition: i32) {
        self.reader.unassign(partition);
    }

    /// The next watermark, if there is one by now.
    pub fn take(&mut self) -> Option<(i32, WatermarkAt)> {
        self.reader.begin_wanted();
        loop {
            let record = self.reader.poll()?;
            let (partition, offset) = (record.partition(), record.offset());
            match watermark(&record, &mut self.decoder, &self.schemas, &mut self.next_question) {
                Ok(watermark) => return Some((partition, watermark)),
                Err(why) => tracing::warn!(partition, offset, why, "not a watermark"),
            }
        }
    }
}

fn watermark(
    record: &BorrowedMessage<'_>,
    decoder: &mut Decoder<Watermark>,
    schemas: &Schemas,
    next_question: &mut Instant,
) -> Result<WatermarkAt, String> {
    let value = record.payload().ok_or("the value is null")?;
    let decoded = if Instant::now() < *next_question {
        decoder.decode(value).map_err(Unread::Damaged)
    } else {
        schemas.taught(decoder, |decoder| decoder.decode(value))
    };
    if let Err(Unread::Schema(_)) = decoded {
        *next_question = Instant::now() + ASK_AGAIN;
    }
    let Watermark { partition, complete_through, offset } = decoded.map_err(|error| error.to_string())?;
    if partition != record.partition() {
        return Err(format!("it speaks of partition {partition}"));
    }
    Ok(WatermarkAt { time: complete_through, offset: Offset(offset) })
}
