//! Whatever breaks between the exchange and Kafka, Kafka included, the topic has every trade once and in order.
//!
//! `make test` runs it briefly, `make chaos-ingest FOR=10m` for that long.

use std::time::{Duration, Instant};

use common::kafka::client::{self, Role};
use e2e::chaos::{requested_duration, seeded_rng};
use e2e::ingest::IngestFixture;
use e2e::{ServerFault, Signal};
use raw_producer::{BATCH_MAX, FRAME_QUEUE_BYTES, PUBLISH_QUEUE_CAPACITY};
use tokio::time::sleep;

/// All kinds of faults at once, for as long as the test lasts.
const TOGETHER: &str = r#"
fault = [
    { kind = "drop", one_in = 60 },
    { kind = "thin", one_in = 60 },
    { kind = "duplicate", one_in = 60 },
    { kind = "reorder", one_in = 60 },
    { kind = "garbage", one_in = 60 },
    { kind = "oversize", every_trades = 4000 },
    { kind = "stall", one_in = 100, lasts = "1s" },
    { kind = "half-open", every_trades = 6000 },
    { kind = "cut", every_trades = 1500 },
    { kind = "rate-limit", one_in = 50 },
    { kind = "truncate", one_in = 10 },
    { kind = "lag", one_in = 10, lasts = "2s" },
    { kind = "refuse", one_in = 4 },
    { kind = "maintenance", at = "10s", every = "30s", lasts = "3s" },
    { kind = "hole", one_in = 2000 },
]
"#;

/// The memory that the producer may take beyond its usual one while Kafka is unavailable: all its queues, full.
fn queues() -> u64 {
    /// A buffered trade with everything that belongs to it; its record's value is some 200 bytes of that.
    const TRADE: usize = 512;
    let config: raw_producer::Config = common::config::load_from(None, Vec::new()).unwrap();
    let role = Role::TransactionalProducer { transactional_id: String::new() };
    let librdkafka = client::config(&config.common.kafka, "", &role);
    let librdkafka: usize = librdkafka.get("queue.buffering.max.kbytes").unwrap().parse().unwrap();
    // In an open transaction, and in the batch that is to follow in it.
    let written = 2 * BATCH_MAX;
    let trades = config.sequence.max_buffered_trades + PUBLISH_QUEUE_CAPACITY + written;
    (FRAME_QUEUE_BYTES + librdkafka * 1024 + trades * TRADE) as u64
}

async fn kafka(ingest: &IngestFixture, fault: ServerFault) {
    ingest.harness.servers.inject(fault, "kafka").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_the_producer_takes_bounded_memory_and_loses_nothing() {
    // In the ten seconds after which a transaction is aborted, more than a transaction and the queue before it take.
    let settings = [("MARKET__RATE", "3000"), ("MARKET__INSTRUMENTS", "300")];
    let ingest = IngestFixture::open("kafka-away", "", &settings).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&producer).await.unwrap();
    let before = producer.usage().unwrap().resident;
    kafka(&ingest, ServerFault::Stop).await;
    let (mut most, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(20) {
        most = most.max(producer.usage().unwrap().resident);
        sleep(Duration::from_millis(100)).await;
    }
    kafka(&ingest, ServerFault::Start).await;
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    let after = producer.usage().unwrap().resident;
    producer.stop().await.unwrap();
    let compared = ingest.compare(through).await.unwrap();
    let allowed = before + queues();
    let [before_mb, most_mb, allowed_mb, after_mb] =
        [before, most, allowed, after].map(|bytes| bytes / 1_000_000);
    println!(
        "kafka away for 20 s: resident {before_mb} MB before, at most {most_mb} MB, allowed {allowed_mb} MB, {after_mb} MB after; {compared:?}"
    );
    assert!(most <= allowed, "{most} of {allowed}");
}

/// The faults that the test itself injects, besides the exchange's plan.
#[derive(Debug, Default)]
struct Injected {
    kills: u64,
    kafka_stopped: u64,
    kafka_killed: u64,
    exchange_closed: u64,
}

/// Injects the next of the faults that are worse than a killed producer.
async fn inject_next(ingest: &mut IngestFixture, injected: &mut Injected, away: Duration) {
    match injected.kills / 10 % 3 {
        0 => {
            injected.kafka_stopped += 1;
            kafka(ingest, ServerFault::Stop).await;
            sleep(away).await;
            kafka(ingest, ServerFault::Start).await;
        }
        1 => {
            injected.kafka_killed += 1;
            kafka(ingest, ServerFault::Kill).await;
            kafka(ingest, ServerFault::Start).await;
        }
        _ => {
            injected.exchange_closed += 1;
            ingest.close_exchange().await;
            sleep(Duration::from_secs(5)).await;
            ingest.open_exchange().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_at_once_and_however_often_the_producer_is_killed_every_trade_is_there_once() {
    const KILLS: u64 = 30;
    let (requested, mut rng) = (requested_duration().unwrap(), seeded_rng().unwrap());
    let away = Duration::from_secs(if requested.is_some() { 60 } else { 5 });
    let plan = format!("seed = {}\n{TOGETHER}", rng.u32(0..1_000_000));
    let mut ingest = IngestFixture::open("together", &plan, &[]).await.unwrap();
    let (mut injected, begun) = (Injected::default(), Instant::now());
    while injected.kills < KILLS || requested.is_some_and(|time| begun.elapsed() < time) {
        let producer = ingest.produce().unwrap();
        // Sometimes while it fences and reads, mostly while it writes.
        sleep(Duration::from_millis(rng.u64(200..3_700))).await;
        if injected.kills % 10 == 5 {
            inject_next(&mut ingest, &mut injected, away).await;
        }
        producer.signal(Signal::SIGKILL).unwrap();
        drop(producer);
        injected.kills += 1;
    }
    let producer = ingest.produce().unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    println!("{injected:?}, {:?}", ingest.faults());
    let compared = ingest.compare(through).await.unwrap();
    println!("{} trades compared, {} lost, {} doubled", compared.trades, compared.lost, compared.doubled);
}
