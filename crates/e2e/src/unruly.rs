//! Trades and watermarks written straight into their topics, as unruly as the exchange's: out of order, late, of quiet instruments,
//! with records between them that are none.

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

use crate::pipeline::{Pipeline, Schemas, make_foreign};
use crate::produce::send;

const PATIENCE: Duration = Duration::from_secs(300);

/// What the trades are like.
#[derive(Debug, Clone, Copy)]
pub struct Unruliness {
    /// Of a thousand trades, so many are up to half a second out of order.
    pub disordered: u32,
    /// Of a thousand, so many are up to half a minute old.
    pub old: u32,
    /// Of a thousand records, so many are none that anybody can read.
    pub garbage: u32,
    /// Of a thousand trades, so many come from a writer whose schema lacks an optional field of the contract's and has one more.
    pub foreign: u32,
}

impl Unruliness {
    /// In order, every one of them a trade.
    pub const NONE: Self = Self { disordered: 0, old: 0, garbage: 0, foreign: 0 };
}

/// Writes them.
pub struct Load {
    producer: ThreadedProducer<DefaultProducerContext>,
    reader: BaseConsumer,
    trade: Encoder,
    watermark: Encoder,
    pipeline: Pipeline,
    instruments: Vec<String>,
    unruliness: Unruliness,
    rng: Rng,
    seq: i64,
    /// Event time: trades happen at it, or up to half a minute before.
    pub now: EventTime,
    /// Records written so far.
    pub written: usize,
}

impl Load {
    /// Trades of so many instruments, beginning at `now`; the same seed writes the same.
    pub fn new(
        pipeline: &Pipeline,
        instruments: usize,
        unruliness: Unruliness,
        now: EventTime,
    ) -> anyhow::Result<Self> {
        let kafka = pipeline.stack.kafka()?;
        let Schemas { trade, watermark, .. } = pipeline.schemas;
        Ok(Self {
            producer: config(&kafka, "e2e", &Role::Producer).create()?,
            reader: config(&kafka, "e2e", &Role::Reader).create()?,
            trade: Encoder::new(&TRADE, trade),
            watermark: Encoder::new(&WATERMARK, watermark),
            pipeline: pipeline.clone(),
            instruments: (0..instruments).map(|number| format!("I-{number}")).collect(),
            unruliness,
            rng: Rng::with_seed(7),
            seq: 0,
            now,
            written: 0,
        })
    }

    /// Hands each record to Kafka at once, for whoever measures what comes of it.
    pub fn at_once(self) -> anyhow::Result<Self> {
        let mut kafka = self.pipeline.stack.kafka()?;
        kafka.properties.insert("linger.ms".to_owned(), "0".to_owned());
        Ok(Self { producer: config(&kafka, "e2e", &Role::Producer).create()?, ..self })
    }

    /// Writes so many trades while event time goes on by `millis`, and waits until Kafka has them.
    pub fn write(&mut self, trades: u32, millis: u32) -> anyhow::Result<()> {
        let begun = self.now;
        for number in 0..trades {
            self.now = begun + i64::from(millis) * i64::from(number) / i64::from(trades);
            if self.chance(self.unruliness.garbage) {
                self.garbage()?;
            } else {
                self.trade()?;
            }
        }
        self.now = begun + i64::from(millis);
        self.flush()
    }

    /// Waits until Kafka has what was handed to the producer.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE).context("records are not acknowledged")
    }

    /// Says of every partition that it is complete up to a second before now.
    pub fn watermarks(&mut self) -> anyhow::Result<()> {
        self.complete_through(self.now - 1_000)
    }

    /// Says of every partition that it is complete up to `time`.
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

    /// Where the partition ends; Kafka may be away for a while.
    fn end(&self, partition: i32) -> anyhow::Result<i64> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.reader.fetch_watermarks(&self.pipeline.topics.trades, partition, PATIENCE / 60) {
                Ok((_, end)) => return Ok(end),
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
            }
        }
    }

    fn chance(&mut self, of_a_thousand: u32) -> bool {
        self.rng.u32(0..1000) < of_a_thousand
    }

    /// Of any instrument, the first ones much more often than the last; those are quiet for minutes.
    fn trade(&mut self) -> anyhow::Result<()> {
        let at = self.rng.usize(0..self.instruments.len());
        let at = self.rng.usize(0..=at);
        let mut timestamp = self.now;
        if self.chance(self.unruliness.disordered) {
            timestamp -= self.rng.i64(0..500);
        } else if self.chance(self.unruliness.old) {
            timestamp -= self.rng.i64(0..30_000);
        }
        self.trade_of(at, timestamp)
    }

    /// Hands one trade to the producer.
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
        if self.unruliness.foreign > 0 && self.chance(self.unruliness.foreign) {
            make_foreign(&mut value, self.pipeline.schemas.foreign);
        }
        self.put(at, timestamp, &value)
    }

    /// Bytes of no format, a schema that nobody knows, a trade that ends too early.
    fn garbage(&mut self) -> anyhow::Result<()> {
        let [a, b, c, d] = self.pipeline.schemas.trade.to_be_bytes();
        let value: &[u8] = match self.rng.u8(0..3) {
            0 => b"garbage",
            1 => &[0, 127, 0, 0, 1, 2, 3],
            _ => &[0, a, b, c, d, 6, b'B'],
        };
        self.put(0, self.now, value)
    }

    /// All records of an instrument go into the same partition.
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
