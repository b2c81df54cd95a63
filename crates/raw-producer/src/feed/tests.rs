//! Catching up, without an exchange or Kafka: questions are read off the line, and answered by hand.

use common::admin::Health;
use common::metrics::Metrics;
use serde_json::{Value, json};

use super::*;

/// The topic was whole up to here, and history is this long.
const WHOLE: Millis = 1_790_000_000_000;
const MISSED: Millis = 100_000;

/// An exchange that is asked.
struct FeedBench {
    ingest: FeedHandler,
    line: Option<mpsc::Receiver<String>>,
    now: Instant,
}

impl FeedBench {
    /// Of a topic whose last trade of instrument A has the number 10.
    fn new() -> Self {
        Self::with_instruments(&["A".to_owned()])
    }

    /// The same of these instruments.
    fn with_instruments(names: &[String]) -> Self {
        let limits = Limits {
            hold_max: 5_000,
            max_buffered: 1_700,
            max_ahead: 60_000,
            confirm_after: 1_000,
            give_up_after: 300_000,
        };
        let settings = FeedSettings {
            scopes: vec![HistoryScope::Currency("BTC".into(), "any".into())],
            partitions: 1,
            start_from: None,
            reconcile_interval: 60_000,
            requests_per_second: 1_000,
            limits,
        };
        let metrics = Metrics::new("test");
        let tools = Deps {
            encoder: TradeEncoder::new(1),
            sampler: Sampler::one_in(0),
            feed: FeedMetrics::new(&metrics),
            metrics: SequencerMetrics::new(&metrics),
            part: Health::new().part("backfill"),
        };
        let mut sequencer = Sequencer::new(1, limits);
        let ten = crate::sequencer::LastPublished { seq: 10, timestamp: WHOLE, ..Default::default() };
        names.iter().for_each(|name| sequencer.restore(name, &ten));
        let (topic, now) = (TopicState { start: WHOLE - MISSED, reconciled_through: WHOLE }, Instant::now());
        Self { ingest: FeedHandler::new(settings, tools, sequencer, (Some(topic), now)), line: None, now }
    }

    /// A connection comes, and the exchange's clock.
    fn connect(&mut self) {
        self.connect_at(MISSED);
    }

    /// The same so long after the topic was whole.
    fn connect_at(&mut self, time: Millis) {
        self.come_up();
        self.answer("public/get_time", &json!(WHOLE + time));
    }

    fn come_up(&mut self) {
        let (questions, line) = mpsc::channel(100);
        self.line = Some(line);
        self.ingest.event(ConnectionEvent::Up { connection: 0, questions }, self.now);
    }

    /// Refuses the next question for that, passing over others.
    fn refuse(&mut self, method: &str, code: i64) {
        let line = self.line.as_mut().unwrap();
        let asked = std::iter::from_fn(|| line.try_recv().ok()).find(|text| text.contains(method)).unwrap();
        let asked: Value = serde_json::from_str(&asked).unwrap();
        let error = json!({"code": code, "message": "refused"});
        let text = json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string();
        self.ingest
            .event(ConnectionEvent::Frame { connection: 0, text: text.into(), received_at: 0 }, self.now);
    }

    /// Answers whatever is asked about what is older than history by time, until it has all been read: there is nothing.
    fn nothing_older(&mut self) {
        let until = self.ingest.deep.until();
        while (self.ingest.phase, self.ingest.deep.until()) == (Phase::BackfillByInstrument, until) {
            let asked = self.line.as_mut().unwrap().try_recv().unwrap();
            let asked: Value = serde_json::from_str(&asked).unwrap();
            let result = match asked["method"].as_str().unwrap() {
                "public/get_time" => continue,
                "public/get_instruments" => json!([]),
                _ => json!({"trades": [], "has_more": false}),
            };
            let text = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
            self.ingest
                .event(ConnectionEvent::Frame { connection: 0, text: text.into(), received_at: 0 }, self.now);
        }
    }

    fn disconnect(&mut self) {
        self.ingest.event(ConnectionEvent::Down { connection: 0 }, self.now);
    }

    /// Answers the next question for that, passing over others; what it asked.
    fn answer(&mut self, method: &str, result: &Value) -> Value {
        let line = self.line.as_mut().unwrap();
        loop {
            let question: Value = serde_json::from_str(&line.try_recv().unwrap()).unwrap();
            if question["method"] == method {
                let text = json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string();
                self.ingest.event(
                    ConnectionEvent::Frame { connection: 0, text: text.into(), received_at: 0 },
                    self.now,
                );
                return question["params"].clone();
            }
        }
    }

    /// Answers the reading by time with that trade, and that there is more; tells from when on it was asked.
    fn page(&mut self, of: (&str, i64, Millis)) -> Millis {
        let page = json!({"trades": [trade(of)], "has_more": true});
        let asked = self.answer("public/get_last_trades_by_currency_and_time", &page);
        asked["start_timestamp"].as_i64().unwrap() - WHOLE
    }

    /// The stream brings trades in one bundle.
    fn stream(&mut self, trades: &[Value]) {
        let params = json!({"channel": "trades.future.any.100ms", "data": trades});
        let text = json!({"jsonrpc": "2.0", "method": "subscription", "params": params}).to_string();
        self.ingest
            .event(ConnectionEvent::Frame { connection: 0, text: text.into(), received_at: 0 }, self.now);
    }

    /// Answers the reading by time with these trades; tells between which times it was asked.
    fn pages(&mut self, trades: &[Value], has_more: bool) -> (Millis, Millis) {
        let page = json!({"trades": trades, "has_more": has_more});
        let asked = self.answer("public/get_last_trades_by_currency_and_time", &page);
        let time = |name: &str| asked[name].as_i64().unwrap() - WHOLE;
        (time("start_timestamp"), time("end_timestamp"))
    }

    /// Answers it with everything up to number 60, in pages that fit.
    fn pages_up_to_sixty(&mut self, at: Millis) -> (Millis, Millis) {
        let asked = self.pages(&trades_of_each(11..=30, at), true);
        self.pages(&trades_of_each(31..=45, at), true);
        self.pages(&trades_of_each(46..=60, at), false);
        asked
    }

    fn pass(&mut self, millis: u64) {
        self.now += std::time::Duration::from_millis(millis);
        self.ingest.tick(self.now);
    }

    fn published(&mut self) -> Vec<(String, i64)> {
        let items = self.ingest.items();
        items
            .filter_map(|item| match item {
                OutboundRecord::Trade { of, seq, .. } => Some((of.name.to_string(), seq)),
                _ => None,
            })
            .collect()
    }

    fn noted(&self) -> Millis {
        self.ingest.topic.unwrap().reconciled_through - WHOLE
    }
}

/// An instrument's trade of that number, so long after the topic was whole.
fn trade((name, seq, at): (&str, i64, Millis)) -> Value {
    json!({"trade_seq": seq, "trade_id": "1", "timestamp": WHOLE + at, "tick_direction": 0, "price": 1.0,
        "instrument_name": name, "index_price": 1.0, "direction": "buy", "amount": 1.0})
}

/// Where connections last for a page only, and some gap is always open, history is read to its end all the same.
#[test]
fn a_reading_that_is_cut_short_goes_on_where_it_was_while_a_gap_is_open() {
    let mut bench = FeedBench::new();
    let mut asked = Vec::new();
    for round in 0..5 {
        bench.connect();
        asked.push(bench.page(("A", 12 + round, 20_000 + 15_000 * round)));
        bench.disconnect();
    }
    assert_eq!(asked, [-10_000, 20_000, 35_000, 50_000, 65_000]);
    // A's number 11 is still missing: whoever comes after this process is to read from what waits for it.
    assert_eq!((bench.published(), bench.noted()), (vec![], 19_999));
}

#[test]
fn what_the_process_after_this_one_need_not_read_is_noted_while_history_is_read() {
    let mut bench = FeedBench::new();
    bench.connect();
    for round in 0..5 {
        bench.page(("A", 11 + round, 20_000 + 15_000 * round));
    }
    assert_eq!(bench.published().len(), 4, "the last page's millisecond may have more");
    assert_eq!(bench.noted(), 79_999);
}

/// More instruments than can be asked about at once.
fn instruments() -> Vec<String> {
    (0..40).map(|number| format!("I{number:02}")).collect()
}

/// Trades of these numbers of each instrument, a millisecond for each number from that time on.
fn trades_of_each(numbers: std::ops::RangeInclusive<i64>, at: Millis) -> Vec<Value> {
    let names = instruments();
    numbers
        .flat_map(|seq| names.iter().map(move |name| trade((name, seq, at + seq))).collect::<Vec<_>>())
        .collect()
}

/// Of a topic that has caught up.
fn live() -> FeedBench {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.pages(&[], false);
    assert_eq!(bench.ingest.phase, Phase::Live);
    bench
}

/// Each instrument's numbers from 11 to 60, in order.
fn assert_all_are_published(bench: &mut FeedBench) {
    let published = bench.published();
    for name in instruments() {
        let of = published.iter().filter(|(found, _)| *found == name).map(|(_, seq)| *seq);
        assert_eq!(of.collect::<Vec<_>>(), (11..=60).collect::<Vec<_>>(), "{name}");
    }
}

/// Were each gap asked about by itself, more trades would be dropped meanwhile than are found.
#[test]
fn when_more_is_missing_than_can_be_asked_for_one_by_one_history_is_read_by_time() {
    let mut bench = live();
    // Number 11 of each is lost, and what comes behind it is more than there is room for.
    bench.pass(100);
    bench.stream(&trades_of_each(12..=60, MISSED));
    assert_eq!(bench.ingest.phase, Phase::CatchingUp);
    assert_eq!(bench.ingest.sequencer.held(), 0, "history has it all");
    bench.pages_up_to_sixty(MISSED);
    assert_eq!(bench.ingest.phase, Phase::Live);
    assert_all_are_published(&mut bench);
}

#[test]
fn one_instrument_that_waits_for_its_gap_makes_nobody_read_history_anew() {
    let mut bench = live();
    let many: Vec<_> = (12..=2_500).map(|seq| trade(("I00", seq, MISSED + 100))).collect();
    bench.stream(&many);
    assert_eq!((bench.ingest.phase, bench.ingest.sequencer.held()), (Phase::Live, 1_700));
}

/// A reading that began three seconds back each time would never catch up with such a stream.
#[test]
fn what_a_fast_stream_brought_too_much_of_is_read_from_where_the_last_reading_ended() {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.stream(&trades_of_each(11..=60, MISSED + 300));
    bench.pass(500);
    assert_eq!(bench.pages(&[], false), (-10_000, MISSED));
    assert_eq!(bench.ingest.phase, Phase::CatchingUp);
    assert_eq!(bench.pages_up_to_sixty(MISSED + 300), (MISSED, MISSED + 500));
    assert_eq!(bench.ingest.phase, Phase::Live);
    assert_all_are_published(&mut bench);
    // What history may not have had yet is looked for before anything is called whole.
    bench.pass(4_000);
    assert_eq!(bench.pages(&[], false).0, MISSED - 10_000);
}

/// What it says of its own end would else be taken for the end of the one that runs.
#[test]
fn an_answer_to_an_older_reading_moves_a_newer_one_no_further() {
    let mut bench = live();
    bench.pass(4_000);
    assert!(bench.ingest.scan.is_some(), "it compares");
    let line = bench.line.as_mut().unwrap();
    let older = std::iter::from_fn(|| line.try_recv().ok()).find(|text| text.contains("currency_and_time"));
    let older: Value = serde_json::from_str(&older.unwrap()).unwrap();
    bench.stream(&trades_of_each(12..=60, MISSED + 3_900));
    assert_eq!(bench.ingest.phase, Phase::CatchingUp);
    let answer = json!({"jsonrpc": "2.0", "id": older["id"], "result": {"trades": [], "has_more": false}});
    let text = answer.to_string().into();
    bench.ingest.event(ConnectionEvent::Frame { connection: 0, text, received_at: 0 }, bench.now);
    assert_eq!(bench.ingest.phase, Phase::CatchingUp);
    bench.pages_up_to_sixty(MISSED + 3_900);
    assert_all_are_published(&mut bench);
}

#[test]
fn what_a_connection_calls_by_itself_is_taken_from_what_can_be_asked() {
    let mut bench = FeedBench::new();
    let before = bench.ingest.calls.credits(bench.now);
    bench.ingest.event(ConnectionEvent::Called, bench.now);
    assert_eq!(bench.ingest.calls.credits(bench.now), before - 1);
}

/// At the speed of reading, a hole that takes seconds to be sure of would fill all the room with its partition.
#[test]
fn while_a_gap_holds_its_partition_no_more_of_history_is_read_than_there_is_room_for() {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.pages(&[trade(("I00", 12, 100))], true);
    let others = trades_of_each(11..=30, 200).into_iter().filter(|trade| trade["instrument_name"] != "I00");
    bench.pages(&others.collect::<Vec<_>>(), true);
    let reads = |bench: &mut FeedBench| {
        let line = bench.line.as_mut().unwrap();
        std::iter::from_fn(|| line.try_recv().ok()).any(|text| text.contains("currency_and_time"))
    };
    assert!(!reads(&mut bench), "there is no room for a page beside what is held");
    bench.pass(6_000);
    assert!(reads(&mut bench), "the others of the partition have gone on");
}

const HOUR: Millis = 3_600_000;

#[test]
fn between_what_is_read_by_instrument_and_what_is_read_by_time_nothing_is_left_out() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    // That takes an hour.
    bench.now += std::time::Duration::from_secs(3_600);
    bench.nothing_older();
    let ended = bench.ingest.deep.until() - WHOLE;
    let (from, until) = bench.pages(&[], false);
    assert_eq!((from, until), (ended - 10_000, 73 * HOUR));
    assert!(from >= 73 * HOUR - 24 * HOUR, "by time history has nothing older");
}

#[test]
fn what_took_so_long_that_history_by_time_does_not_reach_back_to_its_end_is_done_once_more_from_there() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    bench.now += std::time::Duration::from_secs(3 * 3_600);
    bench.nothing_older();
    assert_eq!(bench.ingest.phase, Phase::BackfillByInstrument);
    bench.nothing_older();
    let ended = bench.ingest.deep.until() - WHOLE;
    assert_eq!(bench.pages(&[], false).0, ended - 10_000);
}

#[test]
fn reading_by_instrument_goes_on_after_a_lost_connection_where_it_was() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    bench.answer("public/get_instruments", &json!([]));
    bench.disconnect();
    bench.connect_at(72 * HOUR);
    // One listing is left, and A.
    bench.answer("public/get_instruments", &json!([]));
    let line = bench.line.as_mut().unwrap();
    let left: Vec<_> = std::iter::from_fn(|| line.try_recv().ok()).collect();
    assert!(!left.iter().any(|text| text.contains("get_instruments")), "{left:?}");
}

/// As ours stands still while the machine sleeps: trades of now would be hours ahead, and dead-lettered for ever.
#[test]
fn after_a_lost_connection_nothing_is_taken_before_the_exchanges_clock_is_known_again() {
    let mut bench = live();
    bench.disconnect();
    bench.come_up();
    let late = trade(("I00", 11, 8 * HOUR));
    bench.stream(std::slice::from_ref(&late));
    bench.answer("public/get_time", &json!(WHOLE + 8 * HOUR));
    bench.pages(&[late], false);
    let items: Vec<_> = bench.ingest.items().collect();
    assert!(!items.iter().any(|item| matches!(item, OutboundRecord::DeadLetter(_))), "{items:?}");
    assert!(items.iter().any(|item| matches!(item, OutboundRecord::Trade { seq: 11, .. })), "{items:?}");
}

#[test]
fn a_refused_question_does_not_pass_for_history_without_trades() {
    let mut bench = FeedBench::new();
    bench.connect();
    // Closed to those without a key for a while; and what no asking again changes.
    for code in [11_056, -32_602] {
        bench.refuse("by_currency_and_time", code);
        assert_eq!((bench.ingest.phase, bench.noted()), (Phase::CatchingUp, 0), "{code}");
        bench.pass(3_000);
    }
    assert_eq!(bench.page(("A", 11, 20_000)), -10_000, "it is asked once more");
}

#[test]
fn while_the_exchange_does_not_know_a_channel_nothing_is_called_whole() {
    let mut bench = live();
    let begun = bench.now;
    // The exchange says what time it is; whether anything is called whole then.
    let whole = |bench: &mut FeedBench, after: u64| {
        bench.pass(after);
        let passed = i64::try_from((bench.now - begun).as_millis()).unwrap();
        bench.answer("public/get_time", &json!(WHOLE + MISSED + passed));
        bench.ingest.items().any(|item| matches!(item, OutboundRecord::Watermark { .. }))
    };
    assert!(!whole(&mut bench, 4_000), "history is to be read a second time");
    bench.pages(&[], false);
    assert!(whole(&mut bench, 1_100));
    bench.ingest.event(ConnectionEvent::Missing { connection: 0, channels: 1 }, bench.now);
    assert!(!whole(&mut bench, 4_000));
    bench.pages(&[], false);
    assert!(!whole(&mut bench, 1_100), "one is missing still");
    bench.ingest.event(ConnectionEvent::Missing { connection: 0, channels: 0 }, bench.now);
    assert!(!whole(&mut bench, 4_000), "history has not been read since");
    bench.pages(&[], false);
    assert!(whole(&mut bench, 1_100));
}

/// The others may be as dead as the one that was lost.
#[test]
fn after_one_of_two_connections_was_lost_nothing_is_called_whole_before_history_has_been_read() {
    let mut bench = live();
    bench.pass(4_000);
    bench.pages(&[], false);
    assert!(bench.ingest.confirmed);
    let (questions, _line) = mpsc::channel(100);
    bench.ingest.event(ConnectionEvent::Up { connection: 1, questions }, bench.now);
    bench.ingest.items().for_each(drop);
    bench.ingest.time_asked = None;
    bench.pass(100);
    bench.answer("public/get_time", &json!(WHOLE + MISSED + 5_000));
    let complete = |item: &OutboundRecord| matches!(item, OutboundRecord::Watermark { .. });
    assert!(!bench.ingest.items().any(|item| complete(&item)));
}
