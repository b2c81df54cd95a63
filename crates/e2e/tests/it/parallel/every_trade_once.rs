//! The raw producer between a simulated exchange and a real Kafka, where nothing breaks but what the test itself does: starts and stops,
//! a second producer, records of others. Faults and crashes have tests of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use deribit_sim::faults::FaultKind;
use e2e::ingest::IngestFixture;
use e2e::metric_names::{
    DISCONNECTS, PRODUCER_OPEN_TRANSACTION_AGE, TRADES_DROPPED, TRADES_PUBLISHED, UNRECOGNIZED_RECORDS,
};
use e2e::{PATIENCE, Service, Signal, eventually};
use rdkafka::producer::BaseRecord;
use tokio::time::sleep;

/// Waits until everything up to now is published, stops the producer and compares.
async fn stop_and_compare(ingest: &IngestFixture, producer: Service) {
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    ingest.compare(through).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_between_two_runs_are_fetched_and_everything_is_there_once() {
    let ingest = IngestFixture::open("resume", "", &[]).await.unwrap();
    let mut through = ingest.now().unwrap();
    for pause in [3, 0, 1] {
        let producer = ingest.produce().unwrap();
        producer.wait_until_ready().await.unwrap();
        // Live for a while.
        sleep(Duration::from_secs(2)).await;
        through = ingest.wait_until_reconciled(&producer).await.unwrap();
        producer.stop().await.unwrap();
        sleep(Duration::from_secs(pause)).await;
    }
    ingest.compare(through).await.unwrap();
    assert!(ingest.check_watermarks().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_producers_of_one_topic_the_older_ends_and_names_its_successor() {
    let ingest = IngestFixture::open("two", "", &[]).await.unwrap();
    let older = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&older).await.unwrap();
    let newer = ingest.produce().unwrap();
    let exit = older.exit(PATIENCE).await.unwrap();
    exit.check(1, &[&ingest.owner().unwrap(), ingest.topic(), "topics.trades"]).unwrap();
    stop_and_compare(&ingest, newer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_frozen_while_another_took_over_writes_nothing_when_it_wakes() {
    let ingest = IngestFixture::open("asleep", "", &[]).await.unwrap();
    let older = ingest.produce().unwrap();
    older.wait_until_ready().await.unwrap();
    // Probably in the middle of a transaction, and with more in its sockets and queues.
    sleep(Duration::from_secs(2)).await;
    older.signal(Signal::SIGSTOP).unwrap();
    let newer = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&newer).await.unwrap();
    older.signal(Signal::SIGCONT).unwrap();
    assert_eq!(older.exit(PATIENCE).await.unwrap().code(), Some(1));
    stop_and_compare(&ingest, newer).await;
    ingest.check_watermarks().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_starts_days_ago_is_filled_instrument_by_instrument_and_then_by_time() {
    let settings = [("MARKET__RATE", "0.2"), ("MARKET__INSTRUMENTS", "40")];
    let mut ingest = IngestFixture::open("deep", "", &settings).await.unwrap();
    ingest.start_before(Duration::from_secs(3 * 86_400));
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", "1000");
    // Stopped in the middle, it goes on where it was.
    let producer = ingest.produce().unwrap();
    producer.wait_until_metric(TRADES_PUBLISHED, 1.0).await.unwrap();
    producer.stop().await.unwrap();
    stop_and_compare(&ingest, ingest.produce().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_one_may_be_lost_at_any_time() {
    let plan = r#"
        fault = [
            { kind = "cut", one_in = 100 },
            { kind = "drop", one_in = 50 },
        ]
    "#;
    let mut ingest = IngestFixture::open("pair", plan, &[]).await.unwrap();
    ingest.set("DERIBIT__CONNECTIONS", "2");
    let producer = ingest.produce().unwrap();
    ingest.wait_until_injected(&BTreeMap::from([(FaultKind::Cut, 3), (FaultKind::Drop, 5)])).await.unwrap();
    stop_and_compare(&ingest, producer).await;
}

/// The stream brings more than there is room for while history is read: the producer goes live only once it is near enough. A minute of
/// history is 60 pages. It may request 20 of them at once and 5 more each second, on any machine: meanwhile twice as much arrives as fits.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_brings_more_than_there_is_room_for_is_caught_up_with() {
    let settings = [("MARKET__RATE", "1000"), ("MARKET__INSTRUMENTS", "300")];
    let mut ingest = IngestFixture::open("fast", "", &settings).await.unwrap();
    ingest.start_before(Duration::from_secs(60));
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", "5");
    ingest.set("SEQUENCE__MAX_BUFFERED_TRADES", "4000");
    let producer = ingest.produce().unwrap();
    producer.wait_until_metric(TRADES_DROPPED, 1_000.0).await.unwrap();
    producer.wait_until_ready().await.unwrap();
    stop_and_compare(&ingest, producer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_every_trade_comes_by_itself_and_the_login_is_renewed_by_its_token() {
    let mut ingest = IngestFixture::open("raw", "", &[("AUTH__EXPIRES_IN", "10s")]).await.unwrap();
    let secret = ingest.harness.file("secret");
    std::fs::write(&secret, "simulated").unwrap();
    ingest.set("DERIBIT__CLIENT_ID", "simulated");
    ingest.set("DERIBIT__CLIENT_SECRET_FILE", secret.to_str().unwrap());
    let kinds = ["future", "option", "spot", "future_combo", "option_combo"];
    ingest.set("DERIBIT__CHANNELS", kinds.map(|kind| format!("trades.{kind}.any.raw")).join(","));
    let producer = ingest.produce().unwrap();
    producer.wait_until_ready().await.unwrap();
    eventually(PATIENCE, "two token refreshes", async || Ok(ingest.logins()?.1 >= 2)).await.unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    assert_eq!(producer.metrics().await.unwrap().count(DISCONNECTS), 0, "connections were lost");
    producer.stop().await.unwrap();
    ingest.compare(through).await.unwrap();
    assert_eq!(ingest.logins().unwrap().0, 1, "logins by key");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_in_the_topic_keep_no_producer_from_starting_and_cost_no_trade() {
    let mut ingest = IngestFixture::open("foreign", "", &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&producer).await.unwrap();
    // Killed, so that its last trades are in no snapshot and have to be read back.
    drop(producer);
    // Text; a schema that the registry does not know; a trade that breaks off.
    let unknown_schema = [&[0][..], &u32::MAX.to_be_bytes(), b"whatever"].concat();
    let written = ingest.write_foreign_records(&[b"{}", &unknown_schema, &[0, 0, 0, 0, 1]]).unwrap();
    let producer = ingest.produce().unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    let skipped = producer.metrics().await.unwrap().count(UNRECOGNIZED_RECORDS);
    producer.stop().await.unwrap();
    ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
    assert!(skipped >= written as u64, "{skipped} of {written}");
}

/// The transaction is alive: its owner, not the producer, ends it.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_open_transaction_keeps_a_producer_from_starting_until_it_ends_and_costs_no_trade() {
    let ingest = IngestFixture::open("open", "", &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    let mut other = ingest.foreign_producer().unwrap();
    let open = other.begin().unwrap();
    let record = BaseRecord::to(ingest.topic()).partition(0).key(&b"other"[..]).payload(&b"{}"[..]);
    open.send(record.timestamp(1)).unwrap();
    let arrived = async || {
        open.poll();
        Ok(open.in_flight() == 0)
    };
    eventually(PATIENCE, "the record has arrived, and is not committed", arrived).await.unwrap();
    let producer = ingest.produce().unwrap();
    // For so long that a hanging one would have been ended.
    producer.wait_until_metric(PRODUCER_OPEN_TRANSACTION_AGE, 20.0).await.unwrap();
    assert!(producer.not_ready().await.unwrap().is_some(), "it does not wait");
    open.abort().unwrap();
    producer.wait_until_ready().await.unwrap();
    stop_and_compare(&ingest, producer).await;
    ingest.check_watermarks().await.unwrap();
}
