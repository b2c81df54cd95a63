//! What moves when processes come and go, and that no number changes by it; and a feed that was away for ten minutes.
//!
//! Needs `make servers`; `make test` does it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

mod averages;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use averages::{Settings, Topics};
use e2e::Stack;
use e2e::names::{PARTITIONS_LIVE, REBALANCES};
use e2e::pipeline::Pipeline;
use e2e::process::{Process, Signal};
use e2e::published::now;
use e2e::unruly::{Load, Unruliness};
use tokio::runtime::Runtime;

const SETTINGS: Settings = Settings { size: 60_000, advance: 5_000, grace: 2_000, tau: 30_000 };
/// Only so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 6;

/// A group's processes, each with a log of its own, and trades for them.
struct Group {
    runtime: Runtime,
    pipeline: Pipeline,
    load: Load,
    processes: BTreeMap<usize, Process>,
    /// For its members' sessions, if not their own.
    session: Option<Duration>,
}

impl Group {
    fn make(name: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let pipeline = runtime.block_on(Pipeline::make(&Stack::find().unwrap(), name, PARTITIONS)).unwrap();
        let begin = now() - 24 * 3_600_000;
        let load = Load::new(&pipeline, 60, Unruliness::NONE, begin).unwrap();
        Self { runtime, pipeline, load, processes: BTreeMap::new(), session: None }
    }

    fn log(&self, member: usize) -> PathBuf {
        std::env::temp_dir().join(format!("{}.{member}.log", self.pipeline.group()))
    }

    fn start(&mut self, member: usize) {
        let Settings { size, advance, grace, tau } = SETTINGS;
        let mut environment = self.pipeline.environment(&member.to_string()).unwrap();
        let windows = [("SIZE", size), ("ADVANCE", advance), ("GRACE", grace), ("EMA_TAU", tau)];
        environment
            .extend(windows.map(|(key, millis)| (format!("KSTREAM__WINDOW__{key}"), format!("{millis}ms"))));
        environment.extend(self.session.map(e2e::pipeline::session));
        let process = Process::start("agg-producer", &environment, &self.log(member)).unwrap();
        self.processes.insert(member, process);
    }

    fn stop(&mut self, member: usize) {
        let process = self.processes.remove(&member).unwrap();
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.end(PATIENCE).unwrap().status.success(), "see {}", self.log(member).display());
    }

    /// The sum over all labels of a member's metric.
    fn metric(&self, member: usize, name: &str) -> u64 {
        let process = self.processes.get(&member).unwrap();
        self.runtime.block_on(process.metrics()).count(name)
    }

    /// How often a partition became live in a member.
    fn live(&self, member: usize) -> u64 {
        self.metric(member, PARTITIONS_LIVE)
    }

    /// Writes on, ten times as fast as event time, until `done`.
    fn write_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "see {}", self.log(0).display());
            self.load.write(100, 1_000).unwrap();
            self.load.watermarks().unwrap();
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Starts a member and writes on until it is live in a partition.
    fn write_until_live(&mut self, member: usize) {
        self.start(member);
        self.write_until(|group| group.live(member) > 0);
    }

    /// Holds all that was published against the batch program's answer.
    fn compare(mut self) {
        self.load.complete_through(self.load.now + 3_600_000).unwrap();
        let until = Instant::now() + PATIENCE;
        let topics = loop {
            let topics = self.runtime.block_on(Topics::read(&self.pipeline.stack, &self.pipeline.topics));
            if topics.averages() >= topics.averages_to_come(&SETTINGS) {
                break topics;
            }
            assert!(Instant::now() < until, "see {}", self.log(0).display());
            std::thread::park_timeout(Duration::from_millis(500));
        };
        let members: Vec<usize> = self.processes.keys().copied().collect();
        members.into_iter().for_each(|member| self.stop(member));
        println!("{:?}", topics.compare(&SETTINGS));
    }
}

#[test]
fn a_process_that_starts_again_at_once_keeps_its_partitions_and_nobody_else_notices() {
    let mut group = Group::make("rebalance-restart");
    // That it is back within its session is not what is tried, and here it is back whenever this machine lets it.
    group.session = Some(Duration::from_secs(120));
    group.start(0);
    group.start(1);
    // Both have partitions, and what was taken from the one has become live at the other.
    group.write_until(|group| group.live(0) >= 3 && group.live(1) >= 3);
    let moves = |group: &Group| (group.metric(1, REBALANCES), group.live(1));
    let before = moves(&group);
    // Dropped is killed.
    drop(group.processes.remove(&0).unwrap());
    group.write_until_live(0);
    group.stop(0);
    group.write_until_live(0);
    assert_eq!(
        moves(&group),
        before,
        "what the other one went through: rebalances, partitions that became live"
    );
    group.compare();
}

#[test]
fn from_one_process_to_four_and_back_under_load_no_number_changes() {
    let mut group = Group::make("rebalance-scale");
    group.start(0);
    group.write_until(|group| group.live(0) >= 6);
    (1..4).for_each(|member| group.write_until_live(member));
    for member in (1..4).rev() {
        group.stop(member);
        let live = |group: &Group| group.processes.keys().map(|at| group.live(*at)).sum::<u64>();
        let before = live(&group);
        // What it had becomes live at others once its session is over.
        group.write_until(|group| live(group) > before);
    }
    group.compare();
}

#[test]
fn a_feed_that_was_away_for_ten_minutes_and_is_filled_in_has_no_late_trade_and_whole_windows() {
    const AWAY: u32 = 600_000;
    let mut group = Group::make("feed-away");
    group.start(0);
    group.write_until(|group| group.live(0) >= 6);
    let read = group.pipeline.committed().unwrap();
    group.load.write(1_000, 30_000).unwrap();
    group.load.watermarks().unwrap();
    group.write_until(|group| group.pipeline.committed().unwrap() > read);
    // The producer says nothing of what it has not filled in yet, however late it is by the clock; then comes everything, by time.
    group.load.write(6_000, AWAY).unwrap();
    group.load.watermarks().unwrap();
    group.write_until(|group| group.pipeline.committed().unwrap() > read + 6_000);
    let topics = group.runtime.block_on(Topics::read(&group.pipeline.stack, &group.pipeline.topics));
    assert_eq!(topics.late(), 0);
    group.compare();
}
