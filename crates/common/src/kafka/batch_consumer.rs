//! Records in batches, for a consumer that reads millions of them.
//!
//! Polling them one by one costs an event and its allocations for each. librdkafka can hand over a whole batch at once, from a queue to
//! which the partitions' own queues are forwarded; the consumer's own queue is left with the group's changes and is to be polled all the
//! same.

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

/// Records in a batch at most.
const MOST: usize = 512;

/// A record as it came, in librdkafka's memory.
pub struct ConsumerRecord(NonNull<rd_kafka_message_t>);

impl ConsumerRecord {
    #[inline]
    #[expect(unsafe_code, reason = "the record is librdkafka's")]
    fn message(&self) -> &rd_kafka_message_t {
        // SAFETY: it was handed over by librdkafka, which leaves it alone until it is destroyed, in `drop`.
        unsafe { self.0.as_ref() }
    }

    /// Its partition.
    #[must_use]
    #[inline]
    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    /// Its offset.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// Its key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.key.cast(), message.key_len)
    }

    /// Its value.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.payload.cast(), message.len)
    }

    /// Its timestamp.
    #[must_use]
    #[expect(unsafe_code, reason = "librdkafka keeps it beside the record")]
    pub fn timestamp(&self) -> Timestamp {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is valid, and `kind` is where the answer may be written.
        let time = unsafe { rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        match kind {
            _ if time == -1 => Timestamp::NotAvailable,
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(time),
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(time),
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
        }
    }

    /// The last header of a name.
    #[must_use]
    #[expect(unsafe_code, reason = "librdkafka parses headers when it is asked")]
    pub fn header(&self, name: &CStr) -> Option<&[u8]> {
        let (mut headers, mut value, mut size) = (ptr::null_mut(), ptr::null(), 0);
        // SAFETY: the record is valid; headers and value belong to it and live as long.
        let found = unsafe {
            !rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers).is_error()
                && !rd_kafka_header_get_last(headers, name.as_ptr(), &raw mut value, &raw mut size).is_error()
        };
        if found { bytes(value.cast(), size) } else { None }
    }

    /// A copy without headers, in our own memory.
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

/// Of a record: the lifetime is that of the reference to it.
#[inline]
#[expect(unsafe_code, reason = "librdkafka tells where they begin and how many they are")]
fn bytes<'r>(begin: *const u8, length: usize) -> Option<&'r [u8]> {
    // SAFETY: both come from a record that the caller borrows, and nobody writes there.
    (!begin.is_null()).then(|| unsafe { std::slice::from_raw_parts(begin, length) })
}

impl Drop for ConsumerRecord {
    #[expect(unsafe_code, reason = "the record is librdkafka's")]
    fn drop(&mut self) {
        // SAFETY: it was handed over to us, and only once.
        unsafe { rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// One of librdkafka's queues.
struct Queue(NonNull<rd_kafka_queue_t>);

impl Drop for Queue {
    #[expect(unsafe_code, reason = "the queue is librdkafka's")]
    fn drop(&mut self) {
        // SAFETY: the reference was made for us; whoever forwards to the queue has its own.
        unsafe { rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// The queue of one partition; makes the partition known to the client if it is not yet.
#[expect(unsafe_code, reason = "the queue is librdkafka's")]
fn queue_of<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &CStr, partition: i32) -> Option<Queue> {
    // SAFETY: the client is alive, as it is borrowed, and the name ends with a zero byte.
    let queue =
        unsafe { rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition) };
    NonNull::new(queue).map(Queue)
}

/// Pauses partitions that are about to be assigned: nothing is fetched from the first moment on. A partition that the client does not
/// know yet would not be paused, and nobody would say so.
///
/// # Errors
/// librdkafka's.
pub fn pause_beforehand<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    for element in partitions.elements() {
        let topic = CString::new(element.topic()).expect("a topic's name has no zero byte");
        queue_of(consumer, &topic, element.partition());
    }
    consumer.pause(partitions)
}

/// The records of a consumer, but for its group's changes.
pub struct BatchConsumer<C: ConsumerContext> {
    // Before the consumer, so that no record outlives it.
    partitions: BTreeMap<i32, Queue>,
    queue: Queue,
    topic: CString,
    buffer: Box<[*mut rd_kafka_message_t; MOST]>,
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> BatchConsumer<C> {
    /// No partition's yet.
    ///
    /// # Panics
    /// If there is no memory, or the topic's name has a zero byte, which Kafka does not take.
    #[must_use]
    #[expect(unsafe_code, reason = "the queue is librdkafka's")]
    pub fn new(consumer: &Arc<BaseConsumer<C>>, topic: &str) -> Self {
        // SAFETY: the client is alive, as it is borrowed.
        let queue = NonNull::new(unsafe { rd_kafka_queue_new(consumer.client().native_ptr()) });
        Self {
            partitions: BTreeMap::new(),
            queue: Queue(queue.expect("librdkafka makes a queue whenever it is asked")),
            topic: CString::new(topic).expect("a topic's name has no zero byte"),
            buffer: Box::new([ptr::null_mut(); MOST]),
            consumer: Arc::clone(consumer),
        }
    }

    /// From now on a partition's records come from here. To be called whenever it has been assigned, after it can be sought and before
    /// it is resumed: librdkafka takes the forwarding back when a partition goes, and does not make it again when it comes back.
    #[expect(unsafe_code, reason = "the queues are librdkafka's")]
    pub fn add(&mut self, partition: i32) {
        let Self { partitions, queue, topic, consumer, .. } = self;
        if let Some(from) = queue_of(consumer, topic, partition) {
            // SAFETY: both are queues of the same client.
            unsafe { rd_kafka_queue_forward(from.0.as_ptr(), queue.0.as_ptr()) };
            partitions.insert(partition, from);
        }
    }

    /// Puts what there is behind `into`, or, if there is nothing, waits for something to come.
    pub fn fetch(&mut self, wait: Duration, into: &mut Vec<Result<ConsumerRecord, KafkaError>>) {
        // librdkafka waits until a batch is full, or for the whole time: so for one record only.
        if self.fetch_batch(Duration::ZERO, MOST, into) == 0 && !wait.is_zero() {
            self.fetch_batch(wait, 1, into);
        }
    }

    #[expect(unsafe_code, reason = "the records are librdkafka's")]
    fn fetch_batch(
        &mut self,
        wait: Duration,
        most: usize,
        into: &mut Vec<Result<ConsumerRecord, KafkaError>>,
    ) -> usize {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let (queue, buffer) = (self.queue.0.as_ptr(), &mut *self.buffer);
        // SAFETY: there is room for `most` records, as no caller asks for more than MOST.
        let count = unsafe { rd_kafka_consume_batch_queue(queue, millis, buffer.as_mut_ptr(), most) };
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
    #[expect(unsafe_code, reason = "the queues are librdkafka's")]
    fn drop(&mut self) {
        for from in self.partitions.values() {
            // SAFETY: null takes the forwarding back, and with it the reference to our queue.
            unsafe { rd_kafka_queue_forward(from.0.as_ptr(), ptr::null_mut()) };
        }
    }
}
