//! Rows a second into `trades` by the real connector's one task, against COPY and an upsert of the same rows; the three usual queries of
//! ten million rows.
//!
//! `ROWS` and `TABLE_ROWS` set smaller numbers.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::eventually;
use e2e::fixtures::{FixtureWriter, INSTRUMENTS, trade};
use e2e::query_plans::{QUERIES, fill};
use e2e::sink::SinkFixture;
use tokio_postgres::Client;

/// Only a bench that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let (rows, table_rows) = (count("ROWS", 1_500_000)?, count("TABLE_ROWS", 10_000_000)?);
    // Then all instruments end at the same sequence number.
    let rows = rows.next_multiple_of(INSTRUMENTS);
    let sink = SinkFixture::create("bench").await?;
    publish(&sink, rows).await?;
    let by_connector = by_connector(&sink, rows).await?;
    let client = sink.database().await?;
    let by_copy = by_copy(&client).await?;
    let rate = |time: Duration| as_double(rows) / time.as_secs_f64();
    println!(
        "sink: rows into trades, one task: {:.0} rows/s; COPY and upsert: {:.0} rows/s; time {:.2} x, goal 1.20 x",
        rate(by_connector),
        rate(by_copy),
        by_connector.as_secs_f64() / by_copy.as_secs_f64()
    );
    queries(&client, i64::try_from(table_rows)?).await?;
    drop(client);
    sink.cleanup().await
}

fn count(name: &str, default: u64) -> anyhow::Result<u64> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    text.parse().with_context(|| format!("{name} is '{text}', not a number"))
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn as_double(number: u64) -> f64 {
    number as f64
}

async fn publish(sink: &SinkFixture, rows: u64) -> anyhow::Result<()> {
    const BEGIN: i64 = 1_735_689_600_000;
    let mut writer = FixtureWriter::new(&sink.harness.servers, &sink.trades, &sink.averages).await?;
    for number in 0..rows {
        writer.trade(&trade(number, BEGIN + i64::try_from(number)? * 10))?;
    }
    writer.flush()
}

/// From the first row that is there to the last.
async fn by_connector(sink: &SinkFixture, rows: u64) -> anyhow::Result<Duration> {
    let service = sink.start().await?;
    let client = sink.database().await?;
    let last = trade(rows - 1, 0);
    let any = "SELECT EXISTS (SELECT FROM trades)";
    eventually(PATIENCE, "a row is there", async || Ok(client.query_one(any, &[]).await?.try_get(0)?))
        .await?;
    let began = Instant::now();
    // Partition comes after partition: the last trades of all instruments must be there.
    let complete =
        "SELECT count(*) = $2 FROM (SELECT DISTINCT instrument_name FROM trades WHERE trade_seq = $1) last";
    let (sequence, instruments) = (last.trade_seq, i64::try_from(INSTRUMENTS)?);
    eventually(PATIENCE, "all rows are there", async || {
        Ok(client.query_one(complete, &[&sequence, &instruments]).await?.try_get(0)?)
    })
    .await?;
    let time = began.elapsed();
    drop(service);
    Ok(time)
}

/// The same rows into a table like it, by a staging table that is not logged.
async fn by_copy(client: &Client) -> anyhow::Result<Duration> {
    let file = std::env::temp_dir().join(format!("kstream-bench-{}.rows", std::process::id()));
    let file = file.display();
    client
        .batch_execute(&format!(
            "COPY trades TO '{file}'; CREATE TABLE copied (LIKE trades INCLUDING ALL); \
             CREATE UNLOGGED TABLE staging (LIKE trades); CHECKPOINT"
        ))
        .await?;
    let columns: String = client
        .query_one(
            "SELECT string_agg(format('%1$I = EXCLUDED.%1$I', attname), ', ') FROM pg_attribute \
             WHERE attrelid = 'trades'::regclass AND attnum > 2",
            &[],
        )
        .await?
        .try_get(0)?;
    let began = Instant::now();
    client.batch_execute(&format!("COPY staging FROM '{file}'")).await?;
    client
        .batch_execute(&format!(
            "INSERT INTO copied SELECT * FROM staging ON CONFLICT (instrument_name, trade_seq) DO UPDATE SET {columns}"
        ))
        .await?;
    let time = began.elapsed();
    client.batch_execute("DROP TABLE copied, staging").await?;
    client.batch_execute(&format!("COPY (SELECT) TO PROGRAM 'rm -f {file}'")).await?;
    Ok(time)
}

async fn queries(client: &Client, rows: i64) -> anyhow::Result<()> {
    fill(client, rows).await?;
    for query in QUERIES {
        query.check_plan(client).await?;
        let (found, time) = query.time(client).await?;
        println!(
            "sink: {} of {rows} rows: {:.1} ms for {found} rows, by {}, goal about 10 ms",
            query.description,
            time.as_secs_f64() * 1000.0,
            query.index
        );
    }
    let sizes = "SELECT pg_table_size('trades') / count(*), pg_indexes_size('trades') / count(*) FROM trades";
    let sizes = client.query_one(sizes, &[]).await?;
    let (table, indexes): (i64, i64) = (sizes.try_get(0)?, sizes.try_get(1)?);
    println!("sink: {table} bytes a row in the table, {indexes} in its indexes");
    Ok(())
}
