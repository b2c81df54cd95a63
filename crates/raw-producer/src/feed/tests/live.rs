//! Publishing what arrives, and comparing it with history.

use super::*;

/// Advances our clock and the exchange's; whether the feed publishes a watermark.
fn publishes_watermark(bench: &mut FeedBench, since: Instant, after: u64) -> bool {
    bench.pass(after);
    let passed = Millis::try_from((bench.now - since).as_millis()).unwrap();
    bench.respond(CLOCK, &json!(WHOLE + MISSED + passed));
    bench.feed.take_records().any(|record| matches!(record, OutboundRecord::Watermark { .. }))
}

/// If each gap were requested separately, more trades would be dropped meanwhile than found.
#[test]
fn when_more_gaps_are_open_than_can_be_requested_history_is_read_by_time() {
    let mut bench = live();
    // Number 11 of each instrument is lost, and the buffer has no room for the trades after it.
    bench.pass(100);
    bench.stream(&trades_of_each(12..=60, MISSED));
    assert_eq!(bench.phase(), Phase::CatchUp);
    assert_eq!(bench.feed.sequencer.held(), 0, "history has everything");
    bench.pages_up_to_sixty(MISSED);
    assert_eq!(bench.phase(), Phase::Live);
    assert_all_are_published(&mut bench);
}

#[test]
fn one_instrument_with_a_gap_does_not_restart_the_backfill() {
    let mut bench = live();
    let many: Vec<_> = (12..=2_500).map(|seq| trade("I00", seq, MISSED + 100)).collect();
    bench.stream(&many);
    assert_eq!((bench.phase(), bench.feed.sequencer.held()), (Phase::Live, 1_700));
}

/// Otherwise the end of the older backfill would count as the end of the running one.
#[test]
fn a_page_of_an_older_backfill_does_not_advance_the_running_one() {
    let mut bench = live();
    bench.pass(4_000);
    let older = bench.request(BY_CURRENCY);
    bench.stream(&trades_of_each(12..=60, MISSED + 3_900));
    assert_eq!(bench.phase(), Phase::CatchUp);
    let result = json!({"trades": [], "has_more": false});
    bench.frame(&json!({"jsonrpc": "2.0", "id": older["id"], "result": result}));
    assert_eq!(bench.phase(), Phase::CatchUp);
    bench.pages_up_to_sixty(MISSED + 3_900);
    assert_all_are_published(&mut bench);
}

#[test]
fn requests_of_the_connections_cost_credits_too() {
    let mut bench = FeedBench::new();
    let before = bench.feed.requests.credits(bench.now);
    bench.event(ConnectionEvent::RequestSent);
    assert_eq!(bench.feed.requests.credits(bench.now), before - 1);
}

#[test]
fn no_watermark_is_published_while_the_exchange_does_not_know_a_channel() {
    let mut bench = live();
    let since = bench.now;
    assert!(!publishes_watermark(&mut bench, since, 4_000), "history must be read a second time");
    bench.page(&[], false);
    assert!(publishes_watermark(&mut bench, since, 1_100));
    bench.event(ConnectionEvent::UnsubscribedChannels { connection: 0, channels: 1 });
    assert!(!publishes_watermark(&mut bench, since, 4_000));
    bench.page(&[], false);
    assert!(!publishes_watermark(&mut bench, since, 1_100), "the channel is still unknown");
    bench.event(ConnectionEvent::UnsubscribedChannels { connection: 0, channels: 0 });
    assert!(!publishes_watermark(&mut bench, since, 4_000), "history was not read since");
    bench.page(&[], false);
    assert!(publishes_watermark(&mut bench, since, 1_100));
}

/// The other connection may have been as dead as the lost one.
#[test]
fn after_one_of_two_connections_was_lost_watermarks_wait_for_history() {
    let mut bench = live();
    let since = bench.now;
    bench.pass(4_000);
    bench.page(&[], false);
    assert!(publishes_watermark(&mut bench, since, 1_100));
    let (sender, _requests) = mpsc::channel(100);
    bench.event(ConnectionEvent::Subscribed { connection: 1, requests: sender });
    assert!(!publishes_watermark(&mut bench, since, 1_100));
}
