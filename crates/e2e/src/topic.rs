//! Whole topics, read-committed and decoded.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use common::avro::codec::{DecodeError, Decoder};
use common::avro::registry::Registry;
use common::avro::schema::Contract;
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use serde::de::DeserializeOwned;

use crate::Stack;

/// For one answer, and from one record to the next.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One record with its place.
#[derive(Debug, Clone)]
pub struct Record<T> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key as text.
    pub key: String,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// Its headers, as text.
    pub headers: BTreeMap<String, String>,
    /// The decoded value.
    pub value: T,
}

/// A reader of one topic.
pub struct Topic<T> {
    stack: Stack,
    name: String,
    contract: &'static Contract,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Topic<T> {
    /// The topic `name`, whose values are `contract`'s.
    #[must_use]
    pub fn new(stack: &Stack, name: impl Into<String>, contract: &'static Contract) -> Self {
        Self { stack: stack.clone(), name: name.into(), contract, record: PhantomData }
    }

    /// Every committed record that is there now, by partition and offset.
    pub async fn read(&self) -> anyhow::Result<Vec<Record<T>>> {
        let (records, undecodable) = self.read_decodable().await?;
        ensure!(undecodable.is_empty(), "{} has records that do not decode: {undecodable:?}", self.name);
        Ok(records)
    }

    /// The same where not every record decodes, and those that do not.
    pub async fn read_decodable(&self) -> anyhow::Result<(Vec<Record<T>>, Vec<Record<()>>)> {
        let mut reader = Reader {
            topic: self.name.clone(),
            consumer: config(&self.stack.kafka()?, "e2e", &Role::Reader).create()?,
            registry: Registry::new(&self.stack.registry()?)?,
            decoder: Decoder::new(self.contract),
            records: Vec::new(),
            undecodable: Vec::new(),
        };
        let metadata = reader.consumer.fetch_metadata(Some(&self.name), TIMEOUT)?;
        let partitions = metadata.topics().first().context("no metadata")?.partitions().len();
        for partition in 0..i32::try_from(partitions)? {
            reader.partition(partition).await?;
        }
        Ok((reader.records, reader.undecodable))
    }
}

/// Keys and values of a topic's first partition as they are, committed ones only.
pub fn raw_values(stack: &Stack, topic: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let consumer = config(&stack.kafka()?, "e2e", &Role::Reader).create()?;
    let messages = committed(&consumer, topic, 0)?;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let value = |message: &OwnedMessage| message.payload().unwrap_or_default().to_vec();
    Ok(messages.iter().map(|message| (text(message.key()), value(message))).collect())
}

/// Every committed record of a partition that is there now.
fn committed(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<Vec<OwnedMessage>> {
    let mut messages = Vec::new();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    let (_, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
    if end == 0 {
        return Ok(messages);
    }
    consumer.assign(&assignment)?;
    let mut deadline = Instant::now() + TIMEOUT;
    // Markers of transactions take offsets too, so the position tells the end, not the last record.
    while position(consumer)? < end {
        if Instant::now() > deadline {
            bail!("{topic} partition {partition}: no end at {end}, at {}", position(consumer)?);
        }
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message?.detach();
        deadline = Instant::now() + TIMEOUT;
        if message.offset() >= end {
            break;
        }
        messages.push(message);
    }
    Ok(messages)
}

fn position(consumer: &BaseConsumer) -> anyhow::Result<i64> {
    Ok(match consumer.position()?.elements().first().map(TopicPartitionListElem::offset) {
        Some(Offset::Offset(next)) => next,
        _ => 0,
    })
}

struct Reader<T> {
    topic: String,
    consumer: BaseConsumer,
    registry: Registry,
    decoder: Decoder<T>,
    records: Vec<Record<T>>,
    undecodable: Vec<Record<()>>,
}

impl<T: DeserializeOwned> Reader<T> {
    async fn partition(&mut self, partition: i32) -> anyhow::Result<()> {
        for message in committed(&self.consumer, &self.topic, partition)? {
            match self.value(&message).await? {
                Some(value) => self.records.push(record(&message, value)?),
                None => self.undecodable.push(record(&message, ())?),
            }
        }
        Ok(())
    }

    async fn value(&mut self, message: &OwnedMessage) -> anyhow::Result<Option<T>> {
        let Some(value) = message.payload() else { return Ok(None) };
        match self.decoder.decode(value) {
            Err(DecodeError::UnknownSchema(id)) => match self.registry.schema(id).await {
                Ok(schema) => self.decoder.learn(id, schema),
                Err(error) if error.is_verdict() => return Ok(None),
                Err(error) => return Err(error.into()),
            },
            decoded => return Ok(decoded.ok()),
        }
        Ok(self.decoder.decode(value).ok())
    }
}

fn record<T>(message: &OwnedMessage, value: T) -> anyhow::Result<Record<T>> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Ok(Record {
        partition: message.partition(),
        offset: message.offset(),
        key: text(message.key())?,
        timestamp: message.timestamp().to_millis().context("no timestamp")?,
        headers: headers
            .map(|header| Ok((header.key.to_owned(), text(header.value)?)))
            .collect::<anyhow::Result<_>>()?,
        value,
    })
}
