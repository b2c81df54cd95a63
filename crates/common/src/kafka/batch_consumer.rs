//! Reads records in batches, for a consumer of millions of records.
//!
//! Polling single records costs an event and allocations for each. librdkafka can return a whole batch from a queue to which the partitions'
//! queues are forwarded. The consumer's own queue keeps the group's rebalances, so it must be polled too.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_header_get_last, rd_kafka_message_destroy,
    rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_queue_destroy,
    rd_kafka_queue_forward, rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_t,
    rd_kafka_timestamp_type_t,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};
use rdkafka::message::{OwnedMessage, Timestamp};

/// Most records in a batch.
const MAX_BATCH: usize = 512;

/// A record in librdkafka's memory.
pub struct ConsumerRecord(NonNull<rd_kafka_message_t>);

impl ConsumerRecord {
    #[inline]
    #[expect(unsafe_code, reason = "the record is in librdkafka's memory")]
    fn message(&self) -> &rd_kafka_message_t {
        // SAFETY: librdkafka returned it and does not change it before `drop` destroys it.
        unsafe { self.0.as_ref() }
    }

    /// The partition it was read from.
    #[must_use]
    #[inline]
    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    /// Its offset in the partition.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// The key; `None` for a null key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.key.cast(), message.key_len)
    }

    /// The value; `None` for a tombstone.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.payload.cast(), message.len)
    }

    /// The timestamp with its type, in milliseconds.
    #[must_use]
    #[expect(unsafe_code, reason = "librdkafka stores it outside the record")]
    pub fn timestamp(&self) -> Timestamp {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is valid, and `kind` may be written to.
        let time = unsafe { rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        match kind {
            _ if time == -1 => Timestamp::NotAvailable,
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(time),
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(time),
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
        }
    }

    /// The value of the last header of that name.
    #[must_use]
    #[expect(unsafe_code, reason = "librdkafka parses headers on request")]
    pub fn header(&self, name: &CStr) -> Option<&[u8]> {
        let (mut headers, mut value, mut size) = (ptr::null_mut(), ptr::null(), 0);
        // SAFETY: the record is valid; headers and value belong to it and live as long.
        let found = unsafe {
            !rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers).is_error()
                && !rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size).is_error()
        };
        if found { bytes(value.cast(), size) } else { None }
    }

    /// A copy without headers that does not use librdkafka's memory.
    #[must_use]
    pub fn copied(&self, topic: &str) -> OwnedMessage {
        let copy = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let (partition, offset) = (self.partition(), self.offset());
        OwnedMessage::new(
            copy(self.value()),
            copy(self.key()),
            topic.to_owned(),
            self.timestamp(),
            partition,
            offset,
            None,
        )
    }
}

/// Bytes of a record. The caller must bind the lifetime to its borrow of the record.
#[inline]
#[expect(unsafe_code, reason = "librdkafka gives pointer and length")]
fn bytes<'r>(begin: *const u8, length: usize) -> Option<&'r [u8]> {
    // SAFETY: both come from a record that the caller borrows, and nothing writes to it.
    (!begin.is_null()).then(|| unsafe { std::slice::from_raw_parts(begin, length) })
}

impl Drop for ConsumerRecord {
    #[expect(unsafe_code, reason = "the record is in librdkafka's memory")]
    fn drop(&mut self) {
        // SAFETY: librdkafka returned it to this object only.
        unsafe { rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// A reference to a queue of librdkafka.
struct Queue(NonNull<rd_kafka_queue_t>);

impl Drop for Queue {
    #[expect(unsafe_code, reason = "the queue belongs to librdkafka")]
    fn drop(&mut self) {
        // SAFETY: this object owns the reference; queues that forward to it have their own.
        unsafe { rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// The queue of one partition. The client learns the partition if it does not know it yet.
#[expect(unsafe_code, reason = "the queue belongs to librdkafka")]
fn queue_of<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &CStr, partition: i32) -> Option<Queue> {
    // SAFETY: the client is borrowed, so it is alive, and the name ends with a zero byte.
    let queue =
        unsafe { rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition) };
    NonNull::new(queue).map(Queue)
}

/// Pauses partitions before they are assigned, so that nothing is fetched from the first moment on. librdkafka silently ignores a pause of an
/// unknown partition, so this makes each partition known first.
///
/// # Errors
/// The error of librdkafka.
pub fn pause_beforehand<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    for element in partitions.elements() {
        let topic = CString::new(element.topic()).expect("Kafka allows no zero byte in a topic's name");
        queue_of(consumer, &topic, element.partition());
    }
    consumer.pause(partitions)
}

/// The records of a consumer, without its group's rebalances.
pub struct BatchConsumer<C: ConsumerContext> {
    // Dropped before the consumer, so that no record outlives it.
    partitions: BTreeMap<i32, Queue>,
    queue: Queue,
    topic: CString,
    buffer: Box<[*mut rd_kafka_message_t; MAX_BATCH]>,
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> BatchConsumer<C> {
    /// Reads no partition yet.
    ///
    /// # Panics
    /// If there is no memory, or if the topic's name has a zero byte, which Kafka does not allow.
    #[must_use]
    #[expect(unsafe_code, reason = "the queue belongs to librdkafka")]
    pub fn new(consumer: &Arc<BaseConsumer<C>>, topic: &str) -> Self {
        // SAFETY: the client is borrowed, so it is alive.
        let queue = NonNull::new(unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) });
        Self {
            partitions: BTreeMap::new(),
            queue: Queue(queue.expect("librdkafka fails only without memory")),
            topic: CString::new(topic).expect("Kafka allows no zero byte in a topic's name"),
            buffer: Box::new([ptr::null_mut(); MAX_BATCH]),
            consumer: Arc::clone(consumer),
        }
    }

    /// Reads the partition from now on. Call it after each assignment, when the partition can be sought and before it is resumed: librdkafka ends
    /// the forwarding when it revokes a partition, and does not restore it.
    #[expect(unsafe_code, reason = "the queues belong to librdkafka")]
    pub fn add(&mut self, partition: i32) {
        let Self { partitions, queue, topic, consumer, .. } = self;
        if let Some(from) = queue_of(consumer, topic, partition) {
            // SAFETY: both are queues of the same client.
            unsafe { rd_kafka_queue_forward(from.0.as_ptr(), queue.0.as_ptr()) };
            partitions.insert(partition, from);
        }
    }

    /// Appends the available records to `into`. If there are none, waits for one.
    pub fn fetch(&mut self, wait: Duration, into: &mut Vec<Result<ConsumerRecord, KafkaError>>) {
        // librdkafka waits for a full batch or for the whole time. So this waits for one record only.
        if self.fetch_batch(Duration::ZERO, MAX_BATCH, into) == 0 && !wait.is_zero() {
            self.fetch_batch(wait, 1, into);
        }
    }

    #[expect(unsafe_code, reason = "the records are in librdkafka's memory")]
    fn fetch_batch(
        &mut self,
        wait: Duration,
        limit: usize,
        into: &mut Vec<Result<ConsumerRecord, KafkaError>>,
    ) -> usize {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let (queue, buffer) = (self.queue.0.as_ptr(), &mut *self.buffer);
        // SAFETY: the buffer has room for `limit` records, because no caller asks for more than MAX_BATCH.
        let count = unsafe { rd_kafka_consume_batch_queue(queue, millis, buffer.as_mut_ptr(), limit) };
        let count = usize::try_from(count).unwrap_or(0);
        let fetched =
            buffer.iter().take(count).filter_map(|message| NonNull::new(*message)).map(ConsumerRecord);
        into.extend(fetched.map(|record| {
            let code = record.message().err;
            if code.is_error() { Err(KafkaError::MessageConsumption(code.into())) } else { Ok(record) }
        }));
        count
    }
}

impl<C: ConsumerContext> Drop for BatchConsumer<C> {
    #[expect(unsafe_code, reason = "the queues belong to librdkafka")]
    fn drop(&mut self) {
        for from in self.partitions.values() {
            // SAFETY: null ends the forwarding and releases its reference to this queue.
            unsafe { rd_kafka_queue_forward(from.0.as_ptr(), ptr::null_mut()) };
        }
    }
}
