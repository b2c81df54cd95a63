//! Configuration in layers: defaults, then `--config FILE`, then the environment, then flags.
//!
//! `config/<service>.toml` is compiled in and lists every key. An unknown key is an error that names the nearest known one. A key without a
//! default has the value `""` there, which means "unset".

mod duration;
mod effective;
mod environment;
mod keys;
mod secret;
mod shared;

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::Failure;

pub use duration::Duration;
pub(crate) use effective::Effective;
pub use effective::Flag;
pub use secret::read_secret;
pub use shared::{
    AdminConfig, CommonConfig, KafkaConfig, LogConfig, LogFormat, SchemaRegistryConfig, TopicsConfig,
    TracingConfig, list,
};

/// The services of the project. One environment may have the keys of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Reads the exchange's websocket and writes to Kafka.
    RawProducer,
    /// Aggregates trades to candles and moving averages.
    AggProducer,
    /// Manages the Postgres tables and the connectors.
    JdbcSink,
    /// Simulates the exchange for tests and demos.
    DeribitSim,
}

impl Service {
    /// All services of the project.
    pub const ALL: [Self; 4] = [Self::RawProducer, Self::AggProducer, Self::JdbcSink, Self::DeribitSim];

    /// The name of the binary, also in logs, traces and `config/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawProducer => "raw-producer",
            Self::AggProducer => "agg-producer",
            Self::JdbcSink => "jdbc-sink",
            Self::DeribitSim => "deribit-sim",
        }
    }

    /// The text of `config/<service>.toml` at build time.
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

/// A service's configuration as a type, composed of the keys that services share and its own.
///
/// The two halves are deserialized one after the other, and not by serde's `flatten`: an error inside a flattened struct does not name its
/// key, and the code for it is a copy of all deserializers.
pub trait ServiceConfig: Sized {
    /// The service that it configures.
    const SERVICE: Service;

    /// The shared keys: [`CommonConfig`], or [`serde::de::IgnoredAny`] for a service that lacks some of them.
    type Common: DeserializeOwned;

    /// All other keys.
    type Own: DeserializeOwned;

    /// Composes the configuration.
    fn new(common: Self::Common, own: Self::Own) -> Self;

    /// The `[admin]` section, for `health`.
    fn admin(&self) -> &AdminConfig;

    /// The invalid values, as far as types do not exclude them.
    fn check(&self) -> Vec<Invalid>;

    /// For each unset key that follows another key: the key and its value in force, for `--print-config`.
    fn derived(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// An invalid configuration key, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    key: String,
    problem: String,
}

impl Invalid {
    /// The key has an invalid value.
    pub fn new(key: impl Into<String>, got: impl std::fmt::Display, expected: impl AsRef<str>) -> Self {
        let expected = expected.as_ref();
        Self { key: key.into(), problem: format!("invalid value {got}; expected {expected}") }
    }

    /// The key has no value and needs one.
    pub fn missing(key: impl Into<String>, expected: impl AsRef<str>) -> Self {
        Self { key: key.into(), problem: format!("no value; expected {}", expected.as_ref()) }
    }
}

/// Loads and checks the configuration of a service from its defaults, `file` and the process environment.
///
/// # Errors
/// [`Failure::Config`] that names each key, its value, and what is expected.
pub fn load<C: ServiceConfig>(file: Option<&Path>) -> Result<C, Failure> {
    Effective::merge(C::SERVICE, file, process_environment(), &[])?.check()
}

/// As [`load`], with the given environment.
///
/// # Errors
/// As [`load`].
pub fn load_from<C: ServiceConfig>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<C, Failure> {
    Effective::merge(C::SERVICE, file, environment.into_iter().collect(), &[])?.check()
}

/// The process environment without variables that are not UTF-8.
pub(crate) fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

#[cfg(test)]
mod tests;
