//! Whole topics: their committed records, decoded.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::avro::codec::{DecodeError, Decoder};
use common::avro::registry::Registry;
use common::avro::schema::Contract;
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use serde::de::DeserializeOwned;

use crate::Servers;

/// How long Kafka may take for one answer, and from one record to the next.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A record with its position.
#[derive(Debug, Clone)]
pub struct TopicRecord<T> {
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
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

/// A topic whose values are decoded.
pub struct DecodedTopic<T> {
    servers: Servers,
    name: String,
    contract: &'static Contract,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> DecodedTopic<T> {
    /// The topic `name`, whose values are `contract`'s.
    #[must_use]
    pub fn new(servers: &Servers, name: impl Into<String>, contract: &'static Contract) -> Self {
        Self { servers: servers.clone(), name: name.into(), contract, record: PhantomData }
    }

    /// Every committed record that is there now, by partition and offset.
    pub async fn read(&self) -> anyhow::Result<Vec<TopicRecord<T>>> {
        let (records, undecodable) = self.read_decodable().await?;
        ensure!(undecodable.is_empty(), "{} has records that do not decode: {undecodable:?}", self.name);
        Ok(records)
    }

    /// The same where not every record decodes, and those that do not.
    pub async fn read_decodable(&self) -> anyhow::Result<(Vec<TopicRecord<T>>, Vec<TopicRecord<()>>)> {
        let registry = Registry::new(&self.servers.registry()?)?;
        let mut decoder = Decoder::new(self.contract);
        let (mut records, mut undecodable) = (Vec::new(), Vec::new());
        for message in committed(&self.servers, &self.name)? {
            match decode(&mut decoder, &registry, &message).await? {
                Some(value) => records.push(record(&message, value)?),
                None => undecodable.push(record(&message, ())?),
            }
        }
        Ok((records, undecodable))
    }
}

/// Decodes a value, with the registry's help if its schema is new; `None` if it does not decode.
async fn decode<T: DeserializeOwned>(
    decoder: &mut Decoder<T>,
    registry: &Registry,
    message: &OwnedMessage,
) -> anyhow::Result<Option<T>> {
    let Some(value) = message.payload() else { return Ok(None) };
    match decoder.decode(value) {
        Err(DecodeError::UnknownSchema(id)) => match registry.schema(id).await {
            Ok(schema) => decoder.learn(id, schema),
            Err(error) if error.is_conclusive() => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        decoded => return Ok(decoded.ok()),
    }
    Ok(decoder.decode(value).ok())
}

/// Keys and values of a topic as they are, by partition and offset, committed ones only.
pub fn raw_values(servers: &Servers, topic: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let value = |message: &OwnedMessage| message.payload().unwrap_or_default().to_vec();
    let messages = committed(servers, topic)?;
    Ok(messages.iter().map(|message| (text(message.key()), value(message))).collect())
}

/// Every committed record of a topic that is there now. All partitions are read together: one after another each would wait until the fetch
/// of the one before is over.
fn committed(servers: &Servers, topic: &str) -> anyhow::Result<Vec<OwnedMessage>> {
    let mut settings = config(&servers.kafka()?, "e2e", &Role::Reader);
    settings.set("enable.partition.eof", "true");
    // The broker keeps the answer that shows the end back for so long, in case that more records come.
    let consumer: BaseConsumer = settings.set("fetch.wait.max.ms", "10").create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().first().context("no metadata")?.partitions().len();
    let (mut open, mut assignment) = (BTreeMap::new(), TopicPartitionList::new());
    for partition in 0..i32::try_from(partitions)? {
        let (first, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        if first < end {
            open.insert(partition, end);
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let (mut messages, mut deadline) = (Vec::new(), Instant::now() + TIMEOUT);
    while !open.is_empty() {
        ensure!(Instant::now() < deadline, "{topic}: no record within {TIMEOUT:?}, ends {open:?}");
        match consumer.poll(Duration::from_millis(50)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) if open.get(&message.partition()) > Some(&message.offset()) => {
                messages.push(message.detach());
            }
            // More has come since.
            Some(Ok(message)) => {
                open.remove(&message.partition());
            }
        }
        deadline = Instant::now() + TIMEOUT;
    }
    messages.sort_by_key(|message| (message.partition(), message.offset()));
    Ok(messages)
}

fn record<T>(message: &OwnedMessage, value: T) -> anyhow::Result<TopicRecord<T>> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Ok(TopicRecord {
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
