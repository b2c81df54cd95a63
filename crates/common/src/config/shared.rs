//! The parts of a configuration that several services share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::{Duration, Invalid};
use crate::kafka::client::PINNED_PROPERTIES;

/// The keys that every service with a Kafka client has.
#[derive(Debug, Clone, Deserialize)]
pub struct CommonConfig {
    /// How long each server may take to become available at startup.
    pub startup_deadline: Duration,
    /// How long all tasks may take to end.
    pub shutdown_deadline: Duration,
    /// `[kafka]`: brokers and further client properties.
    pub kafka: KafkaConfig,
    /// `[schema_registry]`: address and login.
    pub schema_registry: SchemaRegistryConfig,
    /// `[topics]`: names and settings of the topics.
    pub topics: TopicsConfig,
    /// `[admin]`: the address of `/live`, `/ready` and `/metrics`.
    pub admin: AdminConfig,
    /// `[log]`: format and filter.
    pub log: LogConfig,
    /// `[tracing]`: where spans are sent.
    pub tracing: TracingConfig,
}

impl CommonConfig {
    /// Every invalid value of the shared keys.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        self.kafka.check().into_iter().chain(self.topics.check()).collect()
    }
}

/// `[admin]`: where `/live`, `/ready` and `/metrics` are served.
#[derive(Debug, Clone, Deserialize)]
pub struct AdminConfig {
    /// Address and port; port 0 is any free port.
    pub listen: SocketAddr,
}

/// `[log]`: format and filter of log lines.
#[derive(Debug, Clone, Deserialize)]
pub struct LogConfig {
    /// Unset: pretty on a terminal, otherwise JSON.
    pub format: Option<LogFormat>,
    /// Directives such as `info,raw_producer=debug`.
    pub filter: String,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people, in colour on a terminal.
    Pretty,
}

/// `[tracing]`: where spans are sent, and how many.
#[derive(Debug, Clone, Deserialize)]
pub struct TracingConfig {
    /// Zipkin's span collector; unset: no traces.
    #[serde(deserialize_with = "optional_url")]
    pub zipkin_url: Option<Url>,
    /// One trade in this many is traced; 0 traces none.
    pub sample_one_in: u32,
}

/// `[kafka]`: brokers and further client properties.
#[derive(Debug, Clone, Deserialize)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Further librdkafka properties for TLS, SASL or tuning.
    #[serde(default, deserialize_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// An empty address, and properties that the guarantees depend on, are invalid.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let pinned = self.properties.iter().filter(|(name, _)| PINNED_PROPERTIES.contains(&name.as_str()));
        let mut invalid: Vec<_> = pinned
            .map(|(name, value)| {
                let allowed =
                    "no value here: what the services promise rests on it, so they set it themselves";
                Invalid::new(format!("kafka.properties.{name}"), format!("{value:?}"), allowed)
            })
            .collect();
        if self.bootstrap_servers.trim().is_empty() {
            invalid.push(Invalid::new("kafka.bootstrap_servers", "\"\"", "host:port, several with commas"));
        }
        invalid
    }
}

/// `[schema_registry]`: address and login.
#[derive(Debug, Clone, Deserialize)]
pub struct SchemaRegistryConfig {
    /// Base URL of a Confluent-compatible API.
    pub url: Url,
    /// User for basic authentication, together with `password_file`.
    pub username: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
}

/// `[topics]`: names and settings of the topics.
#[derive(Debug, Clone, Deserialize)]
pub struct TopicsConfig {
    /// The topic of raw trades.
    pub trades: String,
    /// The topic of candles: closed slices.
    pub candles: String,
    /// The topic of averages: one record for each instrument and window.
    pub moving_averages: String,
    /// The topic of trades that are too late for their window.
    pub late: String,
    /// The topic of records that cannot be decoded.
    pub dead_letter: String,
    /// Partitions of each topic keyed by instrument, when a service creates it.
    pub partitions: i32,
    /// Replicas of each topic that a service creates; -1 is the broker's default.
    pub replication_factor: i32,
    /// How long topics keep their records; trades are kept forever.
    pub retention: Duration,
}

impl TopicsConfig {
    /// Names that Kafka rejects, names used twice, and impossible numbers are invalid.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let names = [
            ("trades", &self.trades),
            ("candles", &self.candles),
            ("moving_averages", &self.moving_averages),
            ("late", &self.late),
            ("dead_letter", &self.dead_letter),
        ];
        let legal = |name: &str| {
            (1..=249).contains(&name.len())
                && name != "."
                && name != ".."
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let mut invalid: Vec<_> = names
            .iter()
            .filter(|(_, name)| !legal(name))
            .map(|(key, name)| {
                Invalid::new(format!("topics.{key}"), format!("{name:?}"), "1 to 249 of a-z A-Z 0-9 . _ -")
            })
            .collect();
        for (at, (key, name)) in names.iter().enumerate() {
            if let Some((other, _)) = names.iter().take(at).find(|(_, earlier)| earlier == name) {
                let allowed = format!("another topic than topics.{other}");
                invalid.push(Invalid::new(format!("topics.{key}"), format!("{name:?}"), allowed));
            }
        }
        if self.partitions < 1 {
            invalid.push(Invalid::new("topics.partitions", self.partitions, "1 or more"));
        }
        if self.replication_factor < 1 && self.replication_factor != -1 {
            invalid.push(Invalid::new(
                "topics.replication_factor",
                self.replication_factor,
                "1 or more, or -1",
            ));
        }
        invalid
    }
}

fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |error| {
        de::Error::custom(format!("invalid value {text:?}; expected a URL, or nothing at all ({error})"))
    };
    Url::parse(&text).map(Some).map_err(refused)
}

/// Accepts dotted names whether the file quotes or nests them.
fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Node {
        Flag(bool),
        Whole(i64),
        Number(f64),
        Text(String),
        Inner(BTreeMap<String, Node>),
    }
    fn collect(prefix: &str, nodes: BTreeMap<String, Node>, into: &mut BTreeMap<String, String>) {
        for (name, node) in nodes {
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let value = match node {
                Node::Inner(inner) => {
                    collect(&name, inner, into);
                    continue;
                }
                Node::Flag(flag) => flag.to_string(),
                Node::Whole(number) => number.to_string(),
                Node::Number(number) => number.to_string(),
                Node::Text(text) => text,
            };
            into.insert(name, value);
        }
    }
    let mut flat = BTreeMap::new();
    collect("", BTreeMap::deserialize(deserializer)?, &mut flat);
    Ok(flat)
}

/// Deserializes a list, or text with commas, as in an environment variable.
///
/// # Errors
/// If the value is neither.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(items) => items,
        Either::Text(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    })
}
