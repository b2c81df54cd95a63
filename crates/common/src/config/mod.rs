//! Configuration in layers: the service's defaults, then `--config FILE`, then the environment.
//!
//! `config/<service>.toml` is compiled in and is the list of keys: a key that it does not show is refused, with the
//! nearest one that it does. A key without a default stands there as a comment of the form `# key = value`.

mod duration;
mod environment;
mod keys;
mod shared;

use std::path::Path;

use ::config::{Config as Layers, File, FileFormat};
use serde::de::DeserializeOwned;

use crate::Failure;
use keys::{Keys, Layer};

pub use duration::{Duration, list, read_secret};
pub use shared::{
    AdminConfig, KafkaConfig, LogConfig, LogFormat, SchemaRegistryConfig, TopicsConfig, TracingConfig,
};

/// The services whose keys one environment may hold side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Websocket to Kafka.
    RawProducer,
    /// Trades to moving averages.
    AggProducer,
    /// Tables and connectors.
    JdbcSink,
    /// The stand-in exchange.
    DeribitSim,
}

impl Service {
    /// Every service of the project.
    pub const ALL: [Self; 4] = [Self::RawProducer, Self::AggProducer, Self::JdbcSink, Self::DeribitSim];

    /// The binary's name, which is also its name in logs, traces and `config/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawProducer => "raw-producer",
            Self::AggProducer => "agg-producer",
            Self::JdbcSink => "jdbc-sink",
            Self::DeribitSim => "deribit-sim",
        }
    }

    /// `config/<service>.toml` as it was when the binary was built.
    #[must_use]
    pub const fn defaults(self) -> &'static str {
        match self {
            Self::RawProducer => include_str!("../../../../config/raw-producer.toml"),
            Self::AggProducer => include_str!("../../../../config/agg-producer.toml"),
            Self::JdbcSink => include_str!("../../../../config/jdbc-sink.toml"),
            Self::DeribitSim => include_str!("../../../../config/deribit-sim.toml"),
        }
    }
}

/// A service's configuration as a type.
pub trait ServiceConfig: DeserializeOwned {
    /// Whose configuration it is.
    const SERVICE: Service;

    /// Its `[admin]`.
    fn admin(&self) -> &AdminConfig;

    /// What the types cannot say: every value that does not fit with another or with the world.
    fn check(&self) -> Vec<Invalid>;
}

/// A configuration key that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    key: String,
    problem: String,
}

impl Invalid {
    /// The key has a value that does not fit.
    pub fn new(key: impl Into<String>, got: impl std::fmt::Display, expected: impl AsRef<str>) -> Self {
        let expected = expected.as_ref();
        Self { key: key.into(), problem: format!("invalid value {got}; expected {expected}") }
    }

    /// The key needs a value and has none.
    pub fn missing(key: impl Into<String>, expected: impl AsRef<str>) -> Self {
        Self { key: key.into(), problem: format!("no value; expected {}", expected.as_ref()) }
    }
}

/// Loads and checks the configuration of a service from its defaults, `file` and the process environment.
///
/// # Errors
/// [`Failure::Config`] that names each key, what it got and what it takes.
pub fn load<C: ServiceConfig>(file: Option<&Path>) -> Result<C, Failure> {
    load_from(
        file,
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )
}

/// As [`load`], with the environment given.
///
/// # Errors
/// As [`load`].
pub fn load_from<C: ServiceConfig>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<C, Failure> {
    let refused = |problems: Vec<Invalid>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::Config(format!("bad configuration: {}", lines.join("; ")))
    };
    let keys = Keys::of(C::SERVICE);
    let mut layers = Layers::builder().add_source(File::from_str(C::SERVICE.defaults(), FileFormat::Toml));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Config(format!("--config: cannot read {}: {error}", path.display())))?;
        let unknown = keys
            .unknown_in(Layer::File(path), &text)
            .map_err(|error| Failure::Config(format!("--config {}: not TOML: {error}", path.display())))?;
        if !unknown.is_empty() {
            return Err(refused(unknown));
        }
        layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
    }
    for (key, value) in environment::overrides(&keys, environment).map_err(refused)? {
        layers = layers
            .set_override(&key, value)
            .map_err(|error| Failure::Config(format!("bad configuration: {key}: {error}")))?;
    }
    let config: C = layers
        .build()
        .and_then(Layers::try_deserialize)
        .map_err(|error| Failure::Config(format!("bad configuration: {error}")))?;
    let invalid = config.check();
    if invalid.is_empty() { Ok(config) } else { Err(refused(invalid)) }
}

#[cfg(test)]
mod tests;
