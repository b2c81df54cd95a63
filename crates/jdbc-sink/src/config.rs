//! The configuration of this service; its defaults stand in `config/jdbc-sink.toml`.

use std::path::PathBuf;

use common::config::{
    AdminConfig, Duration, Invalid, KafkaConfig, LogConfig, SchemaRegistryConfig, Service, ServiceConfig,
    TopicsConfig, TracingConfig,
};
use serde::Deserialize;
use url::Url;

use crate::connect::settings::Surroundings;
use crate::postgres::url::PostgresUrl;
use crate::table::{MOVING_AVERAGES, TRADES, Table};

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// How long Postgres, Kafka and Connect are waited for.
    pub startup_deadline: Duration,
    /// How long everything may take to end.
    pub shutdown_deadline: Duration,
    /// Kafka Connect.
    pub connect: ConnectConfig,
    /// The database.
    pub postgres: PostgresConfig,
    /// How long rows are kept.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Names and shape of the topics.
    pub topics: TopicsConfig,
    /// The admin endpoints.
    pub admin: AdminConfig,
    /// The log.
    pub log: LogConfig,
    /// Traces.
    pub tracing: TracingConfig,
}

/// `[connect]`
#[derive(Debug, Clone, Deserialize)]
pub struct ConnectConfig {
    /// Its REST API.
    pub url: Url,
    /// From one look at the connectors to the next.
    pub watch_interval: Duration,
    /// Folder of the password files as Connect sees it.
    pub secrets_dir: Option<String>,
    /// The database as Connect sees it.
    pub postgres_url: Option<PostgresUrl>,
    /// The registry's API, version 2, as Connect sees it.
    pub registry_url: Option<Url>,
}

/// `[postgres]`
#[derive(Debug, Clone, Deserialize)]
pub struct PostgresConfig {
    /// Role, server and database.
    pub url: PostgresUrl,
    /// File with the role's password.
    pub password_file: PathBuf,
}

/// `[retention]`: what has none stays for ever.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RetentionConfig {
    /// Of `trades`, by their time.
    pub trades: Option<Duration>,
    /// Of `moving_averages`, by the end of their window.
    pub moving_averages: Option<Duration>,
}

impl RetentionConfig {
    /// The tables that have one.
    #[must_use]
    pub fn kept(&self) -> Vec<(&'static Table, std::time::Duration)> {
        let tables = [(&TRADES, self.trades), (&MOVING_AVERAGES, self.moving_averages)];
        tables.into_iter().filter_map(|(table, kept)| Some((table, *kept?))).collect()
    }

    fn check(&self) -> Vec<Invalid> {
        let short = self.kept().into_iter().filter(|(_, kept)| *kept < SHORTEST_RETENTION);
        short
            .map(|(table, kept)| {
                Invalid::new(
                    format!("retention.{}", table.name),
                    Duration(kept),
                    "an hour or more: rows that are gone come back only if the connector reads its topic anew",
                )
            })
            .collect()
    }
}

/// Anything shorter is a slip.
const SHORTEST_RETENTION: std::time::Duration = std::time::Duration::from_secs(3600);

impl ServiceConfig for Config {
    const SERVICE: Service = Service::JdbcSink;

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn check(&self) -> Vec<Invalid> {
        let shared = self.kafka.check().into_iter().chain(self.topics.check());
        let own = self.connect.check().into_iter().chain(self.retention.check());
        shared.chain(own).chain(Surroundings::of(self).err()).collect()
    }
}

impl ConnectConfig {
    fn check(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if !matches!(self.url.scheme(), "http" | "https") {
            invalid.push(Invalid::new("connect.url", &self.url, "an http:// or https:// URL"));
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            invalid.push(Invalid::new("connect.url", "a URL with a login in it", "one without"));
        }
        if self.watch_interval.is_zero() {
            invalid.push(Invalid::new("connect.watch_interval", self.watch_interval, "more than nothing"));
        }
        invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn rows_stay_for_ever_unless_told_otherwise() {
        assert!(load(&[]).unwrap().retention.kept().is_empty());
        let config = load(&[("KSTREAM__RETENTION__MOVING_AVERAGES", "90d")]).unwrap();
        let kept = config.retention.kept();
        assert_eq!(kept, [(&MOVING_AVERAGES, std::time::Duration::from_secs(90 * 86_400))]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_value_and_what_is_allowed() {
        for (variable, value, expected) in [
            ("CONNECT__URL", "tcp://x:1", "connect.url: got tcp://x:1, takes an http:// or https:// URL"),
            (
                "CONNECT__URL",
                "http://me:secret@x",
                "connect.url: got a URL with a login in it, takes one without",
            ),
            ("CONNECT__WATCH_INTERVAL", "0s", "connect.watch_interval: got 0s, takes more than nothing"),
            ("RETENTION__TRADES", "30s", "retention.trades: got 30s, takes an hour or more"),
            ("CONNECT__SECRETS_DIR", "/run:1", "connect.secrets_dir: got \"/run:1\", takes "),
            ("POSTGRES__PASSWORD_FILE", "", "postgres.password_file: got \"\", takes the path of a file"),
            ("POSTGRES__URL", "mysql://kstream@h/kstream", "postgres.url"),
            ("SCHEMA_REGISTRY__URL", "http://h:8081", "connect.registry_url: got nothing, takes "),
        ] {
            let refused = load(&[(&format!("KSTREAM__{variable}"), value)]).unwrap_err();
            assert_eq!(refused.code(), 78);
            let message = refused.to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("secret@"), "{message}");
        }
    }
}
