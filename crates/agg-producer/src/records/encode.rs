//! Which record goes to which topic, and in what shape.

use std::borrow::Cow;

use common::avro::codec::SchemaId;
use common::avro::window_encoder;
use common::config::TopicsConfig;
use common::kafka::transaction::{Transaction, TransactionError};
use common::model::{Candle, MovingAverage};
use common::telemetry::trace::{self, SpanKind, TRACEPARENT};
use rdkafka::message::{Header, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::BaseRecord;
use tracing::Span;

use crate::group::rebalance::Deliveries;
use crate::metrics::Published;
use crate::store::aggregator::{Closed, Late};
use crate::window::average::Average;
use crate::window::slice::Slice;
use crate::window::time_windows::Window;

/// The header of a candle that names the group whose it is.
pub const GROUP: &str = "group";

/// Why a record is passed on as it came, and where to.
#[derive(Debug)]
pub enum SideOutput {
    /// Its slice had closed: to the late topic.
    Late(Late),
    /// It is no trade: to the dead-letter topic, with the reason.
    Undecodable(String),
}

/// Shapes the service's records.
pub struct Publisher {
    topics: TopicsConfig,
    group_id: String,
    /// The registry's ids of candles and averages.
    ids: (SchemaId, SchemaId),
    average_span: String,
    value: Vec<u8>,
}

impl Publisher {
    /// With the registry's ids of candles and averages.
    #[must_use]
    pub fn new(topics: TopicsConfig, group_id: String, ids: (SchemaId, SchemaId)) -> Self {
        let average_span = format!("{} publish", topics.moving_averages);
        Self { topics, group_id, ids, average_span, value: Vec::with_capacity(256) }
    }

    /// Begins to fill a transaction.
    pub fn fill<'f, 'p>(&'f mut self, transaction: &'f Transaction<'p, Deliveries>) -> Batch<'f, 'p> {
        Batch { publisher: self, transaction, published: Published::default(), spans: Vec::new() }
    }
}

/// The records of one transaction.
pub struct Batch<'f, 'p> {
    publisher: &'f mut Publisher,
    transaction: &'f Transaction<'p, Deliveries>,
    published: Published,
    spans: Vec<Span>,
}

/// What a transaction was filled with. Spans of the averages in it last as long as this.
#[derive(Debug, Default)]
pub struct Filled {
    /// How many records.
    pub published: Published,
    /// One for each average that a trace leads to.
    _spans: Vec<Span>,
}

impl Batch<'_, '_> {
    /// How many records so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.published.records()
    }

    /// Nothing more will come.
    #[must_use]
    pub fn filled(self) -> Filled {
        Filled { published: self.published, _spans: self.spans }
    }

    /// A closed window: its average, and the candle of the slice that closes with it.
    ///
    /// # Errors
    /// The producer's.
    pub fn closed(&mut self, partition: i32, closed: &Closed<'_>) -> Result<(), TransactionError> {
        if let Some((span, slice)) = closed.slice {
            self.candle(partition, &candle(closed.instrument, span, slice))?;
        }
        self.average(
            partition,
            &moving_average(closed.instrument, closed.window, &closed.average),
            closed.trace,
        )
    }

    /// The group stands in a header: candles are this group's changelog, and no other's.
    fn candle(&mut self, partition: i32, candle: &Candle<'_>) -> Result<(), TransactionError> {
        let Publisher { topics, group_id, ids, value, .. } = &mut *self.publisher;
        window_encoder::candle(ids.0, candle, value);
        let group = OwnedHeaders::new().insert(Header { key: GROUP, value: Some(group_id) });
        self.transaction.send(
            BaseRecord::to(&topics.candles)
                .partition(partition)
                .key(candle.instrument_name.as_bytes())
                .payload(value.as_slice())
                .timestamp(candle.end)
                .headers(group),
        )?;
        self.published.candles += 1;
        Ok(())
    }

    fn average(
        &mut self,
        partition: i32,
        average: &MovingAverage<'_>,
        trace: Option<&str>,
    ) -> Result<(), TransactionError> {
        let Publisher { topics, ids, average_span, value, .. } = &mut *self.publisher;
        window_encoder::average(ids.1, average, value);
        let mut record = BaseRecord::to(&topics.moving_averages)
            .partition(partition)
            .key(average.instrument_name.as_bytes())
            .payload(value.as_slice())
            .timestamp(average.window_end);
        if let Some(parent) = trace.and_then(|trace| trace::extract(trace.as_bytes())) {
            let span = trace::child(&parent, average_span, SpanKind::Producer);
            trace::tag(&span, "instrument_name", average.instrument_name.to_string());
            trace::tag(&span, "window_end", average.window_end);
            record.headers = trace::inject(&span).map(|context| {
                OwnedHeaders::new().insert(Header { key: TRACEPARENT, value: Some(&context) })
            });
            self.spans.push(span);
        }
        self.transaction.send(record)?;
        self.published.averages += 1;
        Ok(())
    }

    /// A record that enters no window, as it came.
    ///
    /// # Errors
    /// The producer's.
    pub fn aside(&mut self, record: &OwnedMessage, aside: &SideOutput) -> Result<(), TransactionError> {
        let topics = &self.publisher.topics;
        let (copy, count) = match aside {
            SideOutput::Late(late) => {
                let to = BaseRecord::to(&topics.late).headers(late_headers(late));
                (to, &mut self.published.late)
            }
            SideOutput::Undecodable(why) => {
                let to = BaseRecord::to(&topics.dead_letter).headers(dead_letter_headers(record, why));
                (to, &mut self.published.undecodable)
            }
        };
        let (partition, timestamp) = (Some(record.partition()), record.timestamp().to_millis());
        let copy = BaseRecord { partition, timestamp, key: record.key(), payload: record.payload(), ..copy };
        self.transaction.send(copy)?;
        *count += 1;
        Ok(())
    }
}

fn late_headers(late: &Late) -> OwnedHeaders {
    let headers =
        [("stream_time", late.stream_time), ("slice_start", late.slice.start), ("slice_end", late.slice.end)];
    headers.iter().fold(OwnedHeaders::new(), |headers, (key, millis)| {
        headers.insert(Header { key, value: Some(&millis.to_string()) })
    })
}

/// Named as Kafka Streams names them (KIP-1034).
fn dead_letter_headers(record: &OwnedMessage, why: &str) -> OwnedHeaders {
    let headers = [
        ("__streams.errors.topic", record.topic().to_owned()),
        ("__streams.errors.partition", record.partition().to_string()),
        ("__streams.errors.offset", record.offset().to_string()),
        ("__streams.errors.message", why.to_owned()),
    ];
    headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

fn candle<'a>(instrument: &'a str, span: Window, slice: &Slice) -> Candle<'a> {
    Candle {
        instrument_name: Cow::Borrowed(instrument),
        start: span.start,
        end: span.end,
        trade_count: count(slice.trade_count),
        open: slice.open,
        high: slice.high,
        low: slice.low,
        close: slice.close,
        volume: slice.volume,
        turnover: slice.turnover,
        price_sum: slice.price_sum,
        ema_sum: slice.ema_sum,
        ema_weight: slice.ema_weight,
    }
}

fn moving_average<'a>(instrument: &'a str, window: Window, average: &Average) -> MovingAverage<'a> {
    MovingAverage {
        instrument_name: Cow::Borrowed(instrument),
        window_start: window.start,
        window_end: window.end,
        trade_count: count(average.trade_count),
        sma: average.sma,
        ema: average.ema,
        vwap: average.vwap,
        open: average.open,
        high: average.high,
        low: average.low,
        close: average.close,
        volume: average.volume,
    }
}

fn count(trades: u64) -> i64 {
    i64::try_from(trades).expect("nobody trades 2^63 times in a window")
}
