//! What the producer says of itself, and waiting until it says it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use deribit_sim::faults::Kind;
use deribit_sim::market::Millis;

use super::{Ingest, PATIENCE};
use crate::metrics::Histogram;

impl Ingest {
    /// Waits until the producer has compared everything before the present time with history, or made it whole. Tells that time.
    pub async fn until_whole(&self) -> anyhow::Result<Millis> {
        let through = self.now()?;
        self.until_at_least("reconciled_through_seconds", through.0 as f64 / 1000.0).await?;
        Ok(through)
    }

    /// Waits until one of the producer's metrics is that high.
    pub async fn until_at_least(&self, name: &str, value: f64) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.gauge(name).await.unwrap_or(0.0) < value {
            ensure!(Instant::now() < end, "{}: {name} is below {value}", self.topic);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until each of these faults has been done so often in all.
    pub async fn until_done(&self, faults: &BTreeMap<Kind, u64>) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let done = self.faults();
            if faults.iter().all(|(kind, times)| done.get(kind).is_some_and(|found| found >= times)) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{}: {done:?} of {faults:?} were done", self.topic);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the producer says that it is ready.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.admin("ready").await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(Instant::now() < end, "{}: the producer does not get ready", self.topic);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The producer whose the topic is by the newest record that says so.
    pub fn owner(&self) -> anyhow::Result<String> {
        let records = crate::topic::raw_values(&self.stack, &format!("{}.sequences", self.topic))?;
        let (_, newest) = records.iter().rfind(|(key, _)| key == ":owner").context("no owner")?;
        let owner: serde_json::Value = serde_json::from_slice(newest)?;
        let owner = owner.get("owner").and_then(serde_json::Value::as_str);
        Ok(owner.context("no name")?.to_owned())
    }

    async fn admin(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        crate::get(format!("http://127.0.0.1:{}/{path}", self.admin)).await
    }

    /// One of the producer's histograms.
    pub async fn histogram(&self, name: &str) -> anyhow::Result<Histogram> {
        let text = self.admin("metrics").await?.text().await?;
        Ok(Histogram::read(&text, &format!("raw_producer_{name}")))
    }

    /// One of the producer's metrics.
    pub async fn gauge(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.admin("metrics").await?.text().await?;
        let line = text.lines().find_map(|line| {
            let (found, value) = line.strip_prefix("raw_producer_")?.rsplit_once(' ')?;
            (found == name).then_some(value)
        });
        Ok(line.with_context(|| format!("no {name}"))?.parse()?)
    }
}
