//! The servers that the tests talk to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};
use common::config::{KafkaConfig, SchemaRegistryConfig};

/// The running servers of one state folder.
#[derive(Debug, Clone)]
pub struct Servers {
    ports: BTreeMap<String, u16>,
    root: PathBuf,
}

/// A fault of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFault {
    /// Stops it as `make down` does.
    Stop,
    /// Starts it, and waits until it is healthy.
    Start,
    /// `kill -9`; its supervisor starts it again.
    Kill,
}

impl Servers {
    /// Reads the ports from the state folder that `KSTREAM_STATE` names; default: the checkout's.
    pub fn find() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let state = std::env::var_os("KSTREAM_STATE").map_or_else(|| PathBuf::from(".run"), PathBuf::from);
        let file = root.join(state).join("ports");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}; `make servers` starts the servers", file.display()))?;
        let line = |line: &str| {
            let (name, port) = line.split_once('=')?;
            Some((name.to_owned(), port.trim().parse().ok()?))
        };
        Ok(Self { ports: text.lines().filter_map(line).collect(), root })
    }

    /// The port that scripts call `name`, such as `KAFKA_PORT`.
    pub fn port(&self, name: &str) -> anyhow::Result<u16> {
        self.ports.get(name).copied().ok_or_else(|| anyhow!("the state folder names no {name}"))
    }

    /// The checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `http://127.0.0.1:<port>` and `path`.
    pub fn url(&self, port: &str, path: &str) -> anyhow::Result<String> {
        Ok(format!("http://127.0.0.1:{}{path}", self.port(port)?))
    }

    /// Settings of Kafka clients.
    pub fn kafka(&self) -> anyhow::Result<KafkaConfig> {
        let bootstrap_servers = format!("127.0.0.1:{}", self.port("KAFKA_PORT")?);
        Ok(KafkaConfig { bootstrap_servers, properties: BTreeMap::new() })
    }

    /// Settings of the schema registry's clients.
    pub fn registry(&self) -> anyhow::Result<SchemaRegistryConfig> {
        let url = self.url("REGISTRY_PORT", "/apis/ccompat/v7")?.parse()?;
        Ok(SchemaRegistryConfig { url, username: None, password_file: None })
    }

    /// Injects a fault into `kafka`, `registry`, `connect`, `postgres` or `zipkin`.
    pub async fn inject(&self, fault: ServerFault, server: &'static str) -> anyhow::Result<()> {
        let action = match fault {
            ServerFault::Stop => "stop",
            ServerFault::Start => "start",
            ServerFault::Kill => "kill",
        };
        let mut script = Command::new(self.root.join("scripts/native/inject_fault.sh"));
        script.args([action, server]);
        let output = tokio::task::spawn_blocking(move || script.output()).await??;
        ensure!(output.status.success(), "{action} {server}: {output:?}");
        Ok(())
    }
}
