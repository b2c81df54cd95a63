//! Our services as processes, for what only a process shows: its exit code and its last words.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Where cargo put the services' binaries; `KSTREAM_BIN` says so.
fn binary(service: &str) -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("KSTREAM_BIN")
        .context("KSTREAM_BIN must name the folder of the services' binaries")?;
    Ok(PathBuf::from(folder).join(service))
}

/// Runs a service with these arguments and environment until it ends by itself.
pub fn run_to_end(
    service: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> anyhow::Result<Output> {
    const WITHIN: Duration = Duration::from_secs(60);
    let mut command = Command::new(binary(service)?);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + WITHIN;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            bail!(
                "{service} {arguments:?} did not end by itself within {WITHIN:?}: {:?}",
                child.wait_with_output()?
            );
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(child.wait_with_output()?)
}
