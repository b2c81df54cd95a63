//! The aggregator ends or stops at the points where it hurts most, and what it publishes is the batch program's answer all the same. With the
//! transaction, the fence or the restore taken out it is not: the comparison sees what each of them is for.
//!
//! Needs `make servers`, and binaries with failpoints; `make test` does it.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod averages;

use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use averages::{Compared, Settings, Topics};
use e2e::Stack;
use e2e::names::{PARTITIONS_LIVE, REJOINS};
use e2e::pipeline::Pipeline;
use e2e::process::{Process, Signal, folder_with_points};
use e2e::published::now;
use e2e::unruly::{Load, Unruliness};
use tokio::runtime::Runtime;

/// Windows longer than all the time between two ends, so that each restart has slices to rebuild.
const SETTINGS: Settings = Settings { size: 60_000, advance: 5_000, grace: 2_000, tau: 30_000 };
/// One write closes a window at least.
const STEP: u32 = 6_000;
/// Only so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(120);
/// What `abort` ends a process with.
const SIGABRT: i32 = 6;
/// A member that another has taken the place of.
const FENCED: i32 = 1;
/// Going on would give wrong numbers.
const REFUSED: i32 = 78;

/// Of each transaction: its records are written, they are acknowledged and offsets are sent, it is committed.
const POINTS: [&str; 3] = ["filled", "acknowledged", "published"];

/// An aggregator, and trades for it.
struct Bed {
    runtime: Runtime,
    pipeline: Pipeline,
    load: Load,
    without: Option<&'static str>,
    /// For its members' sessions, if not their own.
    session: Option<Duration>,
}

impl Bed {
    fn make(name: &str, without: Option<&'static str>) -> Self {
        let runtime = Runtime::new().unwrap();
        let name = format!("crash-averages-{name}-{}", without.unwrap_or("whole"));
        let pipeline = runtime.block_on(Pipeline::make(&Stack::find().unwrap(), &name, 2)).unwrap();
        let begin = now() - 24 * 3_600_000;
        let load =
            Load::new(&pipeline, 20, Unruliness { disordered: 10, old: 5, garbage: 2, foreign: 20 }, begin)
                .unwrap();
        let mut bed = Self { runtime, pipeline, load, without, session: None };
        bed.write();
        bed
    }

    fn log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("{}.log", self.pipeline.group()))
    }

    /// With the point armed, if any.
    fn start(&self, point: Option<&str>) -> Process {
        self.start_as("0", point)
    }

    /// The same under another name.
    fn start_as(&self, instance: &str, point: Option<&str>) -> Process {
        let Settings { size, advance, grace, tau } = SETTINGS;
        let mut environment = self.pipeline.environment(instance).unwrap();
        let windows = [("SIZE", size), ("ADVANCE", advance), ("GRACE", grace), ("EMA_TAU", tau)];
        environment
            .extend(windows.map(|(key, millis)| (format!("KSTREAM__WINDOW__{key}"), format!("{millis}ms"))));
        environment.extend(point.map(|point| ("KSTREAM_FAILPOINT".to_owned(), point.to_owned())));
        environment.extend(self.without.map(|without| ("KSTREAM_WITHOUT".to_owned(), without.to_owned())));
        environment.extend(self.session.map(e2e::pipeline::session));
        Process::start_in(&folder_with_points().unwrap(), "agg-producer", &environment, &self.log()).unwrap()
    }

    fn write(&mut self) {
        self.load.write(100, STEP).unwrap();
    }

    /// Writes on until `done`.
    fn write_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "see {}", self.log().display());
            self.write();
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Ends at that point, with windows open and others just closed.
    fn end_at(&mut self, point: &str) {
        let process = self.start(Some(&format!("{point}:4")));
        self.write_until_aborted(process);
    }

    fn write_until_aborted(&mut self, mut process: Process) {
        let mut ended = None;
        self.write_until(|_| {
            ended = process.ended().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.as_ref().and_then(|ended| ended.status.signal()), Some(SIGABRT), "{ended:?}");
    }

    /// Runs until everything is read.
    fn read_all(&self) {
        self.read_all_by(self.start(None));
    }

    fn read_all_by(&self, process: Process) {
        self.pipeline.wait_until_read().unwrap();
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.end(PATIENCE).unwrap().status.success(), "see {}", self.log().display());
    }

    /// The sum over all labels of a process's metric.
    fn metric(&self, process: &Process, name: &str) -> u64 {
        self.runtime.block_on(process.metrics()).count(name)
    }

    /// Stops with its records written but not committed; another of its name takes its place and goes on; then it wakes up.
    fn a_zombie_wakes_up(&mut self) -> Process {
        let zombie = self.start(Some("filled:4:stop"));
        self.write_until(|_| zombie.is_stopped().unwrap());
        let before = self.pipeline.committed().unwrap();
        let heir = self.start(None);
        self.write_until(|bed| bed.pipeline.committed().unwrap() > before);
        zombie.signal(Signal::SIGCONT).unwrap();
        assert_eq!(zombie.end(PATIENCE).unwrap().status.code(), Some(FENCED));
        heir
    }

    /// Lets `process`, or a new one, read all there is, and holds what was published against the batch program's answer.
    fn outcome(mut self, process: Option<Process>) -> Result<Compared, String> {
        // Closes everything; their own windows stay open.
        let end = self.load.now + 3_600_000;
        for instrument in 0..2 {
            self.load.trade_of(instrument, end).unwrap();
        }
        self.load.flush().unwrap();
        self.read_all_by(process.unwrap_or_else(|| self.start(None)));
        let topics = self.runtime.block_on(Topics::read(&self.pipeline.stack, &self.pipeline.topics));
        catch_unwind(AssertUnwindSafe(|| topics.compare(&SETTINGS))).map_err(|panic| {
            let said = panic.downcast::<String>();
            *said.expect("an assertion that says what differs")
        })
    }
}

/// At each of the points.
fn killed(without: Option<&'static str>) -> Result<Compared, String> {
    let mut bed = Bed::make("killed", without);
    POINTS.iter().for_each(|point| bed.end_at(point));
    bed.outcome(None)
}

fn fenced(without: Option<&'static str>) -> Result<Compared, String> {
    let mut bed = Bed::make("fenced", without);
    let heir = bed.a_zombie_wakes_up();
    bed.outcome(Some(heir))
}

/// Of windows, or of the late trades and dead letters that went with them.
fn says_twice(differs: &str) -> bool {
    let twice = ["published twice", "late trades are there once each", "dead letters are there once each"];
    twice.iter().any(|words| differs.contains(words))
}

#[test]
fn an_aggregator_that_ends_anywhere_around_a_commit_publishes_each_window_once_and_right() {
    println!("{:?}", killed(None).unwrap());
}

#[test]
fn one_that_wakes_up_after_another_took_its_place_publishes_nothing() {
    println!("{:?}", fenced(None).unwrap());
}

#[test]
fn one_that_lost_its_partitions_while_it_wrote_aborts_that_and_goes_on_with_what_it_is_given() {
    let mut bed = Bed::make("lost", None);
    let lost = bed.start(Some("filled:4:stop"));
    bed.write_until(|_| lost.is_stopped().unwrap());
    let before = bed.pipeline.committed().unwrap();
    // Under another name: nothing but its session tells that the first one is gone.
    let heir = bed.start_as("1", None);
    bed.write_until(|bed| bed.pipeline.committed().unwrap() > before);
    lost.signal(Signal::SIGCONT).unwrap();
    // First it had both partitions; then it is given one, or both.
    bed.write_until(|bed| bed.metric(&lost, PARTITIONS_LIVE) > 2);
    println!("{:?}", bed.outcome(Some(lost)).unwrap());
    heir.signal(Signal::SIGTERM).unwrap();
    assert!(heir.end(PATIENCE).unwrap().status.success());
}

#[test]
fn a_partition_whose_member_ends_between_a_rebalances_two_rounds_gets_an_owner_all_the_same() {
    let mut bed = Bed::make("ownerless", None);
    // That it is back within its session is not what is tried, and here it is back whenever this machine lets it.
    bed.session = Some(Duration::from_secs(120));
    let gives_up = bed.start(Some("revoked:1"));
    bed.write_until(|bed| bed.pipeline.committed().unwrap() > 0);
    let newcomer = bed.start_as("1", None);
    bed.write_until_aborted(gives_up);
    // Static, so that its coming back moves nothing.
    let back = bed.start(None);
    bed.write_until(|bed| bed.metric(&back, REJOINS) + bed.metric(&newcomer, REJOINS) > 0);
    // Reads every partition to its end.
    println!("{:?}", bed.outcome(Some(back)).unwrap());
    newcomer.signal(Signal::SIGTERM).unwrap();
    assert!(newcomer.end(PATIENCE).unwrap().status.success());
}

#[test]
fn without_the_transaction_windows_are_published_twice() {
    let mut bed = Bed::make("torn", Some("transaction"));
    bed.end_at("filled");
    let differs = bed.outcome(None).unwrap_err();
    assert!(says_twice(&differs), "{differs}");
}

#[test]
fn without_the_transaction_a_later_start_finds_two_candles_of_a_slice_and_goes_no_further() {
    let mut bed = Bed::make("twice", Some("transaction"));
    bed.read_all();
    // Within one window.
    (0..5).for_each(|_| bed.write());
    let ended = bed.start(Some("filled:1")).end(PATIENCE).unwrap();
    assert_eq!(ended.status.signal(), Some(SIGABRT));
    bed.read_all();
    let ended = bed.start(None).end(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(REFUSED));
    let topics = bed.runtime.block_on(Topics::read(&bed.pipeline.stack, &bed.pipeline.topics));
    let twice = topics.candles_there_twice();
    assert!(
        twice
            .iter()
            .any(|(instrument, end)| ended.error.contains(instrument)
                && ended.error.contains(&end.to_string())),
        "none of {twice:?} is named: {}",
        ended.error
    );
}

#[test]
fn without_the_fence_windows_are_published_twice() {
    let differs = fenced(Some("fence")).unwrap_err();
    assert!(says_twice(&differs), "{differs}");
}

#[test]
fn without_the_restore_windows_lack_what_came_before_the_restart() {
    let differs = killed(Some("restore")).unwrap_err();
    assert!(differs.contains("candles") || differs.contains("averages"), "{differs}");
}
