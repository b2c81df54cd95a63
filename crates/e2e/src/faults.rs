//! What the fault tests do to the servers, by what chance, and for how long.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fastrand::Rng;

use crate::Stack;

/// What is done to a server; a killed one is started again by its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ends it as `make down` does.
    Stop,
    /// Starts it, and waits until it is well.
    Start,
    /// `kill -9`.
    Kill,
}

impl Stack {
    /// Does it to `kafka`, `registry`, `connect`, `postgres` or `zipkin`.
    pub fn fault(&self, action: Action, server: &str) -> anyhow::Result<()> {
        let action = match action {
            Action::Stop => "stop",
            Action::Start => "start",
            Action::Kill => "kill",
        };
        let script = self.root().join("scripts/native/fault.sh");
        let output = Command::new(script).args([action, server]).output()?;
        ensure!(output.status.success(), "{action} {server}: {output:?}");
        Ok(())
    }
}

/// How long a fault test is asked to run, by `FOR` (such as `10m`); by itself, or where that is empty, it runs shortly.
pub fn time_asked() -> anyhow::Result<Option<Duration>> {
    let Some(text) = std::env::var("FOR").ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let time =
        humantime::parse_duration(&text).with_context(|| format!("FOR is '{text}', not a time like 10m"))?;
    Ok(Some(time))
}

/// Chance for the tests that strike at random: another each time, and said, so that a run can be repeated by `SEED`.
pub fn chance() -> anyhow::Result<Rng> {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("SEED is '{seed}', not a number"))?,
        Err(_) => fastrand::u64(..),
    };
    #[expect(clippy::print_stdout, reason = "for whoever wants to see it again")]
    {
        println!("SEED={seed}");
    }
    Ok(Rng::with_seed(seed))
}
