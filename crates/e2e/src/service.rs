//! Our services as processes: their metrics, their readiness, and how they end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use procfs::net::TcpState;
use procfs::process::{FDTarget, ProcState, Process};

use crate::eventually::{PATIENCE, eventually};
use crate::harness::TestFolder;
use crate::metrics::Scrape;

/// A service that answers later has just started, is frozen or very busy: it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of its log a service shows when its test fails.
const LOG_TAIL: usize = 4_000;
/// SIGTERM in the masks of `/proc`.
const TERM_BIT: u64 = 1 << 14;

/// A service that runs until it is told to end; killed when it is dropped. Shows the end of its log if its test panics.
#[derive(Debug)]
pub struct Service {
    child: Child,
    program: String,
    stdout: PathBuf,
    stderr: PathBuf,
    admin: OnceLock<SocketAddr>,
    /// Holds its output.
    _folder: Arc<TestFolder>,
}

/// How a service ended.
#[derive(Debug, Clone)]
pub struct ServiceExit {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// Its error messages; not what it logged before.
    pub error: String,
}

impl Service {
    /// Starts a command whose output goes into the folder.
    pub(crate) fn spawn(mut command: Command, folder: Arc<TestFolder>) -> anyhow::Result<Self> {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let [stdout, stderr] = folder.output_of(&name);
        command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, program: name, stdout, stderr, admin: OnceLock::new(), _folder: folder })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn process(&self) -> anyhow::Result<Process> {
        Ok(Process::new(self.id().cast_signed())?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(signal::kill(Pid::from_raw(self.id().cast_signed()), signal)?)
    }

    /// Sends SIGTERM as soon as the service handles it, and waits for its end. A process that has just been started would die of SIGTERM
    /// instead of stopping.
    pub async fn terminate(self) -> anyhow::Result<ServiceExit> {
        let handled = async || {
            let status = self.process()?.status()?;
            Ok(status.sigcgt & TERM_BIT != 0 || status.state.starts_with('Z'))
        };
        eventually(PATIENCE, &format!("{} handles SIGTERM", self.program), handled).await?;
        self.signal(Signal::SIGTERM)?;
        self.exit(PATIENCE).await
    }

    /// Stops it as `make down` does; it must end with 0.
    pub async fn stop(self) -> anyhow::Result<()> {
        let stderr = self.stderr.clone();
        let exit = self.terminate().await?;
        ensure!(exit.status.success(), "asked to stop: {exit:?}\n{}", tail(&stderr));
        Ok(())
    }

    /// Whether it is stopped by SIGSTOP.
    pub fn is_stopped(&self) -> anyhow::Result<bool> {
        Ok(self.process()?.stat()?.state()? == ProcState::Stopped)
    }

    /// The resources that it has used so far.
    pub fn usage(&self) -> anyhow::Result<ProcessUsage> {
        ProcessUsage::of(self.id())
    }

    /// Where its admin endpoint listens: on its only port, which the system has chosen.
    fn admin(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.admin.get() {
            return Ok(*address);
        }
        let process = self.process()?;
        let targets = process.fd()?.filter_map(|descriptor| Some(descriptor.ok()?.target));
        let sockets: Vec<u64> = targets
            .filter_map(|target| if let FDTarget::Socket(inode) = target { Some(inode) } else { None })
            .collect();
        let listens = |entry: &procfs::net::TcpNetEntry| {
            entry.state == TcpState::Listen && sockets.contains(&entry.inode)
        };
        let entry = process.tcp()?.into_iter().find(listens);
        let address = entry.with_context(|| format!("{} does not listen yet", self.program))?.local_address;
        Ok(*self.admin.get_or_init(|| address))
    }

    async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = crate::http().get(format!("http://{}{path}", self.admin()?));
        Ok(request.timeout(ANSWER_TIMEOUT).send().await?)
    }

    /// The reasons why it is not ready; `None` if it is.
    pub async fn not_ready(&self) -> anyhow::Result<Option<String>> {
        let answer = self.get("/ready").await?;
        Ok(if answer.status().is_success() { None } else { Some(answer.text().await?) })
    }

    /// Waits until it is ready.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = async || match self.not_ready().await? {
            None => Ok(true),
            Some(why) => bail!("{why}"),
        };
        eventually(PATIENCE, &format!("{} is ready", self.program), ready).await
    }

    /// Its metrics at this moment.
    pub async fn metrics(&self) -> anyhow::Result<Scrape> {
        Ok(Scrape(self.get("/metrics").await?.text().await?))
    }

    /// Waits until its metric of that name is at least that high.
    pub async fn wait_until_metric(&self, name: &str, at_least: f64) -> anyhow::Result<()> {
        let high_enough = async || Ok(self.metrics().await?.get(name)? >= at_least);
        eventually(PATIENCE, &format!("{name} >= {at_least}"), high_enough).await
    }

    /// How it ended, if it has.
    pub fn try_exit(&mut self) -> anyhow::Result<Option<ServiceExit>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let stderr = std::fs::read_to_string(&self.stderr)?;
        let errors: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
        let stdout = std::fs::read_to_string(&self.stdout)?;
        Ok(Some(ServiceExit { status, stdout, error: errors.join("\n") }))
    }

    /// Waits for its end.
    pub async fn exit(mut self, within: Duration) -> anyhow::Result<ServiceExit> {
        let end = Instant::now() + within;
        loop {
            if let Some(exit) = self.try_exit()? {
                return Ok(exit);
            }
            ensure!(Instant::now() < end, "{} did not end within {within:?}", self.program);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Service {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the test that has failed")]
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- {} pid {}:\n{}", self.program, self.id(), tail(&self.stderr));
        }
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let mut log = std::fs::read_to_string(log).unwrap_or_default();
    log.split_off(log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL)))
}

impl ServiceExit {
    /// Its exit code; `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether another process has taken its place in the consumer group: the message names the setting that keeps the two apart.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.code() == Some(1) && self.names("instance")
    }

    /// Whether it was not done within its deadline.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.code() == Some(1) && self.names("shutdown_deadline")
    }

    /// Whether its error names that thing (a key, a value, a topic, a number), not just as part of a longer word.
    #[must_use]
    pub fn names(&self, thing: &str) -> bool {
        self.error.match_indices(thing).any(|(at, _)| {
            let before = self.error.get(..at).and_then(|text| text.chars().next_back());
            let behind = self.error.get(at + thing.len()..).and_then(|text| text.chars().next());
            ![before, behind].into_iter().flatten().any(char::is_alphanumeric)
        })
    }

    /// Fails unless it ended with that code and its error names all of these things.
    pub fn check(&self, code: i32, things: &[&str]) -> anyhow::Result<()> {
        ensure!(self.code() == Some(code), "it ended with {:?}, not {code}: {}", self.status, self.error);
        let missing: Vec<_> = things.iter().filter(|thing| !self.names(thing)).collect();
        ensure!(missing.is_empty(), "{missing:?} are not in: {}", self.error);
        Ok(())
    }
}

/// The resources that a process has used.
#[derive(Debug, Clone, Copy)]
pub struct ProcessUsage {
    /// CPU time, of the user and the system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl ProcessUsage {
    /// The usage of the process of that id.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let stat = Process::new(process.cast_signed())?.stat()?;
        let ticks = u32::try_from(stat.utime + stat.stime)?;
        Ok(Self {
            cpu: Duration::from_secs(1) * ticks / u32::try_from(procfs::ticks_per_second())?,
            resident: stat.rss * procfs::page_size(),
        })
    }
}
