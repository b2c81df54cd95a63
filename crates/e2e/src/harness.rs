//! What each test over the servers starts with: the servers, the settings that lead services to them, and a folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::eventually::PATIENCE;
use crate::servers::Servers;
use crate::service::{Service, ServiceExit};

/// Starts services over the servers. Clones share their folder.
#[derive(Debug, Clone)]
pub struct Harness {
    /// The servers.
    pub servers: Servers,
    /// The settings that every service starts with, as [`Launch::set`] takes them.
    pub env: BTreeMap<String, String>,
    name: String,
    folder: Arc<TestFolder>,
}

/// How a service is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    env: BTreeMap<String, String>,
    arguments: Vec<String>,
    failpoint: Option<String>,
    disabled_guarantee: Option<&'static str>,
}

/// The folder of one test. It is kept if the test panics.
#[derive(Debug)]
pub(crate) struct TestFolder {
    path: TempDir,
    started: AtomicU32,
}

impl TestFolder {
    /// Files for the output of another service: standard output, standard error.
    pub(crate) fn output_of(&self, program: &str) -> [PathBuf; 2] {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        ["out", "log"].map(|of| self.path.path().join(format!("{program}.{number}.{of}")))
    }
}

impl Harness {
    /// For the test of that name: topics, groups and files that begin with [`Self::name`] are its own.
    pub fn new(test: &str) -> anyhow::Result<Self> {
        let servers = Servers::find()?;
        let env = BTreeMap::from([
            ("KAFKA__BOOTSTRAP_SERVERS".to_owned(), servers.kafka()?.bootstrap_servers),
            ("SCHEMA_REGISTRY__URL".to_owned(), servers.registry()?.url.to_string()),
            ("ADMIN__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("TRACING__ZIPKIN_URL".to_owned(), String::new()),
            ("LOG__FORMAT".to_owned(), "json".to_owned()),
        ]);
        let path = tempfile::Builder::new().prefix(&format!("kstream-{test}-")).tempdir()?;
        let folder = Arc::new(TestFolder { path, started: AtomicU32::new(0) });
        Ok(Self { servers, env, name: format!("{test}-{}", std::process::id()), folder })
    }

    /// The test's name with the process id, so that a second run over the same servers finds nothing of the first.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file in the test's folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path.path().join(name)
    }

    /// The settings that lead a service to the servers.
    #[must_use]
    pub fn launch(&self) -> Launch {
        Launch { env: self.env.clone(), ..Launch::default() }
    }

    /// Starts a service.
    pub fn spawn(&self, program: &str, launch: &Launch) -> anyhow::Result<Service> {
        let mut command = Command::new(launch.folder()?.join(program));
        command.args(&launch.arguments);
        command.envs(launch.env.iter().map(|(key, value)| (format!("KSTREAM__{key}"), value)));
        command.envs(launch.failpoint.iter().map(|point| ("KSTREAM_FAILPOINT", point)));
        command
            .envs(launch.disabled_guarantee.iter().map(|guarantee| ("KSTREAM_DISABLE_GUARANTEE", guarantee)));
        Service::spawn(command, Arc::clone(&self.folder))
    }

    /// Runs a service until it ends by itself.
    pub async fn run(&self, program: &str, launch: &Launch) -> anyhow::Result<ServiceExit> {
        let exit = self.spawn(program, launch)?.exit(PATIENCE / 2).await;
        exit.with_context(|| format!("{program} {:?}", launch.arguments))
    }
}

impl Launch {
    /// Sets a configuration key by its environment variable, less the prefix `KSTREAM__`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// The value of a key, if it is set.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.env.get(key).map(String::as_str)
    }

    /// Adds command-line arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Arms a failpoint, as [`common::failpoint`] describes.
    #[must_use]
    pub fn failpoint(mut self, point: Option<String>) -> Self {
        self.failpoint = point;
        self
    }

    /// Disables a guarantee, as [`common::failpoint`] describes.
    #[must_use]
    pub fn disable_guarantee(mut self, guarantee: Option<&'static str>) -> Self {
        self.disabled_guarantee = guarantee;
        self
    }

    /// `KSTREAM_BIN`, or else the folder of the binaries that were built with the test. Only those have the failpoints.
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let released = std::env::var_os("KSTREAM_BIN").map(PathBuf::from);
        if let Some(folder) =
            released.filter(|_| self.failpoint.is_none() && self.disabled_guarantee.is_none())
        {
            return Ok(folder);
        }
        let test = std::env::current_exe()?;
        test.ancestors().nth(2).map(Path::to_owned).context("a test lies in deps")
    }
}

impl Drop for TestFolder {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the test that has failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.path.disable_cleanup(true);
            eprintln!("--- logs of all services of the test: {}", self.path.path().display());
        }
    }
}
