//! Whether the groups make progress, and when Kafka was unavailable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::pipeline::Pipeline;
use tokio::time::sleep;

/// The longest time that a partition may make no progress while Kafka is available.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(60);
/// For so long after Kafka was unavailable, a process that is asked to stop may miss its deadline and end with 1.
const RECOVERY: Duration = Duration::from_secs(60);

/// When Kafka was unavailable, whichever group's turn it was.
#[derive(Clone, Default)]
pub(super) struct Outages {
    under_way: Arc<AtomicUsize>,
    ended: Arc<Mutex<Option<Instant>>>,
}

impl Outages {
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        *self.ended.lock().unwrap() = Some(Instant::now());
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// The time since Kafka came back; `None` while it is unavailable.
    fn back_for(&self) -> Option<Duration> {
        let back = self.under_way.load(Ordering::Relaxed) == 0;
        back.then(|| self.ended.lock().unwrap().map_or(Duration::MAX, |at| at.elapsed()))
    }

    pub(super) fn is_recent(&self) -> bool {
        self.back_for().is_none_or(|back| back < RECOVERY)
    }
}

/// The longest time that a partition of a group made no progress while Kafka was available and there were records to read.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    longest: Duration,
    partition: i32,
}

impl Standstill {
    /// Watches the committed offsets of a group until told to stop. Kafka hides an offset over which a transaction is open, so it makes no
    /// progress. Blocks.
    pub(super) fn watch(pipeline: &Pipeline, outages: &Outages, stop: &AtomicBool) -> Self {
        let group = pipeline.group().unwrap();
        let (mut standstill, mut seen) = (Self::default(), BTreeMap::<i32, (i64, Instant)>::new());
        while !stop.load(Ordering::Relaxed) {
            pause_blocking(Duration::from_millis(500));
            for partition in 0..pipeline.topics.partitions {
                let committed = group.committed_of(partition).unwrap_or(-1);
                let known = seen.entry(partition).or_insert((committed, Instant::now()));
                if committed > known.0 {
                    *known = (committed, Instant::now());
                }
                let still = outages.back_for().map_or(Duration::ZERO, |back| back.min(known.1.elapsed()));
                if still > standstill.longest {
                    standstill = Self { longest: still, partition };
                }
            }
        }
        standstill
    }

    pub(super) fn check(&self, group_id: &str) {
        let Self { longest, partition } = self;
        println!("{group_id}: partition {partition} made no progress for {longest:.1?}, the longest of all");
        assert!(*longest <= LONGEST_STANDSTILL, "{group_id}: partition {partition}: {longest:?}");
    }
}

/// Sleeps on a thread that may block.
pub(super) fn pause_blocking(time: Duration) {
    tokio::runtime::Handle::current().block_on(sleep(time));
}
