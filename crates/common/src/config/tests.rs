use std::io::Write as _;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
struct Config {
    admin: AdminConfig,
    kafka: KafkaConfig,
    schema_registry: SchemaRegistryConfig,
    topics: TopicsConfig,
    tracing: TracingConfig,
    startup_deadline: Duration,
    window: Window,
    threads: u16,
}

#[derive(Debug, Deserialize)]
struct Window {
    ema_tau: Option<Duration>,
    watermarks: bool,
}

impl ServiceConfig for Config {
    const SERVICE: Service = Service::AggProducer;

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn check(&self) -> Vec<Invalid> {
        self.kafka.check().into_iter().chain(self.topics.check()).collect()
    }
}

fn load_with(environment: &[(&str, &str)]) -> Result<Config, Failure> {
    load_from(None, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn refusal(environment: &[(&str, &str)]) -> String {
    match load_with(environment) {
        Err(Failure::Config(message)) => message,
        other => panic!("was not refused as configuration: {other:?}"),
    }
}

fn file(text: &str) -> (std::path::PathBuf, impl Drop) {
    struct Gone(std::path::PathBuf);
    impl Drop for Gone {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).ok();
        }
    }
    let path = std::env::temp_dir().join(format!(
        "kstream-config-{}-{}.toml",
        std::process::id(),
        fastrand::u64(..)
    ));
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (path.clone(), Gone(path))
}

#[test]
fn the_defaults_of_every_service_parse_and_agree_on_the_keys_they_share() {
    let mut shared = std::collections::BTreeMap::<String, String>::new();
    for service in Service::ALL {
        let table: toml::Table = service.defaults().parse().unwrap();
        assert!(keys::Keys::of(service).knows("admin.listen"), "{}", service.name());
        for section in ["kafka", "schema_registry", "topics", "tracing", "log"] {
            let Some(value) = table.get(section) else { continue };
            let first = shared.entry(section.into()).or_insert_with(|| value.to_string());
            assert_eq!(*first, value.to_string(), "[{section}] of {}", service.name());
        }
    }
    assert_eq!(shared.len(), 5);
}

#[test]
fn the_defaults_are_those_that_other_programs_rely_on() {
    let config = load_with(&[]).unwrap();
    assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:9092");
    assert_eq!(config.schema_registry.url.as_str(), "http://127.0.0.1:8081/apis/ccompat/v7");
    assert_eq!(config.topics.trades, "deribit.trades");
    assert_eq!(config.tracing.sample_one_in, 100);
    assert_eq!(config.admin.listen.port(), 9102);
    assert_eq!(config.startup_deadline.as_secs(), 60);
    assert_eq!(config.window.ema_tau, None, "follows window.size");
    assert!(config.window.watermarks);
}

#[test]
fn a_file_overlays_the_defaults_and_the_environment_overlays_the_file() {
    let (path, _gone) = file("threads = 2\nstartup_deadline = \"5s\"\n[window]\nema_tau = \"1m\"\n");
    let environment =
        [("KSTREAM__THREADS".to_owned(), "3".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
    let config: Config = load_from(Some(&path), environment).unwrap();
    assert_eq!((config.threads, config.startup_deadline.as_secs()), (3, 5));
    assert_eq!(config.window.ema_tau.unwrap().as_secs(), 60);
}

#[test]
fn an_unknown_key_in_a_file_is_refused_with_the_nearest_known_one() {
    let (path, _gone) = file("[window]\nema_tua = \"1m\"\n");
    let Err(Failure::Config(message)) = load_from::<Config>(Some(&path), []) else { panic!("was taken") };
    assert!(
        message.contains("window.ema_tua") && message.contains("the nearest is window.ema_tau"),
        "{message}"
    );
}

#[test]
fn a_variable_that_no_service_knows_is_refused_and_one_that_another_knows_is_passed_over() {
    let message = refusal(&[("KSTREAM__KAFKA__BOOTSTRAP_SERVER", "x:1")]);
    assert!(message.contains("from KSTREAM__KAFKA__BOOTSTRAP_SERVER"), "{message}");
    assert!(message.contains("the nearest is kafka.bootstrap_servers"), "{message}");
    load_with(&[("KSTREAM__DERIBIT__URL", "ws://127.0.0.1:8090/ws/api/v2")]).unwrap();
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_key_value_and_what_is_allowed() {
    let message = refusal(&[("KSTREAM__THREADS", "many")]);
    assert!(
        message.contains("threads: invalid value \"many\" from KSTREAM__THREADS; expected an integer"),
        "{message}"
    );
    let message = refusal(&[("KSTREAM__STARTUP_DEADLINE", "soon")]);
    assert!(message.contains("invalid value \"soon\"; expected a duration"), "{message}");
    assert!(message.contains("startup_deadline"), "{message}");
}

#[test]
fn kafka_properties_go_through_with_dots_for_underscores() {
    let (path, _gone) =
        file("[kafka.properties]\n\"ssl.ca.location\" = \"/ca.pem\"\nsasl.mechanism = \"PLAIN\"\n");
    let environment = [("KSTREAM__KAFKA__PROPERTIES__SECURITY_PROTOCOL".to_owned(), "SSL".to_owned())];
    let config: Config = load_from(Some(&path), environment).unwrap();
    let properties: Vec<_> = config.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        properties,
        [("sasl.mechanism", "PLAIN"), ("security.protocol", "SSL"), ("ssl.ca.location", "/ca.pem")]
    );
}

#[test]
fn a_kafka_property_that_a_promise_rests_on_is_refused_by_name() {
    let message = refusal(&[("KSTREAM__KAFKA__PROPERTIES__ENABLE_IDEMPOTENCE", "false")]);
    assert!(message.contains("kafka.properties.enable.idempotence: invalid value \"false\""), "{message}");
}

#[test]
fn two_topics_of_one_name_and_illegal_names_are_refused() {
    let message =
        refusal(&[("KSTREAM__TOPICS__LATE", "deribit.trades"), ("KSTREAM__TOPICS__CANDLES", "a b")]);
    assert!(
        message.contains(
            "topics.late: invalid value \"deribit.trades\"; expected another topic than topics.trades"
        ),
        "{message}"
    );
    assert!(message.contains("topics.candles: invalid value \"a b\""), "{message}");
}

#[test]
fn a_secret_is_read_without_its_line_end_and_an_empty_one_is_refused() {
    use secrecy::ExposeSecret as _;
    let (path, _gone) = file("s3cret\n");
    let secret = read_secret("postgres.password_file", &path).unwrap();
    assert_eq!(secret.expose_secret(), "s3cret");
    assert!(!format!("{secret:?}").contains("s3cret"));
    let (path, _gone) = file("\n");
    let refused = read_secret("postgres.password_file", &path).unwrap_err().to_string();
    assert!(refused.contains("postgres.password_file") && refused.contains("is empty"), "{refused}");
}
