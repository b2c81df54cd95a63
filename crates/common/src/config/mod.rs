//! Configuration in layers: the service's defaults, then `--config FILE`, then the environment.
//!
//! `config/<service>.toml` is compiled in and lists every key. An unknown key is an error that names the nearest known one. A key without a
//! default has the value `""` there, which means "unset".

mod duration;
mod effective;
mod environment;
mod keys;
mod shared;

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::Failure;

pub use duration::{Duration, list, read_secret};
pub use effective::{Effective, Flag};
pub use shared::{
    AdminConfig, CommonConfig, KafkaConfig, LogConfig, LogFormat, SchemaRegistryConfig, TopicsConfig,
    TracingConfig,
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

    /// Every value that its type allows and the service does not.
    fn check(&self) -> Vec<Invalid>;

    /// The values in force of unset keys that follow from other keys: key and value. `--print-config` shows them.
    fn derived(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
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
/// [`Failure::Config`] that names each key, its value, and what is expected.
pub fn load<C: ServiceConfig>(file: Option<&Path>) -> Result<C, Failure> {
    load_from(file, process_environment())
}

/// As [`load`], with the environment given.
///
/// # Errors
/// As [`load`].
pub fn load_from<C: ServiceConfig>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<C, Failure> {
    Effective::merge::<C>(file, environment, &[])?.check()
}

/// The process environment; variables that are not UTF-8 are left out.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

#[cfg(test)]
mod tests;
