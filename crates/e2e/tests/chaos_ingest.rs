//! Whatever breaks between the exchange and Kafka, the topic has every trade once and in order.
//!
//! Needs the servers, and stops Kafka. `make test` runs it shortly, `make chaos-ingest FOR=10m` as long as asked.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::avro::schema::{CANDLE, TRADE};
use common::kafka::client::{self, Role};
use common::model::{Candle, Trade};
use deribit_sim::faults::FaultKind;
use e2e::faults::{Action, chance, time_asked};
use e2e::group::has_read;
use e2e::ingest::{Ingest, PATIENCE};
use e2e::topic::Topic;
use raw_producer::{BATCH_MAX, FRAME_QUEUE_BYTES, PUBLISH_QUEUE_CAPACITY};
use tokio::sync::RwLock;
use tokio::time::sleep;

/// Held by those who want Kafka as it is, or to stop it.
static KAFKA: RwLock<()> = RwLock::const_new(());

/// Each kind by itself: when it strikes, how often at most.
const ALONE: [(FaultKind, &str, u64); 14] = [
    (FaultKind::Drop, "one_in = 5", 20),
    (FaultKind::Thin, "one_in = 5", 20),
    (FaultKind::Duplicate, "one_in = 5", 20),
    (FaultKind::Reorder, "one_in = 5", 20),
    (FaultKind::Garbage, "one_in = 5", 20),
    (FaultKind::Oversize, "every_trades = 300", 2),
    (FaultKind::Stall, "one_in = 10\nlasts = \"1s\"", 3),
    (FaultKind::HalfOpen, "every_trades = 300", 1),
    (FaultKind::Cut, "every_trades = 300", 3),
    (FaultKind::RateLimit, "one_in = 5", 3),
    (FaultKind::Truncate, "one_in = 2", 10),
    (FaultKind::Lag, "one_in = 2\nlasts = \"2s\"", 10),
    (FaultKind::Refuse, "one_in = 1", 2),
    (FaultKind::Maintenance, "every_trades = 500\nlasts = \"3s\"", 2),
];

/// Those by which a trade disappears from a connection that lives, or is overtaken: should it be an instrument's last, only the next comparison with
/// history shows it, and watermarks do not wait for that.
const IN_SILENCE: [FaultKind; 4] = [FaultKind::Drop, FaultKind::Thin, FaultKind::Garbage, FaultKind::Reorder];

/// All of them at once, for as long as it lasts.
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

async fn alone(kind: FaultKind, when: &str, times: u64) {
    let plan = format!("[[fault]]\nkind = \"{kind}\"\n{when}\ntimes = {times}");
    let ingest = Ingest::open(&format!("alone-{kind}"), &plan, &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.until_done(&BTreeMap::from([(kind, times)])).await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    if !IN_SILENCE.contains(&kind) {
        ingest.check_watermarks().await.unwrap();
    }
    println!("{kind} {times} times: {} trades compared, 0 lost, 0 doubled", compared.trades);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_fault_alone_costs_no_trade_and_doubles_none() {
    let _kafka = KAFKA.read().await;
    // Some at a time: most of it is waiting.
    for some in ALONE.chunks(5) {
        let tasks: Vec<_> =
            some.iter().map(|(kind, when, times)| tokio::spawn(alone(*kind, when, *times))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_without_a_trade_are_passed_over_and_nothing_else_is() {
    let _kafka = KAFKA.read().await;
    let plan = "[[fault]]\nkind = \"hole\"\none_in = 100";
    let ingest = Ingest::open("holes", plan, &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.until_at_least("confirmed_holes_total", 10.0).await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    println!("10 holes and more: {} trades compared, 0 lost, 0 doubled", compared.trades);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_may_be_away_for_ten_minutes_of_its_own_time() {
    let _kafka = KAFKA.read().await;
    // Half a minute of ours; the producer's idea of the exchange's time lags at that speed.
    let origin = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let settings = [("MARKET__SPEED", "20"), ("MARKET__ORIGIN", &origin), ("MARKET__RATE", "20")];
    let mut ingest = Ingest::open("away", "", &settings).await.unwrap();
    ingest.set("SEQUENCE__MAX_AHEAD", "30m");
    let producer = ingest.produce().unwrap();
    let left = ingest.until_whole().await.unwrap();
    ingest.close_exchange().await;
    sleep(Duration::from_secs(30)).await;
    ingest.open_exchange().await.unwrap();
    let back = ingest.now().unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    let away = (back.0 - left.0) / 1000;
    println!(
        "exchange away for {away} s of its time: {} trades compared, 0 lost, 0 doubled",
        compared.trades
    );
    assert!(away >= 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_is_filled_while_it_holds_its_partition_makes_no_trade_late() {
    let _kafka = KAFKA.read().await;
    // Two instruments so busy that none is silent for a second: each gap shows by the next number, before the window's grace is over.
    let settings = [("MARKET__INSTRUMENTS", "2"), ("MARKET__RATE", "500")];
    let plan = r#"
        fault = [
            { kind = "drop", one_in = 20, times = 30 },
            { kind = "thin", one_in = 20, times = 30 },
            { kind = "reorder", one_in = 20, times = 30 },
        ]
    "#;
    let mut ingest = Ingest::open("in-time", plan, &settings).await.unwrap();
    // However slow the machine is, a gap is filled before that.
    ingest.set("SEQUENCE__HOLD_MAX", "5m");
    // So that a gap of one holds back the other.
    ingest.set("TOPICS__PARTITIONS", "1");
    let producer = ingest.produce().unwrap();
    let done = BTreeMap::from([(FaultKind::Drop, 30), (FaultKind::Thin, 30), (FaultKind::Reorder, 30)]);
    ingest.until_at_least("trades_published_total", 1.0).await.unwrap();
    let aggregator = ingest.aggregate().unwrap();
    ingest.until_done(&done).await.unwrap();
    let through = ingest.until_whole().await.unwrap();
    let gaps = ingest.gauge("gap_requests_total").await.unwrap();
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    let (stack, topic) = (ingest.stack(), ingest.topic());
    let records = Topic::<Trade<'static>>::new(stack, topic, &TRADE).read().await.unwrap();
    let end = Instant::now() + PATIENCE;
    while !has_read(stack, topic, (topic, &records)).unwrap_or(false) {
        assert!(Instant::now() < end, "the aggregator does not read everything");
        sleep(Duration::from_millis(200)).await;
    }
    Ingest::stop(aggregator).unwrap();
    let candles =
        Topic::<Candle<'static>>::new(stack, format!("{topic}.candles"), &CANDLE).read().await.unwrap();
    let late = Topic::<Trade<'static>>::new(stack, format!("{topic}.late"), &TRADE).read().await.unwrap();
    println!(
        "{gaps} gaps asked about: {} trades, {} candles, {} late",
        compared.trades,
        candles.len(),
        late.len()
    );
    assert!(gaps > 0.0 && !candles.is_empty());
    assert!(late.is_empty(), "{late:?}");
}

/// What the producer may hold beyond what it always does, while Kafka takes nothing: each of its queues, full.
fn queues() -> u64 {
    /// A trade that waits, with everything that belongs to it; its record's value is some 200 bytes of that.
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

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_the_producer_holds_what_its_queues_may_and_loses_nothing() {
    let _kafka = KAFKA.write().await;
    // In the ten seconds after which a transaction is given up, more than a transaction and the queue before it take.
    let settings = [("MARKET__RATE", "3000"), ("MARKET__INSTRUMENTS", "300")];
    let ingest = Ingest::open("kafka-away", "", &settings).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.until_whole().await.unwrap();
    let before = producer.usage().unwrap().resident;
    kafka(&ingest, Action::Stop).await;
    let (mut most, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(20) {
        most = most.max(producer.usage().unwrap().resident);
        sleep(Duration::from_millis(100)).await;
    }
    kafka(&ingest, Action::Start).await;
    let through = ingest.until_whole().await.unwrap();
    let after = producer.usage().unwrap().resident;
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    let (megabyte, allowed) = (1_000_000, before + queues());
    println!(
        "kafka away for 20 s: resident before {} MB, at most {} MB, allowed {} MB, afterwards {} MB; {} trades compared, 0 lost, 0 doubled",
        before / megabyte,
        most / megabyte,
        allowed / megabyte,
        after / megabyte,
        compared.trades
    );
    assert!(most <= allowed, "{most} of {allowed}");
}

/// What the test itself does, besides the exchange's plan.
#[derive(Debug, Default)]
struct Done {
    kills: u64,
    kafka_stopped: u64,
    kafka_killed: u64,
    exchange_away: u64,
}

async fn kafka(ingest: &Ingest, action: Action) {
    let stack = ingest.stack().clone();
    tokio::task::spawn_blocking(move || stack.fault(action, "kafka").unwrap()).await.unwrap();
}

/// One of the things that are worse than a killed producer.
async fn strike(ingest: &mut Ingest, done: &mut Done, (which, away): (u64, Duration)) {
    match which {
        0 => {
            done.kafka_stopped += 1;
            kafka(ingest, Action::Stop).await;
            sleep(away).await;
            kafka(ingest, Action::Start).await;
        }
        1 => {
            done.kafka_killed += 1;
            kafka(ingest, Action::Kill).await;
            kafka(ingest, Action::Start).await;
        }
        _ => {
            done.exchange_away += 1;
            ingest.close_exchange().await;
            sleep(Duration::from_secs(5)).await;
            ingest.open_exchange().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_at_once_and_however_often_the_producer_is_killed_every_trade_is_there_once() {
    const KILLS: u64 = 30;
    let _kafka = KAFKA.write().await;
    let (asked, mut rng) = (time_asked().unwrap(), chance().unwrap());
    let away = Duration::from_secs(if asked.is_some() { 60 } else { 5 });
    let plan = format!("seed = {}\n{TOGETHER}", rng.u32(0..1_000_000));
    let mut ingest = Ingest::open("together", &plan, &[]).await.unwrap();
    let (mut done, begun) = (Done::default(), Instant::now());
    while done.kills < KILLS || asked.is_some_and(|time| begun.elapsed() < time) {
        let producer = ingest.produce().unwrap();
        // Sometimes while it fences and reads, mostly while it writes.
        sleep(Duration::from_millis(rng.u64(200..3_700))).await;
        if done.kills % 10 == 5 {
            let which = done.kills / 10 % 3;
            strike(&mut ingest, &mut done, (which, away)).await;
        }
        producer.signal("KILL").unwrap();
        drop(producer);
        done.kills += 1;
    }
    let producer = ingest.produce().unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    println!("{done:?}, {:?}", ingest.faults());
    let compared = ingest.compare(through).await.unwrap();
    println!("{} trades compared, {} lost, {} doubled", compared.trades, compared.lost, compared.doubled);
}
