//! Our services as processes, for what only a process shows: its exit code and its last words.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Where cargo put the services' binaries; `KSTREAM_BIN` says so.
fn folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("KSTREAM_BIN")
        .context("KSTREAM_BIN must name the folder of the services' binaries")?;
    Ok(PathBuf::from(folder))
}

/// Where the binaries lie beside the test that asks: these are built with the failpoints, as the tests are; released ones are not.
pub fn folder_with_points() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.ancestors().nth(2).context("a test lies in deps")?.to_owned())
}

/// Runs a service with these arguments and environment until it ends by itself.
pub fn run_to_end(
    service: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> anyhow::Result<Output> {
    const WITHIN: Duration = Duration::from_secs(180);
    let mut command = Command::new(folder()?.join(service));
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

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time, of the user and the system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Usage {
    /// Of the process of that id, by `/proc`.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        /// Of Linux on every machine that we build for.
        const TICKS_A_SECOND: u32 = 100;
        const PAGE: u64 = 4096;
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, which may hold anything, ends with the last bracket; two fields behind it is the third.
        let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).context("too few fields")?.parse::<u32>().context("no number");
        let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
        let pages: u64 = statm.split_whitespace().nth(1).context("too few fields")?.parse()?;
        Ok(Self {
            cpu: Duration::from_secs(1) * (ticks(11)? + ticks(12)?) / TICKS_A_SECOND,
            resident: pages * PAGE,
        })
    }
}

/// How long a process may take to be able to stop.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// SIGTERM in the masks of `/proc`.
const TERM_BIT: u64 = 1 << 14;

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
        let mut command = Command::new(folder()?.join(service));
        command.args(arguments);
        Self::spawn(command, environment, log)
    }

    /// As [`Process::start`], of the binaries in that folder.
    pub fn start_in(
        folder: &Path,
        service: &str,
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::spawn(Command::new(folder.join(service)), environment, log)
    }

    fn spawn(mut command: Command, environment: &[(String, String)], log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn()?))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal by name: `KILL`, `STOP`, `CONT`, `TERM`.
    ///
    /// `TERM` waits until the process listens to it: one that has just been started would die of it instead of stopping.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let until = Instant::now() + LISTENS_WITHIN;
        while name == "TERM" && !self.listens_to_term()? && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name}: {status}");
        Ok(())
    }

    /// Whether it catches SIGTERM; one that has ended need not.
    fn listens_to_term(&self) -> anyhow::Result<bool> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let caught = u64::from_str_radix(field("SigCgt:").unwrap_or_default(), 16)?;
        Ok(caught & TERM_BIT != 0 || field("State:").is_some_and(|state| state.starts_with('Z')))
    }

    /// Whether it has been stopped, and goes on only when it is told to.
    pub fn is_stopped(&self) -> anyhow::Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        Ok(stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T')))
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.id())
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

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
