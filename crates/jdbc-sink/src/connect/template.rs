//! The connectors that we want: the templates of `connect/connectors`, filled.

use std::collections::BTreeMap;

use common::config::TopicsConfig;
use common::kafka::admin::TopicSpec;

use super::settings::Surroundings;

/// A connector's configuration, as Connect's REST API takes and gives it.
pub type ConnectorConfig = BTreeMap<String, String>;

/// A connector as it ought to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its name; `connect-` before it makes its consumer group.
    pub name: &'static str,
    /// All of its configuration.
    pub config: ConnectorConfig,
}

/// One of our connectors, before it is filled.
struct Template {
    name: &'static str,
    text: &'static str,
    topic: fn(&TopicsConfig) -> TopicSpec,
}

const TEMPLATES: [Template; 2] = [
    Template {
        name: "kstream-trades",
        text: include_str!("../../../../connect/connectors/kstream-trades.json"),
        topic: TopicSpec::trades,
    },
    Template {
        name: "kstream-moving-averages",
        text: include_str!("../../../../connect/connectors/kstream-moving-averages.json"),
        topic: TopicSpec::moving_averages,
    },
];

/// Our connectors, for these topics in these surroundings.
#[must_use]
pub fn connectors(topics: &TopicsConfig, surroundings: &Surroundings) -> Vec<Connector> {
    TEMPLATES.iter().map(|template| template.fill(topics, surroundings)).collect()
}

/// The topics that our connectors read and those that take what could not be converted.
#[must_use]
pub fn topics(topics: &TopicsConfig) -> Vec<TopicSpec> {
    let sources = TEMPLATES.iter().map(|template| (template.topic)(topics));
    sources.flat_map(|source| [dead_letters(&source, topics), source]).collect()
}

/// Connect writes a dead letter with the timestamp of its origin, and a good record may be among them: it must stay as long as the
/// origin does.
fn dead_letters(source: &TopicSpec, topics: &TopicsConfig) -> TopicSpec {
    TopicSpec {
        name: format!("{}.connect-dlq", source.name),
        key: source.key,
        retention: source.retention,
        ..TopicSpec::dead_letter(topics)
    }
}

impl Template {
    fn fill(&self, topics: &TopicsConfig, surroundings: &Surroundings) -> Connector {
        let topic = (self.topic)(topics);
        let values = BTreeMap::from([
            ("{{dead_letter_topic}}", dead_letters(&topic, topics).name),
            ("{{topic}}", topic.name),
            ("{{jdbc_url}}", surroundings.jdbc_url.clone()),
            ("{{postgres_role}}", surroundings.postgres_role.clone()),
            ("{{postgres_password}}", surroundings.postgres_password.as_str().to_owned()),
            ("{{registry_url}}", surroundings.registry_url.clone()),
        ]);
        let mut config: ConnectorConfig = serde_json::from_str(self.text)
            .expect("connect/connectors/*.json are compiled in and a test fills each of them");
        for value in config.values_mut() {
            if let Some(filled) = values.get(value.as_str()) {
                value.clone_from(filled);
            }
        }
        config.insert("name".into(), self.name.into());
        if let Some((user, password)) = &surroundings.registry_login {
            config.insert("value.converter.apicurio.auth.username".into(), user.clone());
            config.insert("value.converter.apicurio.auth.password".into(), password.as_str().into());
        }
        Connector { name: self.name, config }
    }
}

impl Connector {
    /// The class that does the work.
    #[must_use]
    pub fn class(&self) -> &str {
        self.config.get("connector.class").map_or("", String::as_str)
    }

    /// The keys in which `found` is not as it ought to be, sorted.
    #[must_use]
    pub fn differences(&self, found: &ConnectorConfig) -> Vec<String> {
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

    fn filled(environment: &[(&str, &str)]) -> Vec<Connector> {
        let config = config(environment);
        connectors(&config.topics, &Surroundings::of(&config).unwrap())
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
        let found: Vec<_> = filled(&[]).into_iter().map(|connector| connector.config).collect();
        assert_eq!(found, [trades, averages]);
    }

    #[test]
    fn topics_by_another_name_take_their_dead_letters_with_them() {
        let [trades, _] = <[Connector; 2]>::try_from(filled(&[("TOPICS__TRADES", "x.y")])).unwrap();
        assert_eq!(trades.config["topics"], "x.y");
        assert_eq!(trades.config["errors.deadletterqueue.topic.name"], "x.y.connect-dlq");
    }

    #[test]
    fn a_registry_with_a_login_gets_it_by_reference() {
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
    fn a_dead_letter_stays_as_long_as_its_origin() {
        let config = config(&[]);
        let specs = topics(&config.topics);
        let named = |name: &str| specs.iter().find(|spec| spec.name == name).unwrap();
        assert_eq!(specs.len(), 4);
        assert_eq!(named("deribit.trades.connect-dlq").retention, None);
        let averages = named("deribit.moving-averages.connect-dlq");
        assert_eq!(averages.retention, Some(*config.topics.retention));
        // As large as the request that the connector's own producer may make.
        assert_eq!(averages.max_message_bytes, Some(2_097_152));
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
