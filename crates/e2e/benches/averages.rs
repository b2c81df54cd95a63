//! What the aggregator costs and how fast it is, each figure beside that of a bare consumer of librdkafka's in the same run, or beside
//! what it is to be.
//!
//! It runs the released binary (`KSTREAM_BIN`) over the servers that run (`KSTREAM_STATE`). `cargo bench … -- NAME` runs one part.

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::kafka::client::{Role, config};
use common::model::EventTime;
use e2e::fixtures::now_millis;
use e2e::load::{LoadGenerator, LoadProfile};
use e2e::metrics::median;
use e2e::pipeline::Pipeline;
use e2e::service::ProcessUsage;
use e2e::{Harness, Launch, Service};
use fastrand::Rng;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 6;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!("{:<58} {:>12} {:>12} {:>7}  goal", "what", "figure", "bare", "ratio");
    for part in ["catch-up", "instruments", "latency", "restart", "memory"] {
        if wanted.as_ref().is_some_and(|wanted| wanted != part) {
            continue;
        }
        let pipeline = Pipeline::create(&Harness::new(&format!("bench-{part}"))?, PARTITIONS).await?;
        match part {
            "catch-up" => catch_up(&pipeline).await?,
            "instruments" => instruments(&pipeline).await?,
            "latency" => latency(&pipeline)?,
            "restart" => restart(&pipeline).await?,
            _ => memory(&pipeline).await?,
        }
    }
    Ok(())
}

fn line(what: &str, figure: &str, bare: &str, ratio: &str, goal: &str) {
    println!("{what:<58} {figure:>12} {bare:>12} {ratio:>7}  {goal}");
}

fn start(pipeline: &Pipeline, settings: &[(&str, &str)]) -> anyhow::Result<Service> {
    let set = |launch: Launch, (key, value): &(&str, &str)| launch.set(key, *value);
    pipeline.harness.spawn("agg-producer", &settings.iter().fold(pipeline.launch("0"), set))
}

async fn wait_until_all_read(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.group()?.wait_until_all_read().await
}

/// Three million trades over ten minutes, of a thousand instruments by 1/rank, one in a hundred out of order.
fn write_tape(
    pipeline: &Pipeline,
    trades: u32,
    millis: i64,
    end: EventTime,
) -> anyhow::Result<LoadGenerator> {
    const INSTRUMENTS: u16 = 1_000;
    let mut load = LoadGenerator::new(pipeline, INSTRUMENTS.into(), LoadProfile::REGULAR, end)?;
    let mut sum = 0.0;
    let ranks: Vec<f64> = (1..=INSTRUMENTS)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let mut rng = Rng::with_seed(1);
    for number in 0..trades {
        let at = rng.f64() * sum;
        let mut time = end - millis + millis * i64::from(number) / i64::from(trades);
        if rng.u8(0..100) == 0 {
            time -= rng.i64(0..500);
        }
        load.trade_of(ranks.partition_point(|up_to| *up_to < at).min(ranks.len() - 1), time)?;
    }
    load.flush()?;
    Ok(load)
}

/// What reading everything took.
#[derive(Clone, Copy)]
struct Cost {
    /// Of all threads of the client.
    cpu: Duration,
    time: Duration,
}

/// A loop that polls and counts.
fn bare(pipeline: &Pipeline, trades: u32) -> anyhow::Result<Cost> {
    let consumer: BaseConsumer =
        config(&pipeline.harness.servers.kafka()?, "bench", &Role::Reader).create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(&pipeline.topics.trades, partition, Offset::Offset(0))?;
    }
    let (before, began) = (ProcessUsage::of(std::process::id())?.cpu, Instant::now());
    consumer.assign(&all)?;
    let mut read = 0;
    while read < trades {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            std::hint::black_box(record?.payload());
            read += 1;
        }
    }
    Ok(Cost { cpu: ProcessUsage::of(std::process::id())?.cpu - before, time: began.elapsed() })
}

async fn catch_up(pipeline: &Pipeline) -> anyhow::Result<()> {
    const TRADES: u32 = 3_000_000;
    write_tape(pipeline, TRADES, 600_000, now_millis() - 3_600_000)?;
    let mut ratios = Vec::new();
    for round in 0..3 {
        let bare = bare(pipeline, TRADES)?;
        let group = pipeline.second_group(&format!("round-{round}"));
        let began = Instant::now();
        let process = start(&group, &[])?;
        wait_until_all_read(&group).await?;
        let (took, cpu, resident) = (began.elapsed(), process.usage()?.cpu, process.usage()?.resident);
        let ratio = cpu.as_secs_f64() / bare.cpu.as_secs_f64();
        println!(
            "  round {round}: {took:.2?} with start and join, bare {:.2?}; cpu {cpu:?}, bare {:?}; resident {} MB",
            bare.time,
            bare.cpu,
            resident / 1_000_000
        );
        ratios.push((ratio, cpu, bare.cpu));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, cpu, bare) = *ratios.get(ratios.len() / 2).context("there were rounds")?;
    let (cpu, bare) = (format!("{cpu:.2?}"), format!("{bare:.2?}"));
    line("catching up over 3,000,000 trades, CPU", &cpu, &bare, &format!("{ratio:.2}"), "<= 1.3");
    Ok(())
}

/// CPU a trade while no window closes, and CPU a published record, by how many instruments there are.
async fn instruments(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut all = [100, 10_000, 100_000].map(|count| (count, Costs::default()));
    for round in 0..Costs::ROUNDS {
        for (count, costs) in &mut all {
            let (trade, record) = of_instruments(pipeline, *count, round).await?;
            costs.trade.push(trade);
            costs.record.push(record);
        }
    }
    let [(_, few), ..] = &all;
    for (count, costs) in &all {
        for (what, here, few, goal) in [
            ("trade", &costs.trade, &few.trade, "<= 1.3"),
            ("published record", &costs.record, &few.record, "<= 1.5"),
        ] {
            let ratios = here.iter().zip(few).map(|(here, few)| here / few);
            let nanos = |costs: &[f64]| format!("{:.0} ns", median(costs.iter().copied()) * 1e9);
            line(
                &format!("{count} instruments: CPU a {what}, bare: of 100"),
                &nanos(here),
                &nanos(few),
                &format!("{:.2}", median(ratios)),
                goal,
            );
        }
    }
    Ok(())
}

/// CPU seconds, in several rounds.
#[derive(Default)]
struct Costs {
    trade: Vec<f64>,
    record: Vec<f64>,
}

impl Costs {
    const ROUNDS: usize = 5;
}

/// CPU seconds a trade while no window closes, and a published record.
async fn of_instruments(pipeline: &Pipeline, count: u32, round: usize) -> anyhow::Result<(f64, f64)> {
    const TRADES: u32 = 1_000_000;
    const RECORDS: u32 = 1_200_000;
    let group = pipeline.second_group(&format!("of-{count}-{round}"));
    let trades = format!("{}.of-{count}-{round}", pipeline.topics.trades);
    let group = group.with_trades(&trades).await?;
    // Every slice holds one trade of each, and closes by the next one's trades; the last of them in the past, as Kafka refuses what is
    // far ahead of its clock.
    let slices = (RECORDS / 2 / count).max(1);
    let begin = (now_millis() - 3_600_000 - i64::from(slices) * 10_000) / 10_000 * 10_000;
    let mut load = LoadGenerator::new(&group, usize::try_from(count)?, LoadProfile::REGULAR, begin)?;
    for number in 0..TRADES {
        load.trade_of(
            usize::try_from(number % count)?,
            begin + i64::from(number) * 9_000 / i64::from(TRADES),
        )?;
    }
    load.flush()?;
    let process = start(&group, &[])?;
    wait_until_all_read(&group).await?;
    let idle = process.usage()?.cpu;
    for slice in 1..=slices + 2 {
        for at in 0..count {
            load.trade_of(usize::try_from(at)?, begin + i64::from(slice) * 10_000 + 5_000)?;
        }
    }
    load.flush()?;
    wait_until_all_read(&group).await?;
    let trade = idle.as_secs_f64() / f64::from(TRADES);
    let more = f64::from((slices + 2) * count) * trade;
    let published = f64::from((slices + 1) * count * 2);
    Ok((trade, ((process.usage()?.cpu - idle).as_secs_f64() - more) / published))
}

/// From the trade that closes a window to its averages with a read-committed reader: 1,000 trades a second, 1,000 windows a close.
fn latency(pipeline: &Pipeline) -> anyhow::Result<()> {
    const SECONDS: u64 = 40;
    const WARM: u64 = 8;
    let windows = [("WINDOW__SIZE", "5s"), ("WINDOW__ADVANCE", "1s"), ("WINDOW__GRACE", "0s")];
    let process = start(pipeline, &windows)?;
    let closed: Arc<Mutex<HashMap<(i32, EventTime), Instant>>> = Arc::default();
    let stop = AtomicBool::new(false);
    let mut times = std::thread::scope(|scope| -> anyhow::Result<Vec<Duration>> {
        let reading = scope.spawn(|| read_averages(pipeline, &closed, &stop));
        let mut load =
            LoadGenerator::new(pipeline, 1_000, LoadProfile::REGULAR, now_millis())?.without_linger()?;
        let (began, mut number) = (Instant::now(), 0_u64);
        let mut newest = HashMap::new();
        while began.elapsed() < Duration::from_secs(SECONDS) {
            let due = Duration::from_millis(number);
            std::thread::park_timeout(due.saturating_sub(began.elapsed()));
            let (at, time) = (usize::try_from(number % 1_000)?, now_millis());
            let partition = i32::try_from(at)? % PARTITIONS;
            let slice = time.div_euclid(1_000);
            if newest.insert(partition, slice).is_some_and(|before| before < slice) && number > WARM * 1_000 {
                let mut closed = closed.lock().map_err(|_| anyhow::anyhow!("a reader has panicked"))?;
                closed.insert((partition, slice * 1_000), Instant::now());
            }
            load.trade_of(at, time)?;
            number += 1;
        }
        load.flush()?;
        std::thread::park_timeout(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))?
    })?;
    drop(process);
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("  {} averages", times.len());
    line("window closed to average readable, p50", &format!("{:.1?}", at(50)), "", "", "<= 20 ms");
    line("window closed to average readable, p99", &format!("{:.1?}", at(99)), "", "", "<= 60 ms");
    Ok(())
}

fn read_averages(
    pipeline: &Pipeline,
    closed: &Mutex<HashMap<(i32, EventTime), Instant>>,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Duration>> {
    let consumer: BaseConsumer =
        config(&pipeline.harness.servers.kafka()?, "bench", &Role::Reader).create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(&pipeline.topics.moving_averages, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let now = Instant::now();
        let window = (record.partition(), record.timestamp().to_millis().unwrap_or_default());
        let closed = closed.lock().map_err(|_| anyhow::anyhow!("the writer has panicked"))?;
        times.extend(closed.get(&window).map(|closed| now - *closed));
    }
    Ok(times)
}

/// `kill -9` and a start at once, with windows of five minutes at 10,000 trades a second.
async fn restart(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut load = write_tape(pipeline, 3_100_000, 310_000, now_millis())?;
    let process = start(pipeline, &[])?;
    wait_until_all_read(pipeline).await?;
    let stop = AtomicBool::new(false);
    let (goes_on, caught_up) = std::thread::scope(|scope| -> anyhow::Result<(Duration, Duration)> {
        let writing = scope.spawn(|| -> anyhow::Result<()> {
            let (began, mut number) = (Instant::now(), 0_u32);
            while !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(
                    Duration::from_micros(u64::from(number) * 100).saturating_sub(began.elapsed()),
                );
                for _ in 0..100 {
                    load.trade_of(usize::try_from(number % 1_000)?, now_millis())?;
                    number += 1;
                }
            }
            load.flush()
        });
        std::thread::park_timeout(Duration::from_secs(3));
        let observed = observe_restart(pipeline, process);
        stop.store(true, Ordering::Relaxed);
        writing.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
        observed
    })?;
    line("kill -9 to the next commit, 5 min at 10,000/s", &format!("{goes_on:.2?}"), "", "", "<= 3 s");
    line("kill -9 to caught up, 5 min at 10,000/s", &format!("{caught_up:.2?}"), "", "", "<= 5 s");
    Ok(())
}

fn observe_restart(pipeline: &Pipeline, process: Service) -> anyhow::Result<(Duration, Duration)> {
    let group = pipeline.group()?;
    // Dropped is killed.
    drop(process);
    let killed = Instant::now();
    let before = group.committed()?;
    let process = start(pipeline, &[])?;
    let mut goes_on = None;
    loop {
        let (committed, end) = (group.committed()?, group.end()?);
        if committed > before {
            goes_on.get_or_insert(killed.elapsed());
        }
        // A fifth of a second behind is what a commit interval and a question's time make.
        if let Some(goes_on) = goes_on
            && end - committed < 3_000
        {
            println!("  resident {} MB", process.usage()?.resident / 1_000_000);
            return Ok((goes_on, killed.elapsed()));
        }
        anyhow::ensure!(killed.elapsed() < Duration::from_secs(120), "it does not catch up");
    }
}

/// Ten thousand instruments, each with a trade in every slice of its window.
async fn memory(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut resident = Vec::new();
    for count in [100_u32, 10_000] {
        let group = pipeline.second_group(&format!("of-{count}"));
        let group = group.with_trades(&format!("{}.of-{count}", pipeline.topics.trades)).await?;
        let begin = now_millis() - 3_600_000;
        let mut load = LoadGenerator::new(&group, usize::try_from(count)?, LoadProfile::REGULAR, begin)?;
        let process = start(&group, &[])?;
        for slice in 0..35 {
            for at in 0..count {
                load.trade_of(
                    usize::try_from(at)?,
                    begin + slice * 10_000 + i64::from(at) * 9_999 / i64::from(count),
                )?;
            }
            load.flush()?;
            std::thread::park_timeout(Duration::from_millis(300));
        }
        wait_until_all_read(&group).await?;
        resident.push(process.usage()?.resident);
    }
    let [few, many] = resident[..] else { anyhow::bail!("two were measured") };
    let each = many.saturating_sub(few) / 9_900;
    line(
        "10,000 instruments x 30 slices: resident, bare: of 100",
        &format!("{:.1} MB", many as f64 / 1e6),
        &format!("{:.1} MB", few as f64 / 1e6),
        "",
        "<= 60 MB",
    );
    line("an instrument with 30 slices", &format!("{each} B"), "", "", "");
    Ok(())
}
