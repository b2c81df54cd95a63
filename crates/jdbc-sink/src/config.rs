//! The configuration of this service; the defaults are in `config/jdbc-sink.toml`.

use common::config::{
    AdminConfig, Duration, Invalid, KafkaConfig, LogConfig, SchemaRegistryConfig, Service, ServiceConfig,
    TopicsConfig, TracingConfig,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::connect::settings::{ConnectConfig, ConnectSettings};
use crate::postgres::connection::PostgresConfig;
use crate::postgres::retention::RetentionConfig;

/// All sections.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Longest wait for Postgres, Kafka and Connect at the start.
    pub(crate) startup_deadline: Duration,
    /// Longest time to stop.
    pub(crate) shutdown_deadline: Duration,
    pub(crate) connect: ConnectConfig,
    /// `[postgres]`
    pub postgres: PostgresConfig,
    #[serde(default)]
    pub(crate) retention: RetentionConfig,
    pub(crate) kafka: KafkaConfig,
    pub(crate) schema_registry: SchemaRegistryConfig,
    pub(crate) topics: TopicsConfig,
    pub(crate) admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[tracing]`
    pub tracing: TracingConfig,
}

impl ServiceConfig for Config {
    const SERVICE: Service = Service::JdbcSink;
    type Common = IgnoredAny;
    type Own = Self;

    fn new(_: IgnoredAny, own: Self) -> Self {
        own
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn check(&self) -> Vec<Invalid> {
        let shared = self.kafka.check().into_iter().chain(self.topics.check());
        let own = self.connect.check().into_iter().chain(self.retention.check());
        let settings = ConnectSettings::new(&self.connect, &self.postgres, &self.schema_registry);
        shared.chain(own).chain(settings.err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::postgres::retention::TableRetention;
    use crate::table::MOVING_AVERAGES;
    use common::config::load_from;

    fn load(environment: &[(&str, &str)]) -> Result<Config, common::Failure> {
        load_from(None, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_defaults_are_those_that_other_programs_rely_on() {
        let config = load(&[]).unwrap();
        assert_eq!(config.connect.url.as_str(), "http://127.0.0.1:8083/");
        assert_eq!(config.postgres.url.to_string(), "postgresql://kstream@127.0.0.1:5432/kstream");
        assert_eq!(config.postgres.password_file, PathBuf::from("secrets/postgres_password"));
        assert_eq!(config.admin.listen.port(), 9103);
    }

    #[test]
    fn rows_stay_forever_by_default() {
        assert!(load(&[]).unwrap().retention.tables().is_empty());
        let config = load(&[("KSTREAM__RETENTION__MOVING_AVERAGES", "90d")]).unwrap();
        let age = std::time::Duration::from_secs(90 * 86_400);
        assert_eq!(config.retention.tables(), [TableRetention { table: &MOVING_AVERAGES, age }]);
    }

    #[test]
    fn an_invalid_value_is_rejected_with_key_value_and_what_is_allowed() {
        for (variable, value, expected) in [
            (
                "CONNECT__URL",
                "tcp://x:1",
                "connect.url: invalid value tcp://x:1; expected an http:// or https:// URL",
            ),
            (
                "CONNECT__URL",
                "http://me:secret@x",
                "connect.url: invalid value a URL with a login in it; expected one without",
            ),
            (
                "CONNECT__WATCH_INTERVAL",
                "0s",
                "connect.watch_interval: invalid value 0s; expected more than nothing",
            ),
            ("RETENTION__TRADES", "30s", "retention.trades: invalid value 30s; expected an hour or more"),
            ("CONNECT__SECRETS_DIR", "/run:1", "connect.secrets_dir: invalid value \"/run:1\"; expected "),
            (
                "POSTGRES__PASSWORD_FILE",
                "",
                "postgres.password_file: invalid value \"\"; expected the path of a file",
            ),
            ("POSTGRES__URL", "mysql://kstream@h/kstream", "postgres.url"),
            ("SCHEMA_REGISTRY__URL", "http://h:8081", "connect.registry_url: no value; expected "),
        ] {
            let failure = load(&[(&format!("KSTREAM__{variable}"), value)]).unwrap_err();
            assert_eq!(failure.code(), 78);
            let message = failure.to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("secret@"), "{message}");
        }
    }
}
