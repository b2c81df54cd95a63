//! The feed without an exchange and without Kafka: tests read its requests and answer them.

mod catch_up;
mod live;

use std::ops::RangeInclusive;

use common::admin::Health;
use common::metrics::Metrics;
use serde_json::{Value, json};

use super::*;
use crate::sequencer::LastPublished;

/// The topic is complete up to here.
const WHOLE: ExchangeTime = 1_790_000_000_000;
/// The time since then, when the first connection is made.
const MISSED: Millis = 100_000;
const HOUR: Millis = 3_600_000;

const BY_CURRENCY: &str = "public/get_last_trades_by_currency_and_time";
const CLOCK: &str = "public/get_time";

/// A feed, its requests, and our clock.
struct FeedBench {
    feed: FeedHandler,
    requests: Option<mpsc::Receiver<String>>,
    now: Instant,
}

impl FeedBench {
    /// The last published number of instrument A is 10.
    fn new() -> Self {
        Self::with_instruments(&["A".to_owned()])
    }

    /// The last published number of each instrument is 10.
    fn with_instruments(names: &[String]) -> Self {
        let limits = Limits {
            hold_max: 5_000,
            max_buffered: 1_700,
            max_ahead: 60_000,
            confirm_after: 1_000,
            give_up_after: 300_000,
        };
        let settings = FeedSettings {
            scopes: vec![HistoryScope::Currency { currency: "BTC".into(), kind: "any".into() }],
            partitions: 1,
            start_from: None,
            reconcile_interval: 60_000,
            requests_per_second: 1_000,
            limits,
        };
        let metrics = Metrics::new("test");
        let deps = Deps {
            encoder: TradeEncoder::new(1),
            sampler: Sampler::one_in(0),
            feed: FeedMetrics::new(&metrics),
            metrics: SequencerMetrics::new(&metrics),
            health: Health::new().component("backfill"),
            request_ids: RequestIds::default(),
        };
        let mut sequencer = Sequencer::new(1, limits);
        let ten = LastPublished { seq: 10, timestamp: WHOLE, ..Default::default() };
        names.iter().for_each(|name| sequencer.restore(name, &ten));
        let (topic, now) = (TopicState { start: WHOLE - MISSED, reconciled_through: WHOLE }, Instant::now());
        let feed = FeedHandler::new(settings, deps, sequencer, Some(topic), now);
        Self { feed, requests: None, now }
    }

    /// Connects when the exchange's clock shows `WHOLE + MISSED`.
    fn connect(&mut self) {
        self.connect_at(MISSED);
    }

    /// Connects when the exchange's clock shows `WHOLE + time`.
    fn connect_at(&mut self, time: Millis) {
        self.connect_without_clock();
        self.respond(CLOCK, &json!(WHOLE + time));
    }

    fn connect_without_clock(&mut self) {
        let (sender, requests) = mpsc::channel(100);
        self.requests = Some(requests);
        self.event(ConnectionEvent::Subscribed { connection: 0, requests: sender });
    }

    fn disconnect(&mut self) {
        self.event(ConnectionEvent::Disconnected { connection: 0 });
    }

    fn event(&mut self, event: ConnectionEvent) {
        self.feed.on_event(event, self.now);
    }

    fn frame(&mut self, frame: &Value) {
        let text = frame.to_string().into();
        self.event(ConnectionEvent::Frame { connection: 0, text, received_at: 0 });
    }

    /// The next request; `None` if there is none.
    fn try_request(&mut self) -> Option<Value> {
        let text = self.requests.as_mut().unwrap().try_recv().ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The next request with that method; skips others.
    fn request(&mut self, method: &str) -> Value {
        std::iter::from_fn(|| self.try_request()).find(|request| request["method"] == method).unwrap()
    }

    /// Whether any further request has that method.
    fn requests_any(&mut self, method: &str) -> bool {
        std::iter::from_fn(|| self.try_request()).any(|request| request["method"] == method)
    }

    /// Answers the next request with that method, and returns its parameters.
    fn respond(&mut self, method: &str, result: &Value) -> Value {
        let mut request = self.request(method);
        self.frame(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
        request["params"].take()
    }

    /// Rejects the next request with that method.
    fn reject(&mut self, method: &str, code: i64) {
        let request = self.request(method);
        let error = json!({"code": code, "message": "refused"});
        self.frame(&json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
    }

    /// Answers the backfill by instrument to its end: there are no trades.
    fn finish_by_instrument(&mut self) {
        let until = self.by_instrument_until();
        while self.phase() == Phase::BackfillByInstrument && self.by_instrument_until() == until {
            let request = self.try_request().unwrap();
            let result = match request["method"].as_str().unwrap() {
                CLOCK => continue,
                "public/get_instruments" => json!([]),
                _ => json!({"trades": [], "has_more": false}),
            };
            self.frame(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
        }
    }

    /// Answers the next query by time, and returns its time range relative to `WHOLE`.
    fn page(&mut self, trades: &[Value], has_more: bool) -> RangeInclusive<Millis> {
        let asked = self.respond(BY_CURRENCY, &json!({"trades": trades, "has_more": has_more}));
        let time = |name: &str| asked[name].as_i64().unwrap() - WHOLE;
        time("start_timestamp")..=time("end_timestamp")
    }

    /// Answers queries by time with everything up to number 60, in pages that fit.
    fn pages_up_to_sixty(&mut self, at: Millis) -> RangeInclusive<Millis> {
        let asked = self.page(&trades_of_each(11..=30, at), true);
        self.page(&trades_of_each(31..=45, at), true);
        self.page(&trades_of_each(46..=60, at), false);
        asked
    }

    /// The stream brings trades in one bundle.
    fn stream(&mut self, trades: &[Value]) {
        let params = json!({"channel": "trades.future.any.100ms", "data": trades});
        self.frame(&json!({"jsonrpc": "2.0", "method": "subscription", "params": params}));
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.feed.on_tick(self.now);
    }

    /// Name and number of the trades published since the last call.
    fn published(&mut self) -> Vec<(String, i64)> {
        let trade = |record| match record {
            OutboundRecord::Trade { instrument, seq, .. } => Some((instrument.name.to_string(), seq)),
            _ => None,
        };
        self.feed.take_records().filter_map(trade).collect()
    }

    /// Relative to `WHOLE`.
    fn reconciled_through(&self) -> Millis {
        self.feed.topic.unwrap().reconciled_through - WHOLE
    }

    fn phase(&self) -> Phase {
        self.feed.phase
    }

    fn by_instrument_until(&self) -> ExchangeTime {
        self.feed.instrument_backfill.until()
    }
}

/// A trade at `WHOLE + at`.
fn trade(name: &str, seq: i64, at: Millis) -> Value {
    json!({"trade_seq": seq, "trade_id": "1", "timestamp": WHOLE + at, "tick_direction": 0, "price": 1.0,
        "instrument_name": name, "index_price": 1.0, "direction": "buy", "amount": 1.0})
}

/// More instruments than gaps can be requested at once.
fn instruments() -> Vec<String> {
    (0..40).map(|number| format!("I{number:02}")).collect()
}

/// Trades with these numbers of each instrument; their times are `at` plus their numbers.
fn trades_of_each(numbers: RangeInclusive<i64>, at: Millis) -> Vec<Value> {
    let names = instruments();
    numbers.flat_map(|seq| names.iter().map(move |name| trade(name, seq, at + seq))).collect()
}

/// A feed that has caught up.
fn live() -> FeedBench {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.page(&[], false);
    assert_eq!(bench.phase(), Phase::Live);
    bench
}

/// Each instrument's numbers from 11 to 60 are published in order.
fn assert_all_are_published(bench: &mut FeedBench) {
    let published = bench.published();
    for name in instruments() {
        let of = published.iter().filter(|(found, _)| *found == name).map(|(_, seq)| *seq);
        assert_eq!(of.collect::<Vec<_>>(), (11..=60).collect::<Vec<_>>(), "{name}");
    }
}
