//! Trades and averages as the services would publish them, for tests of whatever reads the topics. Each is a function of its number.

use anyhow::Context as _;
use common::avro::codec::Encoder;
use common::avro::registry::Registry;
use common::avro::schema::{MOVING_AVERAGE, TRADE};
pub use common::clock::now_millis;
use common::kafka::client::{Role, config};
use common::model::{MovingAverage, Trade};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::produce::send;
use crate::{PATIENCE, Servers};

/// The number of instruments, which take turns.
pub const INSTRUMENTS: u64 = 40;

/// Writes into a topic of trades and one of averages.
pub struct FixtureWriter {
    producer: ThreadedProducer<DefaultProducerContext>,
    trades: (String, Encoder),
    averages: (String, Encoder),
    bytes: Vec<u8>,
}

impl FixtureWriter {
    /// Registers the schemas of these two topics, which exist.
    pub async fn new(servers: &Servers, trades: &str, averages: &str) -> anyhow::Result<Self> {
        let registry = Registry::new(&servers.registry()?)?;
        let encoders = (
            Encoder::new(&TRADE, registry.register(trades, &TRADE).await?),
            Encoder::new(&MOVING_AVERAGE, registry.register(averages, &MOVING_AVERAGE).await?),
        );
        Ok(Self {
            producer: config(&servers.kafka()?, "e2e", &Role::Producer).create()?,
            trades: (trades.to_owned(), encoders.0),
            averages: (averages.to_owned(), encoders.1),
            bytes: Vec::new(),
        })
    }

    /// Writes a trade.
    pub fn trade(&mut self, trade: &Trade<'_>) -> anyhow::Result<()> {
        let (topic, encoder) = &self.trades;
        encoder.encode(trade, &mut self.bytes)?;
        let key = trade.instrument_name.as_ref();
        send(&self.producer, BaseRecord::to(topic).key(key).timestamp(trade.timestamp).payload(&self.bytes))
    }

    /// Writes an average.
    pub fn average(&mut self, average: &MovingAverage<'_>) -> anyhow::Result<()> {
        let (topic, encoder) = &self.averages;
        encoder.encode(average, &mut self.bytes)?;
        let key = average.instrument_name.as_ref();
        send(
            &self.producer,
            BaseRecord::to(topic).key(key).timestamp(average.window_end).payload(&self.bytes),
        )
    }

    /// Writes any value into one of the topics; `None` is a tombstone.
    pub fn raw(&self, topic: &str, value: Option<&[u8]>) -> anyhow::Result<()> {
        let mut record = BaseRecord::<str, [u8]>::to(topic).key("POISON");
        record.payload = value;
        send(&self.producer, record)
    }

    /// Waits until Kafka has everything that was written, faults of the broker included.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE).context("records are not acknowledged")
    }
}

/// The `number`th trade of all. Within its instrument, sequence numbers count up by one.
#[must_use]
pub fn trade(number: u64, timestamp: i64) -> Trade<'static> {
    let (instrument, sequence) = (number % INSTRUMENTS, number / INSTRUMENTS);
    let mixed = mix(number);
    let sequence = i64::try_from(sequence).unwrap_or_default() + 1;
    Trade {
        instrument_name: format!("LOAD-{instrument}").into(),
        trade_seq: sequence,
        trade_id: format!("{}", (1 << 53) + number).into(),
        timestamp,
        price: price(mixed),
        amount: small(mix(mixed)),
        index_price: price(mix(mixed ^ 1)),
        direction: if mixed & 1 == 0 { "buy" } else { "sell" }.into(),
        tick_direction: (mixed % 4).try_into().unwrap_or_default(),
        received_at: timestamp * 1000 + 7,
        mark_price: (mixed & 6 != 0).then(|| price(mix(mixed ^ 2))),
        contracts: (mixed & 24 != 0).then(|| small(mixed >> 8)),
        iv: (mixed & 32 != 0).then(|| small(mixed >> 16)),
        liquidation: (mixed & 0x7c0 == 0).then(|| "MT".into()),
        block_trade_id: None,
        combo_id: None,
        combo_trade_id: None,
        block_trade_leg_count: (mixed & 0x1800 == 0).then_some(3),
        block_rfq_id: (mixed & 0x1800 == 0).then_some((1 << 53) + 1),
    }
}

/// The `number`th average of all. Within its instrument, windows follow one another.
#[must_use]
pub fn average(number: u64) -> MovingAverage<'static> {
    const BEGIN: i64 = 1_700_000_000_000;
    let (instrument, count) = (number % INSTRUMENTS, number / INSTRUMENTS);
    let window_end = BEGIN + 10_000 * i64::try_from(count).unwrap_or_default();
    let number = |salt| price(mix(number ^ salt));
    MovingAverage {
        instrument_name: format!("LOAD-{instrument}").into(),
        window_start: window_end - 300_000,
        window_end,
        trade_count: 1,
        sma: number(1 << 60),
        ema: number(1 << 59),
        vwap: number(1 << 58),
        open: number(1 << 57),
        high: number(1 << 56),
        low: number(1 << 55),
        close: number(1 << 54),
        volume: number(1 << 53),
    }
}

/// A price as exchanges have them; one in eight has any finite bits.
#[expect(clippy::cast_precision_loss, reason = "any double will do")]
fn price(mixed: u64) -> f64 {
    let ticks = (mixed >> 20) as f64;
    match mixed % 8 {
        0 => Some(f64::from_bits(mixed.rotate_left(17))).filter(|bits| bits.is_finite()).unwrap_or(0.0),
        1 | 2 => ticks % 1e6 * 1e-8,
        3 | 4 => ticks % 1e6 * 0.0001,
        _ => ticks % 1e5 * 0.5,
    }
}

#[expect(clippy::cast_precision_loss, reason = "any double will do")]
fn small(mixed: u64) -> f64 {
    (mixed % 1000) as f64 / 10.0
}

/// A random number that is always the same for the same number.
fn mix(number: u64) -> u64 {
    fastrand::Rng::with_seed(number).u64(..)
}
