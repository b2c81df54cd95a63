//! The raw producer between a simulated exchange and a real Kafka, where nothing breaks but what the test itself does: starts and stops,
//! a second producer, strangers. Faults and crashes have tests of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deribit_sim::faults::Kind;
use e2e::ingest::{Ingest, PATIENCE};
use e2e::names::{OPEN_TRANSACTION_AGE, RECONNECTS};
use e2e::process::Signal;
use rdkafka::producer::BaseRecord;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_between_two_runs_is_fetched_and_everything_is_there_once() {
    let ingest = Ingest::open("resume", "", &[]).await.unwrap();
    let mut through = ingest.now().unwrap();
    for pause in [3, 0, 1] {
        let producer = ingest.produce().unwrap();
        ingest.until_ready().await.unwrap();
        // Live for a while.
        sleep(Duration::from_secs(2)).await;
        through = ingest.until_whole().await.unwrap();
        Ingest::stop(producer).unwrap();
        sleep(Duration::from_secs(pause)).await;
    }
    ingest.compare(through).await.unwrap();
    assert!(ingest.check_watermarks().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_producers_of_one_topic_the_older_ends_and_says_why() {
    let mut ingest = Ingest::open("two", "", &[]).await.unwrap();
    let older = ingest.produce().unwrap();
    ingest.until_whole().await.unwrap();
    ingest.watch_another().unwrap();
    let newer = ingest.produce().unwrap();
    let ended = older.end(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let owner = ingest.owner().unwrap();
    for name in [&owner, ingest.topic(), "topics.trades"] {
        assert!(ended.error.contains(name), "{name:?} is not in: {}", ended.error);
    }
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(newer).unwrap();
    ingest.compare(through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_asleep_while_another_took_over_writes_nothing_when_it_wakes() {
    let mut ingest = Ingest::open("asleep", "", &[]).await.unwrap();
    let older = ingest.produce().unwrap();
    ingest.until_ready().await.unwrap();
    // In the middle of a transaction, as likely as not; and with more in its sockets and queues.
    sleep(Duration::from_secs(2)).await;
    older.signal(Signal::SIGSTOP).unwrap();
    ingest.watch_another().unwrap();
    let newer = ingest.produce().unwrap();
    ingest.until_whole().await.unwrap();
    older.signal(Signal::SIGCONT).unwrap();
    assert_eq!(older.end(PATIENCE).unwrap().status.code(), Some(1));
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(newer).unwrap();
    ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_starts_days_ago_is_filled_instrument_by_instrument_and_then_by_time() {
    let settings = [("MARKET__RATE", "0.2"), ("MARKET__INSTRUMENTS", "40")];
    let mut ingest = Ingest::open("deep", "", &settings).await.unwrap();
    ingest.start_before(Duration::from_secs(3 * 86_400));
    ingest.set("DERIBIT__CALLS_PER_SECOND", "1000");
    // Stopped in the middle, it goes on where it was.
    let producer = ingest.produce().unwrap();
    ingest.until_at_least("trades_published_total", 1.0).await.unwrap();
    Ingest::stop(producer).unwrap();
    let producer = ingest.produce().unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_one_may_be_lost_at_any_time() {
    let plan = r#"
        fault = [
            { kind = "cut", one_in = 100 },
            { kind = "drop", one_in = 50 },
        ]
    "#;
    let mut ingest = Ingest::open("pair", plan, &[]).await.unwrap();
    ingest.set("DERIBIT__CONNECTIONS", "2");
    let producer = ingest.produce().unwrap();
    ingest.until_done(&BTreeMap::from([(Kind::Cut, 3), (Kind::Drop, 5)])).await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
}

/// What the stream brings while history is read does not fit: it goes live only once it has come near enough. A minute of history is 60 pages;
/// 20 of them can be asked for at once and 5 more each second, whatever the machine: meanwhile twice as much comes as there is room for.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_brings_more_than_there_is_room_for_is_caught_up_with() {
    let settings = [("MARKET__RATE", "1000"), ("MARKET__INSTRUMENTS", "300")];
    let mut ingest = Ingest::open("fast", "", &settings).await.unwrap();
    ingest.start_before(Duration::from_secs(60));
    ingest.set("DERIBIT__CALLS_PER_SECOND", "5");
    ingest.set("SEQUENCE__HELD_MAX", "4000");
    let producer = ingest.produce().unwrap();
    ingest.until_at_least("trades_dropped_total", 1_000.0).await.unwrap();
    ingest.until_ready().await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_every_trade_comes_by_itself_and_the_login_is_renewed_by_its_token() {
    let mut ingest = Ingest::open("raw", "", &[("AUTH__EXPIRES_IN", "10s")]).await.unwrap();
    let secret = std::env::temp_dir().join(format!("{}.secret", ingest.topic()));
    std::fs::write(&secret, "simulated").unwrap();
    ingest.set("DERIBIT__CLIENT_ID", "simulated");
    ingest.set("DERIBIT__CLIENT_SECRET_FILE", secret.to_str().unwrap());
    let kinds = ["future", "option", "spot", "future_combo", "option_combo"];
    ingest.set("DERIBIT__CHANNELS", kinds.map(|kind| format!("trades.{kind}.any.raw")).join(","));
    let producer = ingest.produce().unwrap();
    ingest.until_ready().await.unwrap();
    let until = Instant::now() + PATIENCE;
    while ingest.logins().unwrap().1 < 2 {
        assert!(Instant::now() < until, "{:?}", ingest.logins());
        sleep(Duration::from_millis(100)).await;
    }
    let through = ingest.until_whole().await.unwrap();
    assert_eq!(producer.metrics().await.count(RECONNECTS), 0, "connections were lost");
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
    assert_eq!(ingest.logins().unwrap().0, 1, "by key");
    std::fs::remove_file(secret).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_the_topic_keeps_no_producer_from_starting_and_costs_no_trade() {
    let mut ingest = Ingest::open("foreign", "", &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.until_whole().await.unwrap();
    // So that what it has written lies in the tail too, behind its last snapshots.
    producer.signal(Signal::SIGKILL).unwrap();
    drop(producer);
    // Text; a schema that the registry does not know; a trade that breaks off.
    let unknown_schema = [&[0][..], &u32::MAX.to_be_bytes(), b"whatever"].concat();
    let written = ingest.write_foreign(&[b"{}", &unknown_schema, &[0, 0, 0, 0, 1]]).unwrap();
    let producer = ingest.produce().unwrap();
    let through = ingest.until_whole().await.unwrap();
    let passed_over = ingest.gauge("foreign_records_total").await.unwrap();
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
    assert!(passed_over >= written as f64, "{passed_over} of {written}");
}

/// It may be one of its own that Kafka has left open, so it ends what it can end; nothing of that is ever read.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_open_transaction_keeps_a_producer_from_starting_until_it_ends_and_costs_no_trade() {
    let ingest = Ingest::open("open", "", &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    let mut stranger = ingest.stranger().unwrap();
    let open = stranger.begin().unwrap();
    let record = BaseRecord::to(ingest.topic()).partition(0).key(&b"stranger"[..]).payload(&b"{}"[..]);
    open.send(record.timestamp(1)).unwrap();
    // Arrived, and not committed.
    let until = Instant::now() + PATIENCE;
    while open.in_flight() > 0 {
        assert!(Instant::now() < until);
        open.poll();
    }
    let producer = ingest.produce().unwrap();
    let age = format!("raw_producer{OPEN_TRANSACTION_AGE}");
    while producer.metrics().await.get(&age).unwrap_or(0.0) < 15.0 {
        assert!(Instant::now() < until, "it does not notice the open transaction");
        sleep(Duration::from_millis(200)).await;
    }
    open.abort().unwrap();
    ingest.until_ready().await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
}
