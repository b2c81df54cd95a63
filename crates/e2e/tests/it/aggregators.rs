//! The aggregators of one group, and the trades that they read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::fixtures::now_millis;
use e2e::load::{LoadGenerator, LoadProfile};
use e2e::pipeline::Pipeline;
use e2e::{Harness, Launch, PATIENCE, Service, eventually};

use crate::reference::{AverageComparison, PublishedTopics, Settings};

/// Event time starts so long before the clock, so that it may run faster.
const HEAD_START: i64 = 24 * 3_600_000;
/// From one batch of trades to the next.
const BATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A group of aggregators under load.
pub(crate) struct Aggregators {
    pub(crate) pipeline: Pipeline,
    pub(crate) load: LoadGenerator,
    pub(crate) windows: Settings,
    /// Its members that run, by their `instance`.
    pub(crate) members: BTreeMap<usize, Service>,
    /// The members' session timeout; default: their own.
    pub(crate) session_timeout: Option<Duration>,
    /// The guarantee that the members lack.
    pub(crate) disabled_guarantee: Option<&'static str>,
    /// Event time that passes with each batch, in milliseconds.
    pub(crate) batch_millis: u32,
    /// Whether each batch ends with watermarks.
    pub(crate) with_watermarks: bool,
}

/// How an aggregator of a pipeline is started with these windows.
pub(crate) fn launch(pipeline: &Pipeline, instance: usize, windows: &Settings) -> Launch {
    let millis = |millis: i64| format!("{millis}ms");
    let launch = pipeline.launch(&instance.to_string()).set("WINDOW__SIZE", millis(windows.size));
    let launch = launch.set("WINDOW__ADVANCE", millis(windows.advance));
    launch.set("WINDOW__GRACE", millis(windows.grace)).set("WINDOW__EMA_TAU", millis(windows.tau))
}

impl Aggregators {
    /// Creates the topics. No member runs yet.
    pub(crate) async fn create(
        test: &str,
        partitions: i32,
        instruments: usize,
        profile: LoadProfile,
    ) -> anyhow::Result<Self> {
        let pipeline = Pipeline::create(&Harness::new(test)?, partitions).await?;
        let load = LoadGenerator::new(&pipeline, instruments, profile, now_millis() - HEAD_START)?;
        Ok(Self {
            pipeline,
            load,
            windows: Settings { size: 60_000, advance: 5_000, grace: 2_000, tau: 30_000 },
            members: BTreeMap::new(),
            session_timeout: None,
            disabled_guarantee: None,
            batch_millis: 1_000,
            with_watermarks: true,
        })
    }

    /// Starts a process that is no member yet, with a failpoint armed if one is given.
    pub(crate) fn spawn(&self, instance: usize, failpoint: Option<&str>) -> anyhow::Result<Service> {
        let launch = launch(&self.pipeline, instance, &self.windows).failpoint(failpoint.map(str::to_owned));
        let mut launch = launch.disable_guarantee(self.disabled_guarantee);
        if let Some(timeout) = self.session_timeout {
            launch = launch.set("KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", timeout.as_millis().to_string());
        }
        self.pipeline.harness.spawn("agg-producer", &launch)
    }

    pub(crate) fn start(&mut self, instance: usize) -> anyhow::Result<()> {
        let service = self.spawn(instance, None)?;
        ensure!(self.members.insert(instance, service).is_none(), "{instance} runs already");
        Ok(())
    }

    fn take(&mut self, instance: usize) -> anyhow::Result<Service> {
        self.members.remove(&instance).context("no such member")
    }

    pub(crate) async fn stop(&mut self, instance: usize) -> anyhow::Result<()> {
        self.take(instance)?.stop().await
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, instance: usize) -> anyhow::Result<()> {
        drop(self.take(instance)?);
        Ok(())
    }

    /// A member's counter, over all labels.
    pub(crate) async fn count(&self, instance: usize, metric: &str) -> anyhow::Result<u64> {
        Ok(self.members.get(&instance).context("no such member")?.metrics().await?.count(metric))
    }

    /// Writes a batch of 100 trades.
    pub(crate) fn produce(&mut self) -> anyhow::Result<()> {
        self.load.write(100, self.batch_millis)?;
        if self.with_watermarks { self.load.watermarks() } else { Ok(()) }
    }

    /// Writes trades until `holds` returns true. An error counts as "not yet".
    pub(crate) async fn produce_until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let held = holds(self).await;
            if matches!(held, Ok(true)) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not within {PATIENCE:?}: {what}: {held:?}");
            self.produce()?;
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }

    /// Closes every window, waits for all averages, stops the members and compares.
    pub(crate) async fn compare(&mut self) -> anyhow::Result<AverageComparison> {
        self.load.complete_through(self.load.now + 3_600_000)?;
        let published = wait_until_published(&self.pipeline, &self.windows).await?;
        while let Some((_, member)) = self.members.pop_first() {
            member.stop().await?;
        }
        published.compare(&self.windows)
    }
}

/// Waits until there are as many averages as the batch program makes of the trades.
pub(crate) async fn wait_until_published(
    pipeline: &Pipeline,
    windows: &Settings,
) -> anyhow::Result<PublishedTopics> {
    let mut read = None;
    let all = async || {
        let topics = PublishedTopics::read(&pipeline.harness.servers, &pipeline.topics).await?;
        // An error ends the wait: the comparison shows it again.
        let (found, expected) = (topics.averages(), topics.expected_averages(windows).unwrap_or(0));
        read = Some(topics);
        ensure!(found >= expected, "{found} averages of {expected}");
        Ok(true)
    };
    eventually(PATIENCE, "every average is published", all).await?;
    read.context("it was read")
}
