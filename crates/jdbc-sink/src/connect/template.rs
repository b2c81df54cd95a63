//! The connectors of the sinks, made from the template `connect/connectors/jdbc-sink.json`.

use std::collections::BTreeMap;

use super::settings::ConnectSettings;
use crate::sink::Sink;

/// A connector's configuration, as in Connect's REST API.
pub(crate) type ConnectorConfig = BTreeMap<String, String>;

/// A connector with the configuration that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connector {
    pub(crate) name: &'static str,
    pub(crate) config: ConnectorConfig,
}

const TEMPLATE: &str = include_str!("../../../../connect/connectors/jdbc-sink.json");

impl Connector {
    /// Fills the template for a sink.
    pub(crate) fn new(sink: &Sink, settings: &ConnectSettings) -> Self {
        let values = BTreeMap::from([
            ("{{dead_letter_topic}}", sink.dead_letter_topic()),
            ("{{topic}}", sink.topic().to_owned()),
            ("{{table}}", sink.table.name.to_owned()),
            ("{{primary_key}}", sink.table.key.join(",")),
            ("{{jdbc_url}}", settings.jdbc_url.clone()),
            ("{{postgres_role}}", settings.postgres_role.clone()),
            ("{{postgres_password}}", settings.postgres_password.as_str().to_owned()),
            ("{{registry_url}}", settings.registry_url.clone()),
        ]);
        let mut config: ConnectorConfig =
            serde_json::from_str(TEMPLATE).expect("the template is compiled in and a test fills it");
        for value in config.values_mut() {
            if let Some(filled) = values.get(value.as_str()) {
                value.clone_from(filled);
            }
        }
        config.insert("name".into(), sink.connector.into());
        if let Some(login) = &settings.registry_login {
            config.insert("value.converter.apicurio.auth.username".into(), login.user.clone());
            config.insert("value.converter.apicurio.auth.password".into(), login.password.as_str().into());
        }
        Self { name: sink.connector, config }
    }

    /// The class of the connector plugin.
    pub(crate) fn class(&self) -> &str {
        self.config.get("connector.class").map_or("", String::as_str)
    }

    /// The keys whose values in `found` are not those that they must be, sorted.
    pub(crate) fn differences(&self, found: &ConnectorConfig) -> Vec<String> {
        let keys = self.config.keys().chain(found.keys().filter(|key| !self.config.contains_key(*key)));
        let mut keys: Vec<_> = keys.filter(|key| self.config.get(*key) != found.get(*key)).cloned().collect();
        keys.sort();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use common::config::load_from;

    fn config(environment: &[(&str, &str)]) -> Config {
        let fixed = [("POSTGRES__PASSWORD_FILE", "/run/secrets/postgres_password")];
        let all = fixed.iter().chain(environment);
        load_from(None, all.map(|(k, v)| (format!("KSTREAM__{k}"), (*v).to_owned()))).unwrap()
    }

    fn filled(environment: &[(&str, &str)]) -> [Connector; 2] {
        let config = config(environment);
        let settings =
            ConnectSettings::new(&config.connect, &config.postgres, &config.schema_registry).unwrap();
        Sink::all(&config.topics).map(|sink| Connector::new(&sink, &settings))
    }

    fn expected(own: [(&str, &str); 5]) -> ConnectorConfig {
        let shared = [
            ("batch.size", "5000"),
            ("connection.password", "${directory:/run/secrets:postgres_password}"),
            (
                "connection.url",
                "jdbc:postgresql://127.0.0.1:5432/kstream?sslmode=disable&reWriteBatchedInserts=true",
            ),
            ("connection.username", "kstream"),
            ("connector.class", "io.debezium.connector.jdbc.JdbcSinkConnector"),
            ("consumer.override.isolation.level", "read_committed"),
            ("consumer.override.max.poll.records", "5000"),
            ("consumer.override.session.timeout.ms", "10000"),
            ("errors.deadletterqueue.context.headers.enable", "true"),
            ("errors.tolerance", "all"),
            ("insert.mode", "upsert"),
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("predicates", "tombstone"),
            ("predicates.tombstone.type", "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone"),
            ("primary.key.mode", "record_value"),
            ("producer.override.max.request.size", "2097152"),
            ("schema.evolution", "none"),
            ("tasks.max", "1"),
            ("transforms", "refuse"),
            ("transforms.refuse.fields", "instrument_name"),
            ("transforms.refuse.predicate", "tombstone"),
            ("transforms.refuse.type", "org.apache.kafka.connect.transforms.ValueToKey"),
            ("use.reduction.buffer", "true"),
            ("value.converter", "io.apicurio.registry.utils.converter.AvroConverter"),
            ("value.converter.apicurio.registry.headers.enabled", "false"),
            (
                "value.converter.apicurio.registry.id-handler",
                "io.apicurio.registry.serde.Legacy4ByteIdHandler",
            ),
            ("value.converter.apicurio.registry.url", "http://127.0.0.1:8081/apis/registry/v2"),
            ("value.converter.apicurio.registry.use-id", "contentId"),
        ];
        shared.into_iter().chain(own).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn every_key_of_both_connectors_is_pinned() {
        let trades = expected([
            ("name", "kstream-trades"),
            ("topics", "deribit.trades"),
            ("collection.name.format", "trades"),
            ("primary.key.fields", "instrument_name,trade_seq"),
            ("errors.deadletterqueue.topic.name", "deribit.trades.connect-dlq"),
        ]);
        let averages = expected([
            ("name", "kstream-moving-averages"),
            ("topics", "deribit.moving-averages"),
            ("collection.name.format", "moving_averages"),
            ("primary.key.fields", "instrument_name,window_start,window_end"),
            ("errors.deadletterqueue.topic.name", "deribit.moving-averages.connect-dlq"),
        ]);
        let found = filled(&[]).map(|connector| connector.config);
        assert_eq!(found, [trades, averages]);
    }

    #[test]
    fn a_renamed_topic_renames_its_dead_letter_topic() {
        let [trades, _] = filled(&[("TOPICS__TRADES", "x.y")]);
        assert_eq!(trades.config["topics"], "x.y");
        assert_eq!(trades.config["errors.deadletterqueue.topic.name"], "x.y.connect-dlq");
    }

    #[test]
    fn the_password_of_the_registry_is_passed_by_reference() {
        let connectors = filled(&[
            ("SCHEMA_REGISTRY__USERNAME", "reader"),
            ("SCHEMA_REGISTRY__PASSWORD_FILE", "/run/secrets/registry"),
        ]);
        for connector in connectors {
            assert_eq!(connector.config["value.converter.apicurio.auth.username"], "reader");
            assert_eq!(
                connector.config["value.converter.apicurio.auth.password"],
                "${directory:/run/secrets:registry}"
            );
        }
    }

    #[test]
    fn a_difference_is_a_key_that_was_changed_added_or_removed() {
        let connector = &filled(&[])[0];
        assert!(connector.differences(&connector.config).is_empty());
        let mut found = connector.config.clone();
        found.insert("batch.size".into(), "1".into());
        found.insert("transforms".into(), "x".into());
        found.remove("topics");
        assert_eq!(connector.differences(&found), ["batch.size", "topics", "transforms"]);
    }
}
