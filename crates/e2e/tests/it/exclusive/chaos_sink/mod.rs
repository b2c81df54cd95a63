//! The tables have what the topics have, whatever happens to Postgres, Connect, the registry and Kafka under load.
//!
//! The load is the pipeline's own: a simulated exchange, the raw producer and the aggregator. Records that an exchange would not send are
//! written beside it. After each fault, every record that decodes has its row, bit for bit, every other one is in the dead-letter topic, and the
//! rows are the exchange's trades. `make chaos-sink FOR=10m` injects faults for that long, with outages as long as in the field.

mod exchange_rows;
mod faults;
mod numbers;
mod under_load;

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::chaos::{requested_duration, seeded_rng};
use e2e::fixtures::{FixtureWriter, INSTRUMENTS, average, now_millis};
use e2e::query_plans::{QUERIES, fill};
use e2e::sink::SinkFixture;
use e2e::{PATIENCE, eventually};
use faults::SinkFault;
use under_load::{SinkUnderLoad, check_verified};

/// A test for each kind of fault.
macro_rules! fault {
    ($($name:ident: $fault:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let mut sink = SinkUnderLoad::start(stringify!($name), false).await.unwrap();
            sink.inject(SinkFault::$fault).await.unwrap();
            sink.finish().await.unwrap();
        }
    )*};
}

fault! {
    postgres_is_killed_and_stays_away: PostgresKilledAndAway;
    connect_is_killed: ConnectKilled;
    the_registry_is_away_and_caches_are_cold: RegistryAwayAndCachesCold;
    the_broker_is_killed: BrokerKilled;
    the_table_is_locked: TableLocked;
    the_disk_is_full: DiskFull;
    a_connector_is_deleted: ConnectorDeleted;
    a_connector_is_changed: ConnectorChanged;
    a_connector_is_paused: ConnectorPaused;
    connects_config_topic_is_lost: ConfigTopicLost;
    postgres_rejects_records_until_a_constraint_goes: RecordRejected;
    a_record_that_postgres_cannot_store_is_skipped: RecordUnstorable;
    a_schema_is_registered_after_its_record: SchemaRegisteredLater;
}

/// Without `FOR` it injects a few, one after another, into the same pipeline.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_in_any_order_rows_are_there_once_and_right() {
    const BRIEF: usize = 3;
    let (began, requested, mut rng) = (Instant::now(), requested_duration().unwrap(), seeded_rng().unwrap());
    let mut sink = SinkUnderLoad::start("chaos_sink", requested.is_some()).await.unwrap();
    sink.poison().await.unwrap();
    let mut next: Vec<SinkFault> = SinkFault::ALL.to_vec();
    rng.shuffle(&mut next);
    next.truncate(if requested.is_some() { next.len() } else { BRIEF });
    loop {
        let fault = match next.pop() {
            Some(fault) => fault,
            None if requested.is_none_or(|time| began.elapsed() > time) => break,
            None => *rng.choice(&SinkFault::ALL).unwrap(),
        };
        sink.inject(fault).await.unwrap();
        tokio::time::sleep(Duration::from_millis(rng.u64(0..4_000))).await;
    }
    sink.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_row_become_dead_letters() {
    let mut sink = SinkUnderLoad::start("poison", false).await.unwrap();
    sink.poison().await.unwrap();
    sink.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn doubles_and_long_numbers_arrive_bit_for_bit() {
    let sink = SinkFixture::create("numbers").await.unwrap();
    let service = sink.start().await.unwrap();
    let mut writer = FixtureWriter::new(&sink.harness.servers, &sink.trades, &sink.averages).await.unwrap();
    numbers::publish(&mut writer).unwrap();
    writer.flush().unwrap();
    let arrived = async || numbers::read_back(&sink).await.map(|()| true);
    eventually(PATIENCE, "numbers are in the table", arrived).await.unwrap();
    check_verified(&sink.report(&["verify", "--json", "--wait", "90s"]).await.unwrap()).unwrap();
    drop(service);
    sink.cleanup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_past_their_retention_are_deleted_and_not_missed() {
    const OLD: u64 = 100;
    /// One of each instrument.
    const NEW: u64 = INSTRUMENTS;
    let sink = SinkFixture::create("retention").await.unwrap();
    let service = sink.start().await.unwrap();
    let mut writer = FixtureWriter::new(&sink.harness.servers, &sink.trades, &sink.averages).await.unwrap();
    for number in 0..OLD + NEW {
        let mut average = average(number);
        if number >= OLD {
            average.window_end = now_millis() / 1_000 * 1_000;
            average.window_start = average.window_end - 300_000;
        }
        writer.average(&average).unwrap();
    }
    writer.flush().unwrap();
    let client = sink.database().await.unwrap();
    let has_rows = async |expected: u64| {
        let rows: i64 = client.query_one("SELECT count(*) FROM moving_averages", &[]).await?.try_get(0)?;
        ensure!(rows == i64::try_from(expected)?, "{rows} rows");
        Ok(true)
    };
    eventually(PATIENCE, "all averages have rows", async || has_rows(OLD + NEW).await).await.unwrap();
    drop(service);
    let launch = sink.launch().unwrap().set("RETENTION__MOVING_AVERAGES", "1d");
    let service = sink.start_with(&launch).await.unwrap();
    eventually(PATIENCE, "old averages are deleted", async || has_rows(NEW).await).await.unwrap();
    let report = sink.report(&["verify", "--json", "--wait", "30s"]).await.unwrap();
    let report = check_verified(&report).unwrap();
    let averages = &report["sinks"][1];
    assert_eq!(
        (&averages["records"], &averages["skipped"]["deleted"]),
        (&NEW.into(), &OLD.into()),
        "{averages:#}"
    );
    drop(service);
    sink.cleanup().await.unwrap();
}

/// The service ends with 78, and its error names the change.
#[tokio::test(flavor = "multi_thread")]
async fn tables_and_migrations_that_were_changed_by_hand_keep_the_service_from_starting() {
    let sink = SinkFixture::create("by-hand").await.unwrap();
    drop(sink.start().await.unwrap());
    let client = sink.database().await.unwrap();
    for (change, back, names) in [
        (
            "ALTER TABLE trades DROP CONSTRAINT trades_pkey",
            "ALTER TABLE trades ADD PRIMARY KEY (instrument_name, trade_seq)",
            &["trades", "()"][..],
        ),
        (
            "INSERT INTO refinery_schema_history SELECT 9999, 'later', applied_on, checksum \
             FROM refinery_schema_history WHERE version = 1",
            "DELETE FROM refinery_schema_history WHERE version = 9999",
            &["V9999__later"],
        ),
        ("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1", "SELECT 1", &["V1__"]),
    ] {
        client.batch_execute(change).await.unwrap();
        let exit = sink.run(&[]).await.unwrap();
        assert_eq!(exit.code(), Some(78), "{exit:?}");
        assert!(names.iter().all(|name| exit.error.contains(name)), "{names:?} are not in: {}", exit.error);
        client.batch_execute(back).await.unwrap();
    }
    sink.cleanup().await.unwrap();
}

/// So many rows that reading all of them is expensive; `make bench` asks the same of ten million.
#[tokio::test(flavor = "multi_thread")]
async fn the_three_queries_are_answered_by_index_alone() {
    let sink = SinkFixture::create("plans").await.unwrap();
    drop(sink.start().await.unwrap());
    let client = sink.database().await.unwrap();
    fill(&client, 500_000).await.unwrap();
    for query in QUERIES {
        query.check_plan(&client).await.unwrap();
    }
    drop(client);
    sink.cleanup().await.unwrap();
}
