//! Trades and watermarks written straight into their topics, as irregular as the exchange's: out of order, late, of quiet instruments,
//! with undecodable records between them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::avro::codec::Encoder;
use common::avro::schema::{TRADE, WATERMARK};
use common::kafka::client::{Role, config};
use common::model::{EventTime, Trade, Watermark};
use fastrand::Rng;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::eventually::PATIENCE;
use crate::pipeline::{InputSchemas, Pipeline, make_foreign};
use crate::produce::send;

/// How long Kafka may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How irregular the trades are.
#[derive(Debug, Clone, Copy)]
pub struct LoadProfile {
    /// Trades in a thousand that are up to half a second out of order.
    pub disordered: u32,
    /// Trades in a thousand that are up to half a minute old.
    pub old: u32,
    /// Records in a thousand that do not decode.
    pub garbage: u32,
    /// Trades in a thousand by a writer whose schema lacks an optional field of the contract's and has one more.
    pub foreign: u32,
}

impl LoadProfile {
    /// Every record is a trade, in order.
    pub const REGULAR: Self = Self { disordered: 0, old: 0, garbage: 0, foreign: 0 };
}

/// From one question for a partition's end to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Writes trades and watermarks.
pub struct LoadGenerator {
    producer: ThreadedProducer<DefaultProducerContext>,
    reader: BaseConsumer,
    trade: Encoder,
    watermark: Encoder,
    pipeline: Pipeline,
    instruments: Vec<String>,
    profile: LoadProfile,
    rng: Rng,
    seq: i64,
    /// Event time; trades are at most half a minute older.
    pub now: EventTime,
    /// Records written so far.
    pub written: usize,
}

impl LoadGenerator {
    /// Writes trades of so many instruments; event time begins at `now`. Every run writes the same.
    pub fn new(
        pipeline: &Pipeline,
        instruments: usize,
        profile: LoadProfile,
        now: EventTime,
    ) -> anyhow::Result<Self> {
        let kafka = pipeline.harness.servers.kafka()?;
        let InputSchemas { trade, watermark, .. } = pipeline.schemas;
        Ok(Self {
            producer: config(&kafka, "e2e", &Role::Producer).create()?,
            reader: config(&kafka, "e2e", &Role::Reader).create()?,
            trade: Encoder::new(&TRADE, trade),
            watermark: Encoder::new(&WATERMARK, watermark),
            pipeline: pipeline.clone(),
            instruments: (0..instruments).map(|number| format!("I-{number}")).collect(),
            profile,
            rng: Rng::with_seed(7),
            seq: 0,
            now,
            written: 0,
        })
    }

    /// Sends each record at once, so that latencies can be measured.
    pub fn without_linger(self) -> anyhow::Result<Self> {
        let mut kafka = self.pipeline.harness.servers.kafka()?;
        kafka.properties.insert("linger.ms".to_owned(), "0".to_owned());
        Ok(Self { producer: config(&kafka, "e2e", &Role::Producer).create()?, ..self })
    }

    /// Writes trades while event time advances by `millis`, and waits until Kafka has them.
    pub fn write(&mut self, trades: u32, millis: u32) -> anyhow::Result<()> {
        let begun = self.now;
        for number in 0..trades {
            self.now = begun + i64::from(millis) * i64::from(number) / i64::from(trades);
            if self.chance(self.profile.garbage) {
                self.garbage()?;
            } else {
                self.trade()?;
            }
        }
        self.now = begun + i64::from(millis);
        self.flush()
    }

    /// Waits until Kafka has everything that was written.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE).context("records are not acknowledged")
    }

    /// Writes watermarks: every partition is complete up to a second before now.
    pub fn watermarks(&mut self) -> anyhow::Result<()> {
        self.complete_through(self.now - 1_000)
    }

    /// Writes watermarks: every partition is complete up to `time`.
    pub fn complete_through(&mut self, time: EventTime) -> anyhow::Result<()> {
        let (topic, mut value) = (self.pipeline.watermarks(), Vec::new());
        for partition in 0..self.pipeline.topics.partitions {
            let offset = self.end(partition)?;
            self.watermark.encode(&Watermark { partition, complete_through: time, offset }, &mut value)?;
            let key = partition.to_string();
            let record = BaseRecord::to(&topic).partition(partition).timestamp(time);
            send(&self.producer, record.key(key.as_bytes()).payload(&value))?;
        }
        self.flush()
    }

    /// The end of a partition; Kafka may be unavailable for a while.
    fn end(&self, partition: i32) -> anyhow::Result<i64> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.reader.fetch_watermarks(&self.pipeline.topics.trades, partition, ANSWER_TIMEOUT) {
                Ok((_, end)) => return Ok(end),
                Err(error) if Instant::now() > until => return Err(error.into()),
                // Asked without a pause, the client has no time to find the partition's leader again.
                Err(_) => std::thread::park_timeout(RETRY_INTERVAL),
            }
        }
    }

    fn chance(&mut self, in_a_thousand: u32) -> bool {
        self.rng.u32(0..1000) < in_a_thousand
    }

    /// Writes a trade of a random instrument: of the first ones often, of the last ones once in minutes.
    fn trade(&mut self) -> anyhow::Result<()> {
        let at = self.rng.usize(0..self.instruments.len());
        let at = self.rng.usize(0..=at);
        let mut timestamp = self.now;
        if self.chance(self.profile.disordered) {
            timestamp -= self.rng.i64(0..500);
        } else if self.chance(self.profile.old) {
            timestamp -= self.rng.i64(0..30_000);
        }
        self.trade_of(at, timestamp)
    }

    /// Writes a trade of one instrument, without waiting for Kafka.
    pub fn trade_of(&mut self, at: usize, timestamp: EventTime) -> anyhow::Result<()> {
        let instrument = self.instruments.get(at).context("no such instrument")?.clone();
        self.seq += 1;
        let price = 100.0 + self.rng.f64() * 0.7;
        let trade = Trade {
            instrument_name: Cow::Borrowed(&instrument),
            trade_seq: self.seq,
            trade_id: self.seq.to_string().into(),
            timestamp,
            price,
            amount: self.rng.f64() * 1e4,
            index_price: price,
            direction: "buy".into(),
            received_at: timestamp * 1000,
            mark_price: Some(price),
            ..Trade::default()
        };
        let mut value = Vec::new();
        self.trade.encode(&trade, &mut value)?;
        if self.profile.foreign > 0 && self.chance(self.profile.foreign) {
            make_foreign(&mut value, self.pipeline.schemas.foreign);
        }
        self.put(at, timestamp, &value)
    }

    /// Writes bytes of no format, an unknown schema's id, or a trade that ends too early.
    fn garbage(&mut self) -> anyhow::Result<()> {
        let [a, b, c, d] = self.pipeline.schemas.trade.to_be_bytes();
        let value: &[u8] = match self.rng.u8(0..3) {
            0 => b"garbage",
            1 => &[0, 127, 0, 0, 1, 2, 3],
            _ => &[0, a, b, c, d, 6, b'B'],
        };
        self.put(0, self.now, value)
    }

    /// Writes a record into the instrument's partition.
    fn put(&mut self, instrument: usize, timestamp: EventTime, value: &[u8]) -> anyhow::Result<()> {
        let partition = i32::try_from(instrument)? % self.pipeline.topics.partitions;
        let key = self.instruments.get(instrument).context("no instruments")?;
        let topic = &self.pipeline.topics.trades;
        let record = BaseRecord::to(topic).partition(partition).timestamp(timestamp);
        send(&self.producer, record.key(key.as_bytes()).payload(value))?;
        self.written += 1;
        Ok(())
    }
}
