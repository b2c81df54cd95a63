//! What the raw producer does and costs, beside a bare librdkafka producer with the same guarantees in the same run. Each line: what, figure, the bare
//! figure, ratio, goal.
//!
//! The exchange runs in this process, the producer is the released binary; its CPU time and memory are read from `/proc`. Needs the servers.
//! `cargo bench … -- NAME` runs one of them.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

mod bare;
mod tape;

use std::time::{Duration, Instant};

use bare::Rate;
use deribit_sim::market::Options;
use e2e::Service;
use e2e::ingest::IngestFixture;
use e2e::metric_names::{PUBLISH_DELAY, TRADES_PUBLISHED};
use e2e::metrics::{HistogramSnapshot, median};
use tape::{Frames, Recorder, Tape, now};

/// Trades that were missed, and trades in a long topic.
const MISSED: f64 = 1_000_000.0;
const LONG: f64 = 10_000_000.0;
/// Trades a second while they were missed.
const RATE: f64 = 2_000.0;
/// What the exchange has ready for a round of throughput, and the rounds.
const ROUND: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|one| one == name);
    if wanted("throughput") {
        throughput().await?;
    }
    if wanted("cpu") {
        cpu().await?;
    }
    if wanted("latency") {
        latency().await?;
    }
    if wanted("backfill") {
        backfill("lifted", "false", 100_000, 50_000.0).await?;
        backfill("the exchange's", "true", 20, 18_000.0).await?;
    }
    if wanted("large") {
        large().await?;
    }
    Ok(())
}

/// Frames in to acknowledged records, by the clock: the exchange has its frames ready and sends them as fast as they are taken. In turns with
/// the bare producer, and the median of the rounds, as the machine has other work too.
async fn throughput() -> anyhow::Result<()> {
    let mut ingest = open("bench-throughput", "20000").await?;
    let samples = ingest.samples()?;
    ingest.close_exchange().await;
    let tape = Tape::open().await?;
    ingest.set("DERIBIT__URL", format!("ws://{}/ws/api/v2", tape.address));
    let length = ROUND * (ROUNDS + 1);
    ingest.start_before(2 * length);
    let options = Options { seed: 7, instruments: 1_000, rate: 20_000.0 };
    let mut recorder = Recorder::new(options, now().minus(u64::try_from(length.as_millis())?));
    let producer = ingest.produce()?;
    producer.wait_until_ready().await?;
    let (mut ours, mut bare, mut acknowledged) = (Vec::new(), Vec::new(), 0.0);
    // The first round is for connections, caches and compilers.
    for round in 0..=ROUNDS {
        let Frames { frames, trades } = recorder.record(ROUND);
        let (begun, before) = (Instant::now(), producer.usage()?);
        tape.play(frames)?;
        acknowledged += trades as f64;
        producer.wait_until_metric(TRADES_PUBLISHED, acknowledged).await?;
        let (wall, cpu) = (begun.elapsed(), producer.usage()?.cpu - before.cpu);
        let rate = |time: Duration| trades as f64 / time.as_secs_f64();
        let beside = bare::flat_out(&samples, trades)?;
        if round > 0 {
            ours.push(Rate { wall: rate(wall), cpu: rate(cpu) });
            bare.push(beside);
        }
    }
    producer.stop().await?;
    let of = |by: fn(&Rate) -> f64| {
        let (ours_each, bare_each) = (ours.iter().map(by), bare.iter().map(by));
        let ratios = ours_each.clone().zip(bare_each.clone()).map(|(ours, bare)| ours / bare);
        (median(ours_each), median(bare_each), median(ratios))
    };
    let ((ours, bare, ratio), (ours_cpu, bare_cpu, ratio_cpu)) = (of(|rate| rate.wall), of(|rate| rate.cpu));
    println!(
        "frames in to acknowledged records: {ours:.0} trades a second, bare {bare:.0}, ratio {ratio:.2}, goal >= 0.7; by CPU time {ours_cpu:.0} and {bare_cpu:.0}, ratio {ratio_cpu:.2}"
    );
    Ok(())
}

/// What a trade costs that comes in its time, with the exchange's pauses between the bundles. The bare producer gets its records at the same
/// pace, in transactions as large.
async fn cpu() -> anyhow::Result<()> {
    let mut ingest = open("bench-cpu", "20000").await?;
    // At the exchange's limit of calls, history would be read no faster than it is made.
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", "200");
    filled_for(&mut ingest, Duration::from_secs(60));
    let producer = live(&ingest).await?;
    let published = async || producer.metrics().await?.get(TRADES_PUBLISHED);
    let (begun, before) = (Instant::now(), (producer.usage()?, published().await?));
    producer.wait_until_metric(TRADES_PUBLISHED, before.1 + 600_000.0).await?;
    let after = (producer.usage()?, published().await?);
    let (trades, pace) = (after.1 - before.1, (after.1 - before.1) / begun.elapsed().as_secs_f64());
    producer.stop().await?;
    let ours = trades / (after.0.cpu - before.0.cpu).as_secs_f64();
    let samples = ingest.samples()?;
    drop(ingest);
    let bare = bare::at_pace(&samples, 600_000, pace)?.cpu;
    println!(
        "{pace:.0} trades a second as they come: {ours:.0} trades a CPU second, bare {bare:.0}, ratio {:.2}",
        ours / bare
    );
    Ok(())
}

/// Socket to acknowledgement at 1,000 trades a second, over a minute: a comparison with history is in it. The bare producer writes in the same
/// minute, so that whatever else the machine does is done to both.
async fn latency() -> anyhow::Result<()> {
    let mut ingest = open("bench-latency", "1000").await?;
    filled_for(&mut ingest, Duration::from_secs(300));
    let producer = live(&ingest).await?;
    let samples = ingest.samples()?;
    let before = producer.metrics().await?.histogram(PUBLISH_DELAY);
    let bare = tokio::task::spawn_blocking(move || bare::delays(&samples, 600)).await??;
    let ours = producer.metrics().await?.histogram(PUBLISH_DELAY).since(&before);
    producer.stop().await?;
    let millis = |delays: &HistogramSnapshot| [0.5, 0.99].map(|share| delays.quantile(share) * 1e3);
    let ([ours_half, ours], [bare_half, bare]) = (millis(&ours), millis(&bare));
    println!(
        "socket to acknowledgement at 1,000 trades a second, p99: {ours:.1} ms, bare {bare:.1} ms, ratio {:.2}, goal <= 1.2; median {ours_half:.1} ms, bare {bare_half:.1} ms",
        ours / bare
    );
    Ok(())
}

/// How fast missed trades are published.
async fn backfill(limits: &str, credits: &str, calls: u32, goal: f64) -> anyhow::Result<()> {
    let settings = [("MARKET__RATE", "2000"), ("MARKET__INSTRUMENTS", "1000"), ("LIMITS__CREDITS", credits)];
    let mut ingest = IngestFixture::open(&format!("bench-backfill-{calls}"), "", &settings).await?;
    ingest.start_before(Duration::from_secs_f64(MISSED / RATE));
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", calls.to_string());
    let producer = ingest.produce()?;
    producer.wait_until_metric(TRADES_PUBLISHED, 1.0).await?;
    let begun = Instant::now();
    producer.wait_until_metric(TRADES_PUBLISHED, MISSED).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let figure = MISSED / seconds;
    producer.stop().await?;
    // A burst of five seconds' calls, and a thousand trades a call.
    let allowed = f64::from(calls) * (seconds + 5.0) * 1_000.0;
    let share = if credits == "true" {
        format!(", {:.2} of what they allow", MISSED / allowed)
    } else {
        String::new()
    };
    println!(
        "backfill of 1,000,000 trades, limits {limits}: {figure:.0} trades a second, ratio {:.2} to the goal of {goal:.0}{share}",
        figure / goal
    );
    Ok(())
}

/// Memory, and the time to start, with many instruments and a long topic.
async fn large() -> anyhow::Result<()> {
    let settings = [("MARKET__RATE", "2000"), ("MARKET__INSTRUMENTS", "10000")];
    let mut ingest = IngestFixture::open("bench-large", "", &settings).await?;
    ingest.start_before(Duration::from_secs_f64(LONG / RATE));
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", "100000");
    let producer = ingest.produce()?;
    producer.wait_until_metric(TRADES_PUBLISHED, LONG).await?;
    producer.wait_until_ready().await?;
    producer.stop().await?;
    as_shipped(&mut ingest);
    let begun = Instant::now();
    let producer = ingest.produce()?;
    producer.wait_until_ready().await?;
    let start = begun.elapsed().as_secs_f64();
    let mut most = 0.0_f64;
    while producer.metrics().await?.get(TRADES_PUBLISHED)? < 200_000.0 {
        most = most.max(producer.usage()?.resident as f64 / 1e6);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let resident = producer.usage()?.resident as f64 / 1e6;
    producer.stop().await?;
    println!(
        "10,000 instruments live, 10,000,000 trades in the topic: start to ready {start:.1} s, goal <= 3; resident {resident:.1} MB, goal <= 30, at most {most:.1} MB"
    );
    Ok(())
}

/// A producer that is live, and has compared history with the beginning of it.
async fn live(ingest: &IngestFixture) -> anyhow::Result<Service> {
    let producer = ingest.produce()?;
    producer.wait_until_ready().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    Ok(producer)
}

/// Of a new topic's instruments the first trade waits until history shows that there was none before it. In a topic that has been
/// filled for a while that is rare.
fn filled_for(ingest: &mut IngestFixture, time: Duration) {
    ingest.start_before(time);
}

/// What the tests set otherwise is as its defaults are: they compare with history every two seconds, and ask as often as they like.
fn as_shipped(ingest: &mut IngestFixture) {
    ingest.set("SEQUENCE__RECONCILE_INTERVAL", "60s");
    ingest.set("DERIBIT__REQUESTS_PER_SECOND", "20");
}

async fn open(name: &str, rate: &str) -> anyhow::Result<IngestFixture> {
    let mut ingest =
        IngestFixture::open(name, "", &[("MARKET__RATE", rate), ("MARKET__INSTRUMENTS", "1000")]).await?;
    as_shipped(&mut ingest);
    Ok(ingest)
}
