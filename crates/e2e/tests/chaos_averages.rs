//! Aggregators are killed, stopped, moved and deprived of Kafka at random moments under load; afterwards candles, averages, late trades
//! and dead letters are what the batch program makes of the trades, once each and to the last bit.
//!
//! Runs until so many faults are done, or as long as FOR says. Needs `make servers`; `make test` and `make chaos-averages` do it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

mod averages;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use averages::{Settings, Topics};
use e2e::Stack;
use e2e::faults::{Action, chance, time_asked};
use e2e::names::PARTITIONS_RESTORED;
use e2e::pipeline::Pipeline;
use e2e::process::{Process, Signal};
use e2e::published::now;
use e2e::unruly::{Load, Unruliness};
use fastrand::Rng;
use tokio::runtime::Handle;

/// Faults of the short run.
const FAULTS: usize = 36;
/// Only so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(300);
/// For so long after Kafka was away whoever is asked to stop may find that he cannot commit within the deadline, and end with 1.
const RECOVERY: Duration = Duration::from_secs(60);
/// A process that is live answers at once; who waits longer gives others the time to become live before they are killed.
const SCRAPE_WITHIN: Duration = Duration::from_millis(100);
/// Past the session's timeout, so that partitions move.
const LONG_STOP: Duration = Duration::from_millis(7_500);
const MOST_PROCESSES: usize = 4;
/// Longest time that a partition may stand still while Kafka is there.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600_000;
/// How far behind the clock event time begins. Kafka forgets producers whose records are a day old when it starts again
/// (producer.id.expiration.ms goes by their timestamps), and then takes twice what the test's own writer sends twice.
const BEGIN: i64 = 22 * HOUR;

/// Two groups side by side, with windows of their own; the first one's are longer than the time between two faults, event time running
/// twenty times as fast, so that each restart has slices to rebuild.
const FIRST: Settings = Settings { size: 120_000, advance: 5_000, grace: 2_000, tau: 30_000 };
const SECOND: Settings = Settings { size: 20_000, advance: 20_000, grace: 500, tau: 7_000 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// `kill -9`, and a start at once.
    Kill,
    /// SIGTERM, and a start at once.
    Restart,
    /// Stopped for so long that the group gives its partitions to others; then it goes on.
    Freeze,
    /// One process more.
    More,
    /// One process less, for good.
    Less,
    /// A second process of the same name.
    Namesake,
    /// Kafka is killed, and started again by its supervisor.
    KafkaDies,
    /// Kafka is away for seconds.
    KafkaAway,
}

const FAULTS_BY_WEIGHT: [Fault; 16] = {
    use Fault::{Freeze, KafkaAway, KafkaDies, Kill, Less, More, Namesake, Restart};
    [
        Kill, Kill, Kill, Kill, Kill, Restart, Restart, Freeze, Freeze, More, More, More, Less, Namesake,
        KafkaDies, KafkaAway,
    ]
};

/// The faults to choose from: all, or those that FAULTS names, with commas between.
fn faults_asked() -> Vec<Fault> {
    let named = std::env::var("FAULTS").ok().filter(|named| !named.is_empty());
    let Some(named) = named else { return FAULTS_BY_WEIGHT.to_vec() };
    let by_name = |name: &str| {
        let found = FAULTS_BY_WEIGHT.into_iter().find(|fault| format!("{fault:?}") == name.trim());
        assert!(found.is_some(), "FAULTS names {name}; known are {FAULTS_BY_WEIGHT:?}");
        found.unwrap()
    };
    named.split(',').map(by_name).collect()
}

/// The time between two faults: EVERY (such as `20s`), or less than two seconds by chance.
fn pause_before_fault(rng: &mut Rng) -> Duration {
    let by_chance = Duration::from_millis(rng.u64(0..2_000));
    match std::env::var("EVERY").ok().filter(|every| !every.is_empty()) {
        Some(every) => humantime::parse_duration(&every).unwrap(),
        None => by_chance,
    }
}

/// When Kafka was away, for whatever fleet's turn it was.
#[derive(Clone, Default)]
struct Outages {
    under_way: Arc<AtomicUsize>,
    ended: Arc<Mutex<Option<Instant>>>,
}

impl Outages {
    fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        *self.ended.lock().unwrap() = Some(Instant::now());
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// The time since Kafka came back; `None` while it is away.
    fn back_for(&self) -> Option<Duration> {
        let back = self.under_way.load(Ordering::Relaxed) == 0;
        back.then(|| self.ended.lock().unwrap().map_or(Duration::MAX, |at| at.elapsed()))
    }

    fn is_recent(&self) -> bool {
        let lately = |at: Instant| at.elapsed() < RECOVERY;
        self.under_way.load(Ordering::Relaxed) > 0 || self.ended.lock().unwrap().is_some_and(lately)
    }
}

/// The processes of one group.
struct Fleet {
    pipeline: Pipeline,
    settings: Settings,
    processes: BTreeMap<usize, Process>,
    outages: Outages,
    runtime: Handle,
    /// How often processes that were taken out had restored a partition.
    restores: u64,
}

impl Fleet {
    fn new(pipeline: Pipeline, settings: Settings, (outages, runtime): (&Outages, &Handle)) -> Self {
        let (outages, runtime) = (outages.clone(), runtime.clone());
        Self { pipeline, settings, processes: BTreeMap::new(), outages, runtime, restores: 0 }
    }

    /// The windows come from a file, the rest from the environment.
    fn start(&mut self, member: usize) {
        let old = self.processes.insert(member, self.process(member));
        assert!(old.is_none());
    }

    fn process(&self, member: usize) -> Process {
        let Settings { size, advance, grace, tau } = self.settings;
        let file = self.file("toml");
        let windows = format!(
            "threads = 2\nstartup_deadline = \"5m\"\n[window]\nsize = \"{size}ms\"\nadvance = \"{advance}ms\"\ngrace = \"{grace}ms\"\nema_tau = \"{tau}ms\"\n"
        );
        std::fs::write(&file, windows).unwrap();
        let environment = self.pipeline.environment(&member.to_string()).unwrap();
        let arguments = ["--config", file.to_str().unwrap()];
        Process::start_with("agg-producer", &arguments, &environment, &self.file("log")).unwrap()
    }

    fn file(&self, extension: &str) -> PathBuf {
        std::env::temp_dir().join(format!("{}.{extension}", self.pipeline.group()))
    }

    fn any(&self, rng: &mut Rng) -> usize {
        let members: Vec<usize> = self.processes.keys().copied().collect();
        *rng.choice(&members).unwrap()
    }

    fn end(&mut self, member: usize) {
        self.supervise();
        let process = self.take(member);
        process.signal(Signal::SIGTERM).unwrap();
        let ended = process.end(PATIENCE).unwrap();
        let excused = self.outages.is_recent() && (ended.is_overdue() || ended.is_fenced());
        assert!(
            ended.status.success() || excused,
            "asked to stop: {ended:?}, see {}",
            self.file("log").display()
        );
        if excused {
            println!("asked to stop after Kafka was away: {}", ended.error);
        }
    }

    /// Takes a process out of the fleet, to end it; how often it restored partitions is remembered.
    fn take(&mut self, member: usize) -> Process {
        let process = self.processes.remove(&member).unwrap();
        self.restores += self.restored(&process);
        process
    }

    /// How often a process made a partition live after records were read again; nothing if it is too young to answer.
    fn restored(&self, process: &Process) -> u64 {
        let scrape =
            async { tokio::time::timeout(SCRAPE_WITHIN, process.metrics()).await.unwrap_or_default() };
        self.runtime.block_on(scrape).count(PARTITIONS_RESTORED)
    }

    /// What ended is started again, as a supervisor would, but nothing may end by anything else than a fence: when Kafka goes away
    /// while a member joins, the member may ask twice, and be fenced off by itself.
    fn supervise(&mut self) {
        let mut ended = Vec::new();
        for (member, process) in &mut self.processes {
            ended.extend(process.ended().unwrap().map(|ended| (*member, ended)));
        }
        for (member, ended) in ended {
            let log = self.file("log");
            assert!(ended.is_fenced(), "process {member}: {ended:?}, see {}", log.display());
            println!("fenced off by itself and started again");
            self.processes.remove(&member);
            self.start(member);
        }
    }

    /// The one that is left of two of the same name. Mostly that is the younger one; but if both wait for Kafka to come back, it is
    /// whichever joins last.
    fn one_of(&self, [mut older, mut younger]: [Process; 2]) -> Process {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = [older.ended().unwrap(), younger.ended().unwrap()];
            if let Some(end) = ended.iter().flatten().next() {
                assert!(end.is_fenced(), "{end:?}, see {}", self.file("log").display());
                return if ended[0].is_some() { younger } else { older };
            }
            assert!(Instant::now() < until, "two of the same name, see {}", self.file("log").display());
            wait(Duration::from_millis(20));
        }
    }

    fn suffer(&mut self, fault: Fault, rng: &mut Rng) -> bool {
        let member = self.any(rng);
        match fault {
            Fault::Kill => {
                // Dropped is killed.
                drop(self.take(member));
                self.start(member);
            }
            Fault::Restart => {
                self.end(member);
                self.start(member);
            }
            Fault::Freeze => {
                let process = self.processes.get(&member).unwrap();
                process.signal(Signal::SIGSTOP).unwrap();
                wait(LONG_STOP);
                process.signal(Signal::SIGCONT).unwrap();
            }
            Fault::More => {
                let Some(free) = (0..MOST_PROCESSES).find(|member| !self.processes.contains_key(member))
                else {
                    return false;
                };
                self.start(free);
            }
            Fault::Less => {
                if self.processes.len() == 1 {
                    return false;
                }
                self.end(member);
            }
            Fault::Namesake => {
                let both = [self.processes.remove(&member).unwrap(), self.process(member)];
                self.processes.insert(member, self.one_of(both));
            }
            Fault::KafkaDies => {
                self.outages.begin();
                self.pipeline.stack.fault(Action::Kill, "kafka").unwrap();
                let (outages, stack) = (self.outages.clone(), self.pipeline.stack.clone());
                // Waits until it is well; the other faults go on meanwhile.
                std::thread::spawn(move || {
                    stack.fault(Action::Start, "kafka").unwrap();
                    outages.end();
                });
            }
            Fault::KafkaAway => {
                self.outages.begin();
                self.pipeline.stack.fault(Action::Stop, "kafka").unwrap();
                wait(Duration::from_millis(rng.u64(0..12_000)));
                self.pipeline.stack.fault(Action::Start, "kafka").unwrap();
                self.outages.end();
            }
        }
        true
    }
}

/// How long the partitions of a group stood still, while Kafka was there and there was something to read.
#[derive(Default)]
struct Standstill {
    longest: Duration,
    partition: i32,
}

/// Watches the committed offsets of a group until told to stop. Offsets behind an open transaction are not told, so they stand still.
fn watch_progress(pipeline: &Pipeline, outages: &Outages, stop: &AtomicBool) -> Standstill {
    let observer = pipeline.observer().unwrap();
    let (mut standstill, mut seen) = (Standstill::default(), BTreeMap::<i32, (i64, Instant)>::new());
    while !stop.load(Ordering::Relaxed) {
        wait(Duration::from_millis(500));
        for partition in 0..pipeline.topics.partitions {
            let committed = pipeline.committed_of(&observer, partition).unwrap_or(-1);
            let known = seen.entry(partition).or_insert((committed, Instant::now()));
            if committed > known.0 {
                *known = (committed, Instant::now());
            }
            let still = outages.back_for().map_or(Duration::ZERO, |back| back.min(known.1.elapsed()));
            if still > standstill.longest {
                standstill = Standstill { longest: still, partition };
            }
        }
    }
    standstill
}

fn check_standstills(standstills: &[(String, Standstill)]) {
    for (group, Standstill { longest, partition }) in standstills {
        println!("{group}: partition {partition} stood still for {longest:.1?}, the longest of all");
        assert!(*longest <= LONGEST_STANDSTILL, "{group}: partition {partition} stood still for {longest:?}");
    }
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Writes until told to stop, twenty times as fast as event time until that is an hour behind the clock; then closes every window.
fn write(load: &mut Load, stop: &AtomicBool) {
    let mut rng = Rng::with_seed(11);
    while !stop.load(Ordering::Relaxed) {
        let behind = load.now < now() - HOUR;
        load.write(200, if behind { 2_000 } else { 100 }).unwrap();
        load.watermarks().unwrap();
        if behind && rng.u8(0..100) == 0 {
            // A night: whatever was open closes by watermark alone, with the next trade far away.
            load.now += 600_000;
            load.watermarks().unwrap();
        }
        wait(Duration::from_millis(100));
    }
    load.complete_through(load.now + 3_600_000).unwrap();
}

fn until_all_is_published(fleet: &mut Fleet, runtime: &tokio::runtime::Runtime) -> Topics {
    let (pipeline, settings) = (fleet.pipeline.clone(), fleet.settings);
    let until = Instant::now() + PATIENCE;
    loop {
        fleet.supervise();
        let topics = runtime.block_on(Topics::read(&pipeline.stack, &pipeline.topics));
        let (found, expected) = (topics.averages(), topics.averages_to_come(&settings));
        if found >= expected {
            return topics;
        }
        assert!(
            Instant::now() < until,
            "{found} averages of {expected}, see {}",
            fleet.file("log").display()
        );
        wait(Duration::from_secs(1));
    }
}

/// Stops the writer, also when the test panics: it is waited for.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whatever_breaks_each_window_is_published_once_and_right_to_the_last_bit() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stack = Stack::find().unwrap();
    let pipeline = runtime.block_on(Pipeline::make(&stack, "chaos-averages", 6)).unwrap();
    let mut rng = chance().unwrap();
    let unruliness = Unruliness { disordered: 10, old: 5, garbage: 2, foreign: 20 };
    let mut load = Load::new(&pipeline, 200, unruliness, now() - BEGIN).unwrap();
    let outages = Outages::default();
    let mut fleets = [
        Fleet::new(pipeline.clone(), FIRST, (&outages, runtime.handle())),
        Fleet::new(pipeline.beside("second"), SECOND, (&outages, runtime.handle())),
    ];
    fleets.iter_mut().for_each(|fleet| fleet.start(0));

    let stop = AtomicBool::new(false);
    let (faults, mut standstills) = (faults_asked(), Vec::new());
    let mut tried: BTreeMap<Fault, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mut load, &stop));
        let watched: Vec<_> = fleets
            .iter()
            .map(|fleet| {
                let (pipeline, outages, stop) = (fleet.pipeline.clone(), outages.clone(), &stop);
                scope.spawn(move || (pipeline.group(), watch_progress(&pipeline, &outages, stop)))
            })
            .collect();
        let stopping = Stopping(&stop);
        let end = time_asked().unwrap().map(|time| Instant::now() + time);
        let enough = |tried: &BTreeMap<Fault, usize>| {
            end.map_or(tried.values().sum::<usize>() >= FAULTS, |end| Instant::now() >= end)
        };
        while !enough(&tried) && !writer.is_finished() {
            wait(pause_before_fault(&mut rng));
            let fault = *rng.choice(&faults).unwrap();
            let fleet = rng.choice(&mut fleets).unwrap();
            if fleet.suffer(fault, &mut rng) {
                println!("{fault:?}");
                *tried.entry(fault).or_default() += 1;
            }
            fleets.iter_mut().for_each(Fleet::supervise);
        }
        drop(stopping);
        writer.join().unwrap();
        standstills.extend(watched.into_iter().map(|watched| watched.join().unwrap()));
    });
    check_standstills(&standstills);
    let faults = tried.values().sum::<usize>();
    println!("{faults} faults tried: {tried:?}");
    for fleet in &mut fleets {
        let topics = until_all_is_published(fleet, &runtime);
        let members: Vec<usize> = fleet.processes.keys().copied().collect();
        members.into_iter().for_each(|member| fleet.end(member));
        let compared = topics.compare(&fleet.settings);
        let restores = fleet.restores;
        println!("{}: {compared:?}; lost 0, doubled 0; {restores} restores", fleet.pipeline.group());
        assert!(restores >= faults as u64 / 4, "{restores} restores for {faults} faults prove nothing");
        assert_eq!(
            compared.trades + compared.undecodable,
            load.written,
            "trades are there as they were written"
        );
    }
}
