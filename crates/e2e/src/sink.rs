//! A sink of a test's own in the stack: topics and a database by its name, beside those of the pipeline, with the connectors' names.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::kafka::admin::{TopicSpec, ensure_topics};
use serde_json::Value;
use tokio_postgres::Client;

use crate::Stack;
use crate::process::{Process, run_to_end};

/// Nothing that is waited for takes longer, but on a machine that hangs.
const LONGEST: Duration = Duration::from_secs(180);

/// Topics, a database, and how the service is told of them.
pub struct Sink {
    /// The servers.
    pub stack: Stack,
    /// The topic of its trades.
    pub trades: String,
    /// The topic of its averages.
    pub averages: String,
    name: String,
    log: PathBuf,
}

impl Sink {
    /// Makes topics and database.
    pub async fn make(name: &str) -> anyhow::Result<Self> {
        // What an earlier run left in its topics is not this one's.
        let prefix = format!("{name}-{}", crate::published::now());
        Self::of(name, (format!("{prefix}.trades"), format!("{prefix}.moving-averages"))).await
    }

    /// The same for topics of trades and averages that others fill.
    pub async fn of(name: &str, (trades, averages): (String, String)) -> anyhow::Result<Self> {
        let sink = Self {
            stack: Stack::find()?,
            trades,
            averages,
            name: name.to_owned(),
            log: std::env::temp_dir().join(format!("{name}-{}.log", std::process::id())),
        };
        let specs = [&sink.trades, &sink.averages].map(|topic| TopicSpec {
            name: topic.clone(),
            key: "topics.trades",
            partitions: 6,
            replication_factor: -1,
            retention: None,
            max_message_bytes: None,
            compacted: false,
        });
        ensure_topics(&sink.stack.kafka()?, "e2e", &specs, LONGEST).await?;
        let client = crate::postgres::connect(&sink.stack).await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(sink)
    }

    /// What the service is told by its environment.
    pub fn environment(&self) -> anyhow::Result<Vec<(String, String)>> {
        let stack = &self.stack;
        let postgres =
            format!("postgresql://kstream@127.0.0.1:{}/{}", stack.port("POSTGRES_PORT")?, self.name);
        let password_file = stack.root().join("secrets/postgres_password");
        let settings = [
            ("KAFKA__BOOTSTRAP_SERVERS", stack.kafka()?.bootstrap_servers),
            ("SCHEMA_REGISTRY__URL", stack.registry()?.url.to_string()),
            ("CONNECT__URL", stack.url("CONNECT_PORT", "")?),
            ("CONNECT__WATCH_INTERVAL", "1s".into()),
            ("POSTGRES__URL", postgres),
            ("POSTGRES__PASSWORD_FILE", password_file.display().to_string()),
            ("TOPICS__TRADES", self.trades.clone()),
            ("TOPICS__MOVING_AVERAGES", self.averages.clone()),
            ("ADMIN__LISTEN", format!("127.0.0.1:{}", stack.port("JDBC_SINK_PORT")?)),
            ("TRACING__ZIPKIN_URL", String::new()),
            ("LOG__FORMAT", "json".into()),
        ];
        Ok(settings.into_iter().map(|(key, value)| (format!("KSTREAM__{key}"), value)).collect())
    }

    /// Starts the service with these settings besides, and waits until it is ready.
    pub async fn start(&self, settings: &[(&str, &str)]) -> anyhow::Result<Process> {
        let mut environment = self.environment()?;
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let process = Process::start("jdbc-sink", &environment, &self.log)?;
        self.until("jdbc-sink is ready", async || Ok(self.ready().await?.is_none())).await?;
        Ok(process)
    }

    /// Runs the service with a command of its own, to its end: its exit code and the JSON that it printed.
    pub fn ask(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let output = self.run(arguments)?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.code(), report))
    }

    /// Runs the service until it ends by itself.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let environment = self.environment()?;
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        run_to_end("jdbc-sink", arguments, &environment)
    }

    /// A connection to the database.
    pub async fn database(&self) -> anyhow::Result<Client> {
        crate::postgres::connect_to(&self.stack, &self.name).await
    }

    /// What the service waits for; `None` if it is ready.
    pub async fn ready(&self) -> anyhow::Result<Option<String>> {
        match crate::get(self.stack.url("JDBC_SINK_PORT", "/ready")?).await {
            Ok(answer) if answer.status().is_success() => Ok(None),
            Ok(answer) => Ok(Some(answer.text().await?)),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// The value of a metric of the service, by its name with labels; `None` if it is not there.
    pub async fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let text = crate::get(self.stack.url("JDBC_SINK_PORT", "/metrics")?).await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.map(str::parse).transpose()?)
    }

    /// Asks Connect something, by its REST API.
    pub async fn connect(&self, method: reqwest::Method, path: &str) -> anyhow::Result<()> {
        self.connect_with(method, path, None).await
    }

    /// The same with a body.
    pub async fn connect_with(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<()> {
        let url = self.stack.url("CONNECT_PORT", path)?;
        let end = Instant::now() + LONGEST;
        loop {
            let mut request = common::http::client()?.request(method.clone(), url.clone());
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer = request.send().await?;
            if answer.status().is_success() {
                return Ok(());
            }
            // What was asked before moves tasks about, and nothing else is taken meanwhile.
            let moving = answer.status() == reqwest::StatusCode::CONFLICT && Instant::now() < end;
            if !moving {
                bail!("kafka connect: {path}: {} {}", answer.status(), answer.text().await?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until it is so; `what` is for the message if it never is.
    pub async fn until(
        &self,
        what: &str,
        so: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.until_within(LONGEST, what, so).await
    }

    /// The same with a limit of one's own.
    pub async fn until_within(
        &self,
        longest: Duration,
        what: &str,
        mut so: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + longest;
        let mut last = None;
        while Instant::now() < end {
            match so().await {
                Ok(true) => return Ok(()),
                Ok(false) => last = None,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
        bail!(
            "not within {longest:?}: {what} (last error: {last:?}); /ready: {:?}; the service's last words:\n{}",
            self.ready().await,
            log.get(from..).unwrap_or_default()
        )
    }

    /// Takes away what is this test's alone.
    pub async fn throw_away(self) -> anyhow::Result<()> {
        for connector in ["kstream-trades", "kstream-moving-averages"] {
            self.connect(reqwest::Method::DELETE, &format!("/connectors/{connector}")).await?;
        }
        let client = crate::postgres::connect(&self.stack).await?;
        client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?;
        std::fs::remove_file(&self.log).ok();
        Ok(())
    }
}
