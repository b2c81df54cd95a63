//! Our services as processes, for what only a process shows: its exit code and its last words.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
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

/// A service that runs until it is told to end; killed with its test, whatever becomes of that.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it with this environment; what it says goes to the end of `log`.
    pub fn start(service: &str, environment: &[(String, String)], log: &Path) -> anyhow::Result<Self> {
        Self::start_with(service, &[], environment, log)
    }

    /// The same with arguments.
    pub fn start_with(
        service: &str,
        arguments: &[&str],
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(binary(service)?);
        command.args(arguments).envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn()?))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal by name: `KILL`, `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name}: {status}");
        Ok(())
    }

    /// What its threads have had of the processors, to a hundredth of a second.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.0.id().to_string())
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// How it ends, which it does within this time.
    pub fn end(mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < end, "process {} did not end within {within:?}", self.id());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// What a process, or `self`, has had of the processors.
pub fn cpu_of(process: &str) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit_once(')').context("no name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
