//! The aggregator against the batch program, bit by bit; with restarts anywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod reference;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use agg_producer::store::aggregator::{Aggregator, Closed, Offset, Placement, Trade};
use agg_producer::store::checkpoint::Checkpoint;
use agg_producer::store::partition::{CannotRestore, Partition, Windowing};
use agg_producer::store::watermark::WatermarkAt;
use agg_producer::window::average::Average;
use agg_producer::window::slice::Slice;
use agg_producer::window::time_windows::TimeWindows;
use agg_producer::window::weights::{Tau, Weights};
use common::model::Candle;
use proptest::prelude::*;
use reference::{AVERAGE, CANDLE, Published, Settings, numbers, publish, publish_with};

fn windowing(settings: &Settings) -> Windowing {
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let windows = TimeWindows::new(ms(settings.size), ms(settings.advance), ms(settings.grace)).unwrap();
    let tau = Tau::new(ms(settings.tau), &windows).unwrap();
    Windowing { windows, weights: Arc::new(Weights::new(&windows, tau)) }
}

/// Runs records through partitions as the service does, and keeps what they publish.
#[derive(Default)]
struct Run {
    published: Published,
    /// The candles' topic.
    candles: Vec<Candle<'static>>,
    /// Window ends of each instrument in the order in which they came.
    order: BTreeMap<String, Vec<i64>>,
}

impl Run {
    fn add(&mut self, partition: &mut Partition, place: usize, trade: &reference::Trade) {
        let reference::Trade { instrument, timestamp, price, amount } = trade;
        let (offset, timestamp, price, amount) = (offset(place), *timestamp, *price, *amount);
        match partition.add(&Trade { offset, instrument, timestamp, price, amount }) {
            Some(Placement::Late(late)) => {
                self.published.late.push((place, late.stream_time, late.slice.start, late.slice.end));
            }
            Some(Placement::InTime(_)) | None => {}
        }
    }

    fn close_one(&mut self, partition: &mut Partition) {
        let keep = |closed: Closed<'_>| {
            self.keep(&closed);
            Ok::<_, Infallible>(())
        };
        partition.close_next(keep).unwrap();
    }

    fn keep(&mut self, closed: &Closed<'_>) {
        let Average { trade_count, sma, ema, vwap, open, high, low, close, volume } = closed.average;
        let average = numbers(trade_count, &AVERAGE, [sma, ema, vwap, open, high, low, close, volume]);
        let key = (closed.instrument.to_owned(), closed.window.end);
        self.order.entry(key.0.clone()).or_default().push(key.1);
        assert_eq!(self.published.averages.insert(key, average), None, "a window was published twice");
        if let Some((span, slice)) = closed.slice {
            self.candles.push(candle(closed.instrument, (span.start, span.end), slice));
            let Slice { trade_count, open, high, low, close, volume, .. } = *slice;
            let Slice { turnover, price_sum, ema_sum, ema_weight, .. } = *slice;
            let doubles = [open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight];
            let key = (closed.instrument.to_owned(), span.end);
            let candle = numbers(trade_count, &CANDLE, doubles);
            assert_eq!(self.published.candles.insert(key, candle), None, "a slice was published twice");
        }
    }
}

fn candle(instrument: &str, (start, end): (i64, i64), slice: &Slice) -> Candle<'static> {
    let Slice { trade_count, open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight } =
        *slice;
    let (instrument_name, trade_count) = (instrument.to_owned().into(), trade_count.try_into().unwrap());
    Candle {
        instrument_name,
        start,
        end,
        trade_count,
        open,
        high,
        low,
        close,
        volume,
        turnover,
        price_sum,
        ema_sum,
        ema_weight,
    }
}

fn restore_candle(partition: &mut Partition, candles: &[Candle<'_>]) {
    candles.iter().for_each(|candle| partition.restore_candle(candle).unwrap());
    assert_eq!(partition.missing(), None);
}

fn offset(place: usize) -> Offset {
    Offset(i64::try_from(place).unwrap() * 2)
}

fn settings() -> impl Strategy<Value = Settings> {
    (1..=8i64, prop_oneof![1..=20i64, Just(50)], prop_oneof![Just(0), 0..=60i64, Just(500)], 1..=200i64)
        .prop_map(|(slices, advance, grace, tau)| Settings { size: slices * advance, advance, grace, tau })
}

/// Mostly forward in small steps, sometimes back, rarely over night.
fn trades() -> impl Strategy<Value = Vec<reference::Trade>> {
    let step = prop_oneof![6 => 0..15i64, 3 => -40..0i64, 1 => -600..600i64, 1 => 5_000..500_000i64];
    let price = prop_oneof![8 => 1e-4..1e5f64, 1 => Just(0.1), 1 => Just(-0.0), 1 => -5.0..5.0f64];
    let amount = prop_oneof![8 => 1e-3..1e6f64, 2 => Just(0.0)];
    let start = prop_oneof![Just(0i64), Just(1_700_000_000_000), -2_000..2_000i64];
    (start, prop::collection::vec((0..4u8, step, price, amount), 0..120)).prop_map(|(start, steps)| {
        let mut time = start;
        let trade = |(instrument, step, price, amount)| {
            let timestamp = time + step;
            time = if step < 0 { time } else { timestamp };
            reference::Trade { instrument: format!("I-{instrument}"), timestamp, price, amount }
        };
        steps.into_iter().map(trade).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Windows that are due may be closed at once or after some more trades.
    #[test]
    fn each_window_is_published_once_with_the_batch_programs_numbers(
        settings in settings(), trades in trades(), patience in 1usize..10,
    ) {
        let mut partition = Partition::new(&windowing(&settings), None);
        let mut run = Run::default();
        for (place, trade) in trades.iter().enumerate() {
            run.add(&mut partition, place, trade);
            let patient = !place.is_multiple_of(patience) && place + 1 < trades.len();
            while partition.is_due() && !patient {
                run.close_one(&mut partition);
            }
        }
        prop_assert_eq!(&run.published, &publish(&settings, &trades));
        prop_assert!(run.order.values().all(|ends| ends.is_sorted()));
    }

    /// A commit may fall between any two records and between any two windows that one record closes. Whatever was done since the
    /// last one is lost, which is what an aborted transaction means. Watermarks come when they like, and the producer may be wrong in
    /// what it says by them. The first windows may be ones that are not to be published.
    #[test]
    fn a_restart_anywhere_changes_nothing(
        settings in settings(),
        trades in trades(),
        fates in fates(),
        silence in prop_oneof![Just(None), (0..1_000i64).prop_map(Some)],
    ) {
        let not_before = silence.zip(trades.first()).map(|(after, first)| first.timestamp + after);
        let mut story = Story::new(&settings, &trades, not_before);
        let mut fates = fates.into_iter().cycle();
        while story.place < trades.len() || story.partition.is_due() {
            story.go_on(fates.next().unwrap());
        }
        let mut expected = publish_with(&settings, &trades, &story.watermarks);
        expected.averages.retain(|(_, end), _| Some(*end) > not_before);
        expected.candles.retain(|(_, end), _| Some(*end) > not_before);
        prop_assert_eq!(story.now.published, expected);
    }
}

/// What a transaction has committed.
struct Committed {
    /// How many trades had been read.
    place: usize,
    checkpoint: Checkpoint,
    published: Published,
    candles: Vec<Candle<'static>>,
    watermarks: Vec<(usize, i64)>,
}

/// A partition's life, with restarts.
struct Story<'a> {
    windowing: Windowing,
    trades: &'a [reference::Trade],
    not_before: Option<i64>,
    partition: Partition,
    now: Run,
    place: usize,
    /// Those that have counted, with how many trades had been read.
    watermarks: Vec<(usize, i64)>,
    committed: Option<Committed>,
    crashes: u32,
}

impl<'a> Story<'a> {
    fn new(settings: &Settings, trades: &'a [reference::Trade], not_before: Option<i64>) -> Self {
        let windowing = windowing(settings);
        let partition = Partition::new(&windowing, not_before);
        let (now, watermarks) = (Run::default(), Vec::new());
        Self {
            windowing,
            trades,
            not_before,
            partition,
            now,
            place: 0,
            watermarks,
            committed: None,
            crashes: 0,
        }
    }

    fn go_on(&mut self, fate: Fate) {
        let rebuilding = self.partition.rebuilding_up_to().is_some();
        match fate {
            Fate::Read if self.place < self.trades.len() => {
                let trade = self.trades.get(self.place).unwrap();
                self.now.add(&mut self.partition, self.place, trade);
                self.place += 1;
                self.partition.reached(offset(self.place));
            }
            Fate::Read | Fate::Close if self.partition.is_due() => self.now.close_one(&mut self.partition),
            Fate::Watermark(ahead) if !rebuilding => {
                let before = self.partition.aggregator().stream_time();
                let time = before.unwrap_or_default() + ahead;
                let watermark = WatermarkAt { time, offset: offset(self.place) };
                self.partition.watermark(watermark, offset(self.place));
                // Not if too many of them have been wrong.
                if self.partition.aggregator().stream_time() > before {
                    self.watermarks.push((self.place, time));
                }
            }
            Fate::Commit if !rebuilding => {
                self.committed = Some(Committed {
                    place: self.place,
                    checkpoint: self.partition.checkpoint(offset(self.place)),
                    published: self.now.published.clone(),
                    candles: self.now.candles.clone(),
                    watermarks: self.watermarks.clone(),
                });
            }
            Fate::Crash if self.crashes < 20 => self.crash(),
            Fate::Read | Fate::Close | Fate::Watermark(_) | Fate::Commit | Fate::Crash => {}
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let Some(committed) = &self.committed else {
            self.partition = Partition::new(&self.windowing, self.not_before);
            (self.now, self.place, self.watermarks) = (Run::default(), 0, Vec::new());
            return;
        };
        let Committed { place, checkpoint, published, candles, watermarks } = committed;
        self.partition = Partition::resumed(&self.windowing, offset(*place), checkpoint);
        restore_candle(&mut self.partition, candles);
        self.place = usize::try_from(checkpoint.replay.offset.0 / 2).unwrap();
        (self.now.published, self.now.candles) = (published.clone(), candles.clone());
        self.watermarks.clone_from(watermarks);
    }
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Read,
    Watermark(i64),
    Close,
    Commit,
    Crash,
}

/// Ends with reading, so that every sequence of them comes to an end.
fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let watermark = prop_oneof![-20..60i64, 0..2_000i64].prop_map(Fate::Watermark);
    let fate = prop_oneof![
        8 => Just(Fate::Read),
        4 => Just(Fate::Close),
        2 => watermark,
        3 => Just(Fate::Commit),
        1 => Just(Fate::Crash)
    ];
    prop::collection::vec(fate, 1..200).prop_map(|mut fates| {
        fates.push(Fate::Read);
        fates
    })
}

const MINUTE: i64 = 60_000;

fn by_default() -> Settings {
    Settings { size: 5 * MINUTE, advance: 10_000, grace: 2_000, tau: 150_000 }
}

fn trade(instrument: &str, timestamp: i64) -> reference::Trade {
    reference::Trade { instrument: instrument.into(), timestamp, price: 2.5, amount: 1.0 }
}

fn run(settings: &Settings, trades: &[reference::Trade]) -> (Run, Partition) {
    let mut partition = Partition::new(&windowing(settings), None);
    let mut run = Run::default();
    for (place, trade) in trades.iter().enumerate() {
        run.add(&mut partition, place, trade);
        while partition.is_due() {
            run.close_one(&mut partition);
        }
    }
    (run, partition)
}

#[test]
fn an_instrument_gone_quiet_is_in_every_window_that_holds_its_last_trade_and_then_forgotten() {
    let (run, partition) = run(&by_default(), &[trade("QUIET", 5_000), trade("LOUD", 20 * MINUTE)]);
    let ends: Vec<i64> = (1..=30).map(|hop| hop * 10_000).collect();
    assert_eq!(run.order["QUIET"], ends);
    assert_eq!(partition.aggregator().instruments(), 1);
}

#[test]
fn a_night_without_trades_costs_no_more_than_a_windows_length_of_hops() {
    let year = 365 * 24 * 60 * MINUTE;
    let (run, _) = run(&by_default(), &[trade("A", 0), trade("A", 1000 * year)]);
    assert_eq!(run.published.averages.len(), 30);
}

#[test]
fn a_trade_at_a_windows_end_belongs_to_the_next_one() {
    let (run, _) = run(&by_default(), &[trade("A", 9_999), trade("A", 10_000), trade("A", 22_000)]);
    assert_eq!(run.published.averages[&("A".into(), 10_000)]["trade_count"], 1);
    assert_eq!(run.published.averages[&("A".into(), 20_000)]["trade_count"], 2);
}

#[test]
fn a_trade_within_the_grace_counts_and_one_after_it_is_late_even_for_windows_still_open() {
    let trades =
        [trade("A", 1_000), trade("A", 11_999), trade("A", 9_000), trade("A", 12_000), trade("A", 8_000)];
    let (mut run, mut partition) = run(&by_default(), &trades);
    assert_eq!(run.published.averages[&("A".into(), 10_000)]["trade_count"], 2);
    assert_eq!(run.published.late, [(4, 12_000, 0, 10_000)]);
    run.add(&mut partition, 5, &trade("A", 22_000));
    run.close_one(&mut partition);
    assert_eq!(run.published.averages[&("A".into(), 20_000)]["trade_count"], 4);
}

#[test]
fn a_restart_reads_the_candles_of_a_window_and_the_trades_of_what_has_not_closed() {
    let trades: Vec<_> = (0..10_000).map(|second| trade("A", second * 1_000)).collect();
    let (_, partition) = run(&by_default(), &trades);
    let checkpoint = partition.checkpoint(offset(10_000));
    let replayed = (offset(10_000).0 - checkpoint.replay.offset.0) / 2;
    assert_eq!((checkpoint.emitted_through, checkpoint.candles), (Some(9_990_000), 29));
    assert_eq!(replayed, 10, "trades of one a second since then");
}

#[test]
fn candles_of_other_times_are_passed_over_and_those_that_fit_nothing_refused() {
    let (run, partition) = run(&by_default(), &[trade("A", 5_000), trade("B", 5_000), trade("A", 15_000)]);
    let checkpoint = partition.checkpoint(offset(3));
    let mut restarted = Partition::resumed(&windowing(&by_default()), offset(3), &checkpoint);
    assert_eq!(restarted.missing(), Some((2, -270_000)));
    let of = |start, end| Candle { start, end, ..run.candles[0].clone() };
    restarted.restore_candle(&of(-290_000, -280_000)).unwrap();
    restarted.restore_candle(&of(10_000, 20_000)).unwrap();
    assert_eq!(restarted.missing(), Some((2, -270_000)));
    let no_slice = [of(5_000, 10_000), of(-10_000, 10_000), Candle { trade_count: 0, ..of(0, 10_000) }];
    for candle in no_slice {
        assert!(
            matches!(restarted.restore_candle(&candle), Err(CannotRestore::NoSlice { .. })),
            "{candle:?}"
        );
    }
    restarted.restore_candle(&run.candles[0]).unwrap();
    assert!(matches!(restarted.restore_candle(&run.candles[0]), Err(CannotRestore::Twice { .. })));
    restore_candle(&mut restarted, &run.candles[1..]);
    let more = Candle { instrument_name: "C".into(), ..run.candles[0].clone() };
    assert!(matches!(restarted.restore_candle(&more), Err(CannotRestore::Surplus { .. })));
}

#[test]
fn a_restart_while_windows_are_still_closed_in_silence_reads_the_trades_that_have_no_candle() {
    let (windowing, mut run) = (windowing(&by_default()), Run::default());
    let mut partition = Partition::new(&windowing, Some(50_000));
    let mut restarts = Vec::new();
    for place in 0..60 {
        let position = offset(place);
        let checkpoint = partition.checkpoint(position);
        partition = Partition::resumed(&windowing, position, &checkpoint);
        restore_candle(&mut partition, &run.candles);
        let replayed = usize::try_from(checkpoint.replay.offset.0 / 2).unwrap()..place;
        restarts.push((replayed.len(), checkpoint.candles));
        for place in replayed.chain([place]) {
            run.add(&mut partition, place, &trade("A", i64::try_from(place).unwrap() * 10_000));
        }
        while partition.is_due() {
            run.close_one(&mut partition);
        }
    }
    let ends: Vec<i64> = (6..=58).map(|slice| slice * 10_000).collect();
    assert_eq!(run.order["A"], ends);
    assert!(run.published.averages.values().skip(30).all(|numbers| numbers["trade_count"] == 30));
    assert_eq!([restarts[5], restarts[10], restarts[59]], [(5, 0), (10, 3), (2, 29)]);
}

#[test]
fn a_trace_comes_back_with_the_first_average_that_holds_its_trade_and_only_there() {
    let mut partition = Partition::new(&windowing(&by_default()), None);
    let add = |partition: &mut Partition, timestamp| {
        let trade = Trade { offset: Offset(timestamp), instrument: "A", timestamp, price: 1.0, amount: 1.0 };
        partition.add(&trade).unwrap()
    };
    let Placement::InTime(slice) = add(&mut partition, 5_000) else { panic!("late") };
    partition.aggregator_mut().remember_trace(slice, "A", "first".into());
    partition.aggregator_mut().remember_trace(slice, "A", "second".into());
    add(&mut partition, 60_000);
    let mut traces = Vec::new();
    while partition.is_due() {
        let keep = |closed: Closed<'_>| {
            traces.push(closed.trace.map(str::to_owned));
            Ok::<_, Infallible>(())
        };
        partition.close_next(keep).unwrap();
    }
    assert_eq!(traces, [Some("first".to_owned()), None, None, None, None]);
}

#[test]
fn a_quiet_instrument_closes_by_watermark_once_the_records_below_its_offset_are_read() {
    let mut partition = Partition::new(&windowing(&by_default()), None);
    let mut run = Run::default();
    run.add(&mut partition, 0, &trade("QUIET", 5_000));
    partition.watermark(WatermarkAt { time: 12_000, offset: offset(2) }, offset(1));
    assert!(!partition.is_due(), "another trade lies before the watermark");
    partition.reached(offset(2));
    run.close_one(&mut partition);
    assert_eq!(run.published.averages.keys().map(|(_, end)| *end).collect::<Vec<_>>(), [10_000]);
    assert_eq!(partition.checkpoint(offset(2)).emitted_through, Some(10_000));
}

#[test]
fn a_trade_that_nothing_but_a_watermark_made_late_is_not_added_by_a_restart_either() {
    let windowing = windowing(&by_default());
    let mut partition = Partition::new(&windowing, None);
    let mut run = Run::default();
    run.add(&mut partition, 0, &trade("QUIET", 5_000));
    partition.watermark(WatermarkAt { time: 12_000, offset: offset(1) }, offset(1));
    // The producer was wrong: this one is late, by nothing but the watermark.
    run.add(&mut partition, 1, &trade("QUIET", 6_000));
    assert_eq!(run.published.late, [(1, 12_000, 0, 10_000)]);
    // The window is due and not published yet: its trades are read again.
    let checkpoint = partition.checkpoint(offset(2));
    assert_eq!((checkpoint.candles, checkpoint.replay.offset), (0, offset(0)));
    let mut restarted = Partition::resumed(&windowing, offset(2), &checkpoint);
    for (place, timestamp) in [(0, 5_000), (1, 6_000), (2, 22_000)] {
        run.add(&mut restarted, place, &trade("QUIET", timestamp));
    }
    run.close_one(&mut restarted);
    run.close_one(&mut restarted);
    assert_eq!(run.published.averages[&("QUIET".into(), 20_000)]["trade_count"], 1);
    assert_eq!(run.published.late.len(), 1);
}

#[test]
fn what_a_watermark_closed_comes_back_from_its_candles_though_the_restart_does_not_know_of_it() {
    let windowing = windowing(&by_default());
    let mut partition = Partition::new(&windowing, None);
    let mut run = Run::default();
    run.add(&mut partition, 0, &trade("QUIET", 5_000));
    partition.watermark(WatermarkAt { time: 12_000, offset: offset(1) }, offset(1));
    run.close_one(&mut partition);
    let checkpoint = partition.checkpoint(offset(1));
    assert_eq!((checkpoint.candles, checkpoint.replay.offset), (1, offset(1)));
    let mut restarted = Partition::resumed(&windowing, offset(1), &checkpoint);
    restore_candle(&mut restarted, &run.candles);
    run.add(&mut restarted, 1, &trade("QUIET", 6_000));
    run.add(&mut restarted, 2, &trade("QUIET", 22_000));
    run.close_one(&mut restarted);
    assert_eq!(run.published.late, [(1, 12_000, 0, 10_000)]);
    assert_eq!(run.published.averages[&("QUIET".into(), 20_000)]["trade_count"], 1);
}

#[test]
fn a_producer_that_is_always_wrong_makes_windows_wait_and_not_the_checkpoint_grow() {
    let mut partition = Partition::new(&windowing(&by_default()), None);
    let mut run = Run::default();
    run.add(&mut partition, 0, &trade("A", 0));
    for place in 1..1_000 {
        let time = i64::try_from(place).unwrap() * 100;
        partition.watermark(WatermarkAt { time, offset: offset(place) }, offset(place));
        run.add(&mut partition, place, &trade("A", 1));
    }
    assert!(partition.checkpoint(offset(1_000)).jumps.len() <= Aggregator::MOST_JUMPS);
}

#[test]
fn windows_that_are_not_to_be_published_close_in_silence_and_the_first_after_them_is_whole() {
    let mut partition = Partition::new(&windowing(&by_default()), Some(50_000));
    let mut run = Run::default();
    for place in 0..9 {
        run.add(&mut partition, place, &trade("A", i64::try_from(place).unwrap() * 10_000));
        while partition.is_due() {
            run.close_one(&mut partition);
        }
    }
    assert_eq!(run.order["A"], [60_000, 70_000]);
    assert_eq!(run.published.averages[&("A".into(), 60_000)]["trade_count"], 6);
    assert_eq!(
        Partition::new(&windowing(&by_default()), Some(50_000)).checkpoint(Offset(0)).emitted_through,
        Some(50_000)
    );
}

#[test]
fn ten_minutes_without_the_feed_and_then_their_trades_make_none_late_and_every_window_whole() {
    let mut partition = Partition::new(&windowing(&by_default()), None);
    let mut run = Run::default();
    // While the producer is disconnected its watermark stands still; history comes in the order of event time.
    for place in 0..1_500 {
        let time = i64::try_from(place).unwrap() * 1_000;
        run.add(&mut partition, place, &trade("A", time));
        if !(300..900).contains(&place) {
            let watermark = WatermarkAt { time: time - 1_000, offset: offset(place + 1) };
            partition.watermark(watermark, offset(place + 1));
        }
        while partition.is_due() {
            run.close_one(&mut partition);
        }
    }
    assert_eq!(run.published.late, []);
    let whole = run.published.averages.iter().filter(|((_, end), _)| *end >= 300_000);
    assert!(whole.clone().count() > 100 && whole.clone().all(|(_, numbers)| numbers["trade_count"] == 300));
}
