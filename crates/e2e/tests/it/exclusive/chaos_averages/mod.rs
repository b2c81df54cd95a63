//! Aggregators are killed, stopped, moved and deprived of Kafka at random moments under load. Afterwards candles, averages, late trades
//! and dead letters are what the batch program makes of the trades, once each and to the last bit.
//!
//! `make test` injects a fixed number of faults, `make chaos-averages FOR=10m` injects them for that long.

mod group;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::Harness;
use e2e::chaos::{requested_duration, seeded_rng};
use e2e::fixtures::now_millis;
use e2e::load::{LoadGenerator, LoadProfile};
use e2e::pipeline::Pipeline;
use fastrand::Rng;
use tokio::time::sleep;

use self::group::{AggregatorFault, ChaosGroup, FAULTS_BY_WEIGHT};
use self::progress::{Outages, pause_blocking};
use crate::reference::Settings;

/// Faults of the brief run.
const FAULTS: u64 = 36;
const HOUR: i64 = 3_600_000;
/// How far behind the clock event time begins. Kafka forgets producers whose records are a day old when it restarts
/// (producer.id.expiration.ms goes by their timestamps), and then accepts the test's own retries twice.
const HEAD_START: i64 = 22 * HOUR;

/// Two groups side by side, with windows of their own. Event time runs twenty times as fast as the clock, so that the first one's windows are
/// longer than the time between two faults, and each restart has slices to rebuild.
const FIRST: Settings = Settings { size: 120_000, advance: 5_000, grace: 2_000, tau: 30_000 };
const SECOND: Settings = Settings { size: 20_000, advance: 20_000, grace: 500, tau: 7_000 };

/// The faults to choose from: all, or those that `FAULTS` names, with commas between.
fn requested_faults() -> Vec<AggregatorFault> {
    let Some(named) = std::env::var("FAULTS").ok().filter(|named| !named.is_empty()) else {
        return FAULTS_BY_WEIGHT.to_vec();
    };
    let by_name = |name: &str| {
        let found = FAULTS_BY_WEIGHT.into_iter().find(|fault| format!("{fault:?}") == name.trim());
        found.unwrap_or_else(|| panic!("FAULTS names {name}; known are {FAULTS_BY_WEIGHT:?}"))
    };
    named.split(',').map(by_name).collect()
}

/// The time between two faults: `EVERY` (such as `20s`), or a random one of less than two seconds.
fn pause_before_fault(rng: &mut Rng) -> Duration {
    let random = Duration::from_millis(rng.u64(0..2_000));
    let every = std::env::var("EVERY").ok().filter(|every| !every.is_empty());
    every.map_or(random, |every| humantime::parse_duration(&every).unwrap())
}

/// Writes until told to stop, twenty times as fast as event time until that is an hour behind the clock; then closes every window. Blocks.
fn write(mut load: LoadGenerator, stop: &AtomicBool) -> LoadGenerator {
    let mut rng = Rng::with_seed(11);
    while !stop.load(Ordering::Relaxed) {
        let behind = load.now < now_millis() - HOUR;
        load.write(200, if behind { 2_000 } else { 100 }).unwrap();
        load.watermarks().unwrap();
        if behind && rng.u8(0..100) == 0 {
            // A night: open windows close by watermark alone, with the next trade far away.
            load.now += 600_000;
            load.watermarks().unwrap();
        }
        pause_blocking(Duration::from_millis(100));
    }
    load.complete_through(load.now + HOUR).unwrap();
    load
}

/// Stops the writer, also when the test panics: the runtime waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Injects faults at random while trades are written. Returns how often each was injected, and the records written.
async fn inject_at_random(
    groups: &mut [ChaosGroup; 2],
    load: LoadGenerator,
) -> (BTreeMap<AggregatorFault, u64>, usize) {
    let mut rng = seeded_rng().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, seen) = (StopOnDrop(stop.clone()), stop);
    let watching: Vec<_> = groups.iter().map(|group| group.watch(&seen)).collect();
    let writer = tokio::task::spawn_blocking(move || write(load, &seen));
    let faults = requested_faults();
    let end = requested_duration().unwrap().map(|time| Instant::now() + time);
    let mut injected: BTreeMap<AggregatorFault, u64> = BTreeMap::new();
    let enough = |injected: &BTreeMap<AggregatorFault, u64>| {
        end.map_or(injected.values().sum::<u64>() >= FAULTS, |end| Instant::now() >= end)
    };
    while !enough(&injected) && !writer.is_finished() {
        sleep(pause_before_fault(&mut rng)).await;
        let fault = *rng.choice(&faults).unwrap();
        let group = rng.choice(&mut *groups).unwrap();
        if group.inject(fault, &mut rng).await {
            println!("{fault:?}");
            *injected.entry(fault).or_default() += 1;
        }
        groups.iter_mut().for_each(ChaosGroup::supervise);
    }
    drop(stopping);
    let written = writer.await.unwrap().written;
    for (group, watched) in groups.iter().zip(watching) {
        watched.await.unwrap().check(&group.pipeline.group_id());
    }
    (injected, written)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_each_window_is_published_once_and_right_to_the_last_bit() {
    let pipeline = Pipeline::create(&Harness::new("chaos-averages").unwrap(), 6).await.unwrap();
    let profile = LoadProfile { disordered: 10, old: 5, garbage: 2, foreign: 20 };
    let load = LoadGenerator::new(&pipeline, 200, profile, now_millis() - HEAD_START).unwrap();
    let outages = Outages::default();
    let mut groups = [
        ChaosGroup::new(pipeline.clone(), FIRST, &outages),
        ChaosGroup::new(pipeline.second_group("second"), SECOND, &outages),
    ];
    groups.iter_mut().for_each(|group| group.start(0));
    let (injected, written) = inject_at_random(&mut groups, load).await;
    let faults = injected.values().sum::<u64>();
    println!("{faults} faults injected: {injected:?}");
    for group in &mut groups {
        let topics = group.wait_until_published().await;
        let restores = group.restores().await;
        let members: Vec<usize> = group.processes.keys().copied().collect();
        for member in members {
            group.stop(member).await;
        }
        let compared = topics.compare(&group.windows).unwrap();
        println!("{}: {compared:?}; lost 0, doubled 0; {restores} restores", group.pipeline.group_id());
        assert!(restores >= faults / 4, "{restores} restores for {faults} faults prove nothing");
        assert_eq!(topics.trade_records(), written, "trades are there as they were written");
    }
}
