//! What the raw producer does and costs, beside a bare librdkafka producer with the same guarantees in the same run. Each line: what, figure, the bare
//! figure, ratio, goal.
//!
//! The exchange runs in this process, the producer is the released binary; its CPU time and memory are read from `/proc`. Needs the servers.
//! `cargo bench … -- NAME` runs one of them.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

mod bare;

use std::time::{Duration, Instant};

use e2e::ingest::Ingest;

/// Trades that were missed, and trades in a long topic.
const MISSED: f64 = 1_000_000.0;
const LONG: f64 = 10_000_000.0;
/// Trades a second while they were missed.
const RATE: f64 = 2_000.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|one| one == name);
    if wanted("throughput") {
        throughput().await?;
    }
    if wanted("latency") {
        latency().await?;
    }
    if wanted("backfill") {
        backfill(("lifted", "false"), (100_000, 50_000.0)).await?;
        backfill(("the exchange's", "true"), (20, 18_000.0)).await?;
    }
    if wanted("large") {
        large().await?;
    }
    Ok(())
}

/// Frames in to acknowledged records, by the CPU time that they take: then the machine's other work does not count.
async fn throughput() -> anyhow::Result<()> {
    let ingest = open("bench-throughput", "20000").await?;
    let producer = ingest.produce()?;
    ingest.until_whole().await?;
    let before = (producer.usage()?, ingest.gauge("trades_published_total").await?);
    ingest.until_at_least("trades_published_total", before.1 + 300_000.0).await?;
    let after = (producer.usage()?, ingest.gauge("trades_published_total").await?);
    Ingest::stop(producer)?;
    let ours = (after.1 - before.1) / (after.0.cpu - before.0.cpu).as_secs_f64();
    let samples = ingest.samples()?;
    drop(ingest);
    let bare = bare::trades_a_cpu_second(&samples, 300_000)?;
    println!(
        "frames in to acknowledged records: {ours:.0} trades a CPU second, bare {bare:.0}, ratio {:.2}, goal >= 0.7",
        ours / bare
    );
    Ok(())
}

/// Socket to acknowledgement at 1,000 trades a second.
async fn latency() -> anyhow::Result<()> {
    let ingest = open("bench-latency", "1000").await?;
    let producer = ingest.produce()?;
    ingest.until_whole().await?;
    let before = ingest.histogram("publish_delay_seconds").await?;
    let seen = ingest.gauge("trades_published_total").await?;
    ingest.until_at_least("trades_published_total", seen + 20_000.0).await?;
    let ours = ingest.histogram("publish_delay_seconds").await?.since(&before).quantile(0.99);
    Ingest::stop(producer)?;
    let samples = ingest.samples()?;
    drop(ingest);
    let bare = bare::delays(&samples, 200)?.quantile(0.99);
    println!(
        "socket to acknowledgement at 1,000 trades a second, p99: {:.1} ms, bare {:.1} ms, ratio {:.2}, goal <= 1.2",
        ours * 1e3,
        bare * 1e3,
        ours / bare
    );
    Ok(())
}

/// How fast missed trades are published.
async fn backfill((limits, credits): (&str, &str), (calls, goal): (u32, f64)) -> anyhow::Result<()> {
    let settings = [("MARKET__RATE", "2000"), ("MARKET__INSTRUMENTS", "1000"), ("LIMITS__CREDITS", credits)];
    let mut ingest = Ingest::open(&format!("bench-backfill-{calls}"), "", &settings).await?;
    ingest.start_before(Duration::from_secs_f64(MISSED / RATE));
    ingest.set("DERIBIT__CALLS_PER_SECOND", calls.to_string());
    let producer = ingest.produce()?;
    ingest.until_at_least("trades_published_total", 1.0).await?;
    let begun = Instant::now();
    ingest.until_at_least("trades_published_total", MISSED).await?;
    let figure = MISSED / begun.elapsed().as_secs_f64();
    Ingest::stop(producer)?;
    println!(
        "backfill of 1,000,000 trades, limits {limits}: {figure:.0} trades a second, ratio {:.2} to the goal of {goal:.0}",
        figure / goal
    );
    Ok(())
}

/// Memory, and the time to start, with many instruments and a long topic.
async fn large() -> anyhow::Result<()> {
    let settings = [("MARKET__RATE", "2000"), ("MARKET__INSTRUMENTS", "10000")];
    let mut ingest = Ingest::open("bench-large", "", &settings).await?;
    ingest.start_before(Duration::from_secs_f64(LONG / RATE));
    ingest.set("DERIBIT__CALLS_PER_SECOND", "100000");
    let producer = ingest.produce()?;
    ingest.until_at_least("trades_published_total", LONG).await?;
    ingest.until_ready().await?;
    Ingest::stop(producer)?;
    let begun = Instant::now();
    let producer = ingest.produce()?;
    ingest.until_ready().await?;
    let start = begun.elapsed().as_secs_f64();
    ingest.until_at_least("trades_published_total", 100_000.0).await?;
    let resident = producer.usage()?.resident as f64 / 1e6;
    Ingest::stop(producer)?;
    println!(
        "10,000 instruments live, 10,000,000 trades in the topic: start to ready {start:.1} s, goal <= 3; resident {resident:.1} MB, goal <= 30"
    );
    Ok(())
}

async fn open(name: &str, rate: &str) -> anyhow::Result<Ingest> {
    Ingest::open(name, "", &[("MARKET__RATE", rate), ("MARKET__INSTRUMENTS", "1000")]).await
}
