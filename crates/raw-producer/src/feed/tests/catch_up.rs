//! Reading history before anything is published.

use super::*;

/// History is read to its end even if each connection lasts for one page only and some gap is always open.
#[test]
fn an_interrupted_backfill_continues_where_it_was_while_a_gap_is_open() {
    let mut bench = FeedBench::new();
    let mut starts = Vec::new();
    for round in 0..5 {
        bench.connect();
        let trade = trade("A", 12 + round, 20_000 + 15_000 * round);
        starts.push(*bench.page(&[trade], true).start());
        bench.disconnect();
    }
    assert_eq!(starts, [-10_000, 20_000, 35_000, 50_000, 65_000]);
    // Number 11 is still missing. The next process must read from the oldest held trade on.
    assert_eq!((bench.published(), bench.reconciled_through()), (vec![], 19_999));
}

#[test]
fn reconciled_through_advances_while_history_is_read() {
    let mut bench = FeedBench::new();
    bench.connect();
    for round in 0..5 {
        bench.page(&[trade("A", 11 + round, 20_000 + 15_000 * round)], true);
    }
    assert_eq!(bench.published().len(), 4, "the last page's millisecond may have more");
    assert_eq!(bench.reconciled_through(), 79_999);
}

/// A backfill that goes back three seconds each time would never catch up with such a stream.
#[test]
fn after_a_fast_stream_the_next_backfill_starts_where_the_last_one_ended() {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.stream(&trades_of_each(11..=60, MISSED + 300));
    bench.pass(500);
    assert_eq!(bench.page(&[], false), -10_000..=MISSED);
    assert_eq!(bench.phase(), Phase::CatchUp);
    assert_eq!(bench.pages_up_to_sixty(MISSED + 300), MISSED..=MISSED + 500);
    assert_eq!(bench.phase(), Phase::Live);
    assert_all_are_published(&mut bench);
    // History may not have had some trades yet. They are looked for before anything counts as complete.
    bench.pass(4_000);
    assert_eq!(*bench.page(&[], false).start(), MISSED - 10_000);
}

/// Confirming a hole takes seconds. At the speed of reading, the held partition would fill the whole buffer meanwhile.
#[test]
fn while_a_gap_holds_its_partition_history_is_read_only_as_far_as_it_fits() {
    let mut bench = FeedBench::with_instruments(&instruments());
    bench.connect();
    bench.page(&[trade("I00", 12, 100)], true);
    let others = trades_of_each(11..=30, 200).into_iter().filter(|trade| trade["instrument_name"] != "I00");
    bench.page(&others.collect::<Vec<_>>(), true);
    assert!(!bench.requests_any(BY_CURRENCY), "the buffer has no room for another page");
    bench.pass(6_000);
    assert!(bench.requests_any(BY_CURRENCY), "the partition's other instruments are released");
}

#[test]
fn the_backfill_by_time_starts_where_the_one_by_instrument_ends() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    // The backfill by instrument takes an hour.
    bench.now += Duration::from_secs(3_600);
    bench.finish_by_instrument();
    let ended = bench.by_instrument_until() - WHOLE;
    let times = bench.page(&[], false);
    assert_eq!(times, ended - 10_000..=73 * HOUR);
    assert!(*times.start() >= 73 * HOUR - 24 * HOUR, "history by time has nothing older");
}

#[test]
fn a_backfill_by_instrument_that_took_too_long_is_followed_by_another() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    bench.now += Duration::from_secs(3 * 3_600);
    bench.finish_by_instrument();
    assert_eq!(bench.phase(), Phase::BackfillByInstrument, "history by time begins later now");
    bench.finish_by_instrument();
    let ended = bench.by_instrument_until() - WHOLE;
    assert_eq!(*bench.page(&[], false).start(), ended - 10_000);
}

#[test]
fn a_backfill_by_instrument_continues_after_a_lost_connection() {
    let mut bench = FeedBench::new();
    bench.connect_at(72 * HOUR);
    bench.respond("public/get_instruments", &json!([]));
    bench.disconnect();
    bench.connect_at(72 * HOUR);
    // One of two lists is left.
    bench.respond("public/get_instruments", &json!([]));
    assert!(!bench.requests_any("public/get_instruments"));
}

/// Our clock stands still while the machine sleeps. Current trades would seem to be hours ahead and go to the dead-letter topic.
#[test]
fn after_a_lost_connection_trades_wait_for_the_exchanges_clock() {
    let mut bench = live();
    bench.disconnect();
    bench.connect_without_clock();
    let late = trade("I00", 11, 8 * HOUR);
    bench.stream(std::slice::from_ref(&late));
    bench.respond(CLOCK, &json!(WHOLE + 8 * HOUR));
    bench.page(&[late], false);
    let records: Vec<_> = bench.feed.take_records().collect();
    assert!(!records.iter().any(|record| matches!(record, OutboundRecord::DeadLetter(_))), "{records:?}");
    let is_published = |record: &OutboundRecord| matches!(record, OutboundRecord::Trade { seq: 11, .. });
    assert!(records.iter().any(is_published), "{records:?}");
}

#[test]
fn a_rejected_request_does_not_count_as_history_without_trades() {
    let mut bench = FeedBench::new();
    bench.connect();
    // One error is temporary, the other permanent.
    for code in [11_056, -32_602] {
        bench.reject(BY_CURRENCY, code);
        assert_eq!((bench.phase(), bench.reconciled_through()), (Phase::CatchUp, 0), "{code}");
        bench.pass(3_000);
    }
    let times = bench.page(&[trade("A", 11, 20_000)], true);
    assert_eq!(*times.start(), -10_000, "the page is requested again");
}
