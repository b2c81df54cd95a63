//! Our services as processes: their metrics, whether they are ready, how they end and what they say then.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal;
pub use nix::sys::signal::Signal;
use nix::unistd::Pid;
use procfs::net::TcpState;
use procfs::process::{FDTarget, ProcState, Process as Proc};

use crate::metrics::Scrape;

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

/// Whether an error names that thing: a key, a value, a topic, a number; not as a part of a longer word.
#[must_use]
pub fn names(error: &str, thing: &str) -> bool {
    let ends = |rest: &str, next: fn(&str) -> Option<char>| !next(rest).is_some_and(char::is_alphanumeric);
    error.match_indices(thing).any(|(at, _)| {
        let (before, behind) =
            (error.get(..at).unwrap_or_default(), error.get(at + thing.len()..).unwrap_or_default());
        ends(before, |text| text.chars().next_back()) && ends(behind, |text| text.chars().next())
    })
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
        let stat = Proc::new(process.cast_signed())?.stat()?;
        let ticks = u32::try_from(stat.utime + stat.stime)?;
        Ok(Self {
            cpu: Duration::from_secs(1) * ticks / u32::try_from(procfs::ticks_per_second())?,
            resident: stat.rss * procfs::page_size(),
        })
    }
}

/// How long a process may take to be able to stop.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// SIGTERM in the masks of `/proc`.
const TERM_BIT: u64 = 1 << 14;
/// A service answers at once, or it has just started, is asleep or busy: then it is asked again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// A service that runs until it is told to end; killed with its test, whatever becomes of that.
#[derive(Debug)]
pub struct Process {
    child: Child,
    service: String,
    log: PathBuf,
}

/// How a service ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The error that it printed last; empty without one.
    pub error: String,
}

impl Ended {
    /// Ended with 1, as another has taken its place in the group: the message names the setting that keeps two processes apart.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.status.code() == Some(1) && self.error.contains("`instance`")
    }

    /// Ended with 1, as it was not done within its deadline.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.status.code() == Some(1) && self.error.contains("shutdown_deadline")
    }
}

impl Process {
    /// Starts it with this environment; what it logs goes into a file of its own, whose name begins with `log`.
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
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = log.with_extension(format!("{number}.log"));
        let file = File::create(&log)?;
        command.envs(environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let service = Path::new(command.get_program()).file_name().unwrap_or_default();
        let service = service.to_string_lossy().into_owned();
        Ok(Self { child: command.spawn()?, service, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn proc(&self) -> anyhow::Result<Proc> {
        Ok(Proc::new(self.id().cast_signed())?)
    }

    /// Sends it a signal.
    ///
    /// SIGTERM waits until the process listens to it: one that has just been started would die of it instead of stopping.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let until = Instant::now() + LISTENS_WITHIN;
        while signal == Signal::SIGTERM && !self.listens_to_term()? && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(signal::kill(Pid::from_raw(self.id().cast_signed()), signal)?)
    }

    /// Whether it catches SIGTERM; one that has ended need not.
    fn listens_to_term(&self) -> anyhow::Result<bool> {
        let status = self.proc()?.status()?;
        Ok(status.sigcgt & TERM_BIT != 0 || status.state.starts_with('Z'))
    }

    /// Whether it has been stopped, and goes on only when it is told to.
    pub fn is_stopped(&self) -> anyhow::Result<bool> {
        Ok(self.proc()?.stat()?.state()? == ProcState::Stopped)
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.id())
    }

    /// Where its admin endpoint listens, the only port that it has; `None` as long as it does not listen.
    pub fn admin(&self) -> anyhow::Result<Option<SocketAddr>> {
        let process = self.proc()?;
        let mut sockets = Vec::new();
        for descriptor in process.fd()? {
            if let Ok(FDTarget::Socket(inode)) = descriptor.map(|descriptor| descriptor.target) {
                sockets.push(inode);
            }
        }
        let listening = process
            .tcp()?
            .into_iter()
            .find(|entry| entry.state == TcpState::Listen && sockets.contains(&entry.inode));
        Ok(listening.map(|entry| entry.local_address))
    }

    /// Asks its admin endpoint.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let address = self.admin()?.with_context(|| format!("{} does not listen yet", self.service))?;
        let request = crate::http().get(format!("http://{address}{path}"));
        Ok(request.timeout(ANSWERS_WITHIN).send().await?)
    }

    /// Whether it is ready.
    pub async fn is_ready(&self) -> bool {
        self.get("/ready").await.is_ok_and(|answer| answer.status().is_success())
    }

    /// What its metrics are now; none as long as it does not answer.
    pub async fn metrics(&self) -> Scrape {
        let text = async || anyhow::Ok(self.get("/metrics").await?.text().await?);
        Scrape(text().await.unwrap_or_default())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<Ended>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let said = std::fs::read_to_string(&self.log)?;
        let begins = format!("{}: ", self.service);
        let error = said.lines().rev().find(|line| line.starts_with(&begins)).unwrap_or_default().to_owned();
        Ok(Some(Ended { status, error }))
    }

    /// How it ends, which it does within this time.
    pub fn end(mut self, within: Duration) -> anyhow::Result<Ended> {
        let end = Instant::now() + within;
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            anyhow::ensure!(Instant::now() < end, "process {} did not end within {within:?}", self.id());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
