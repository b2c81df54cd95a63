use std::io::Write as _;

use serde::Deserialize;
use tempfile::NamedTempFile;

use super::*;

#[derive(Debug)]
struct Config {
    common: CommonConfig,
    window: Window,
    threads: u16,
}

#[derive(Deserialize)]
struct OwnKeys {
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
    type Common = CommonConfig;
    type Own = OwnKeys;

    fn new(common: CommonConfig, own: OwnKeys) -> Self {
        Self { common, window: own.window, threads: own.threads }
    }

    fn admin(&self) -> &AdminConfig {
        &self.common.admin
    }

    fn check(&self) -> Vec<Invalid> {
        self.common.check()
    }

    fn derived(&self) -> Vec<(&'static str, String)> {
        vec![("window.ema_tau", "2m 30s".into())]
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

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn all_defaults_parse_and_agree_on_shared_keys() {
    let mut shared = std::collections::BTreeMap::<String, toml::Value>::new();
    for service in Service::ALL {
        let table: toml::Table = service.defaults().parse().unwrap();
        assert!(keys::Keys::of(service).knows("admin.listen"), "{}", service.name());
        for section in ["kafka", "schema_registry", "topics", "tracing", "log"] {
            let Some(value) = table.get(section) else { continue };
            let first = shared.entry(section.into()).or_insert_with(|| value.clone());
            assert_eq!(first, value, "[{section}] of {}", service.name());
        }
    }
    assert_eq!(shared.len(), 5);
}

#[test]
fn the_defaults_are_those_that_other_programs_rely_on() {
    let config = load_with(&[]).unwrap();
    assert_eq!(config.common.kafka.bootstrap_servers, "127.0.0.1:9092");
    assert_eq!(config.common.schema_registry.url.as_str(), "http://127.0.0.1:8081/apis/ccompat/v7");
    assert_eq!(config.common.topics.trades, "deribit.trades");
    assert_eq!(config.common.tracing.sample_one_in, 100);
    assert_eq!(config.common.admin.listen.port(), 9102);
    assert_eq!(config.common.startup_deadline.as_secs(), 60);
    assert_eq!(config.window.ema_tau, None, "follows window.size");
    assert!(config.window.watermarks);
}

#[test]
fn a_file_overlays_the_defaults_and_the_environment_overlays_the_file() {
    let file = file("threads = 2\nstartup_deadline = \"5s\"\n[window]\nema_tau = \"1m\"\n");
    let environment =
        [("KSTREAM__THREADS".to_owned(), "3".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
    let config: Config = load_from(Some(file.path()), environment).unwrap();
    assert_eq!((config.threads, config.common.startup_deadline.as_secs()), (3, 5));
    assert_eq!(config.window.ema_tau.unwrap().as_secs(), 60);
}

#[test]
fn an_unknown_key_in_a_file_names_the_nearest_known_one() {
    let file = file("[window]\nema_tua = \"1m\"\n");
    let Err(Failure::Config(message)) = load_from::<Config>(Some(file.path()), []) else {
        panic!("was taken")
    };
    assert!(
        message.contains("window.ema_tua") && message.contains("the nearest is window.ema_tau"),
        "{message}"
    );
}

#[test]
fn an_unknown_variable_is_an_error_and_another_services_variable_is_ignored() {
    let message = refusal(&[("KSTREAM__KAFKA__BOOTSTRAP_SERVER", "x:1")]);
    assert!(message.contains("from KSTREAM__KAFKA__BOOTSTRAP_SERVER"), "{message}");
    assert!(message.contains("the nearest is kafka.bootstrap_servers"), "{message}");
    load_with(&[("KSTREAM__DERIBIT__URL", "ws://127.0.0.1:8090/ws/api/v2")]).unwrap();
}

#[test]
fn an_error_of_type_names_key_value_and_expectation() {
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
    let file = file("[kafka.properties]\n\"ssl.ca.location\" = \"/ca.pem\"\nsasl.mechanism = \"PLAIN\"\n");
    let environment = [("KSTREAM__KAFKA__PROPERTIES__SECURITY_PROTOCOL".to_owned(), "SSL".to_owned())];
    let config: Config = load_from(Some(file.path()), environment).unwrap();
    let properties: Vec<_> =
        config.common.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
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
fn a_secret_loses_its_line_end_and_must_not_be_empty() {
    use secrecy::ExposeSecret as _;
    let secret = file("s3cret\n");
    let secret = read_secret("postgres.password_file", secret.path()).unwrap();
    assert_eq!(secret.expose_secret(), "s3cret");
    assert!(!format!("{secret:?}").contains("s3cret"));
    let empty = file("\n");
    let refused = read_secret("postgres.password_file", empty.path()).unwrap_err().to_string();
    assert!(refused.contains("postgres.password_file") && refused.contains("is empty"), "{refused}");
}

#[test]
fn an_error_in_a_shared_section_names_key_and_file() {
    let file = file("[topics]\nretention = \"soon\"\n");
    let Err(Failure::Config(message)) = load_from::<Config>(Some(file.path()), []) else {
        panic!("was taken")
    };
    assert!(message.contains("topics.retention"), "{message}");
    assert!(message.contains(&file.path().display().to_string()), "{message}");
}

#[test]
fn an_empty_value_unsets_a_key_that_has_no_default() {
    let file = file("[window]\nema_tau = \"1m\"\n[schema_registry]\nusername = \"me\"\n");
    let environment = [("KSTREAM__WINDOW__EMA_TAU".to_owned(), String::new())];
    let config: Config = load_from(Some(file.path()), environment).unwrap();
    assert_eq!(config.window.ema_tau, None);
    assert_eq!(config.common.schema_registry.username.as_deref(), Some("me"));
    assert_eq!(load_with(&[]).unwrap().common.schema_registry.username, None);
    let message = refusal(&[("KSTREAM__KAFKA__BOOTSTRAP_SERVERS", "")]);
    assert!(message.contains("kafka.bootstrap_servers: invalid value \"\""), "{message}");
}

fn printed(file: Option<&Path>, environment: &[(&str, &str)], flags: &[Flag]) -> String {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let effective = Effective::merge(Config::SERVICE, file, environment, flags).unwrap();
    let config: Config = effective.check().unwrap();
    effective.to_toml(&config.derived())
}

#[test]
fn the_effective_configuration_shows_every_value_with_its_origin() {
    let file = file("threads = 2\n[topics]\nlate = \"late\"\n");
    let flags = [Flag { name: "--threads", key: "threads", value: "4".into() }];
    let variables = [("KSTREAM__THREADS", "3"), ("KSTREAM__WINDOW__WATERMARKS", "false")];
    let text = printed(Some(file.path()), &variables, &flags);
    let path = file.path().display();
    for line in [
        "threads = 4  # from --threads",
        "[topics]\ncandles = \"deribit.candles\"  # default",
        &format!("late = \"late\"  # from {path}"),
        "watermarks = false  # from KSTREAM__WINDOW__WATERMARKS",
        "ema_tau = \"\"  # default; in force: 2m 30s",
        "username = \"\"  # default; unset",
        "startup_deadline = \"60s\"  # default",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let given = ::config::Format::parse(&::config::FileFormat::Toml, None, &text).unwrap();
    assert_eq!(keys::Keys::of(Config::SERVICE).unknown_in(&given, "it"), []);
}

#[test]
fn a_printed_configuration_can_be_given_as_a_file() {
    let variables = [("KSTREAM__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"), ("KSTREAM__THREADS", "3")];
    let file = file(&printed(None, &variables, &[]));
    let config: Config = load_from(Some(file.path()), []).unwrap();
    assert_eq!((config.threads, config.common.kafka.properties["security.protocol"].as_str()), (3, "SSL"));
}

#[test]
fn no_secret_is_printed() {
    let text = printed(
        None,
        &[
            ("KSTREAM__KAFKA__PROPERTIES__SASL_PASSWORD", "s3cret"),
            ("KSTREAM__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET", "s3cret"),
            ("KSTREAM__KAFKA__PROPERTIES__SSL_KEY_PEM", "s3cret"),
            ("KSTREAM__SCHEMA_REGISTRY__URL", "http://me:s3cret@registry:8081"),
            ("KSTREAM__SCHEMA_REGISTRY__PASSWORD_FILE", "/run/secrets/registry"),
        ],
        &[],
    );
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        text.contains("\"sasl.password\" = \"<hidden>\"  # from KSTREAM__KAFKA__PROPERTIES__SASL_PASSWORD"),
        "{text}"
    );
    assert!(text.contains("password_file = \"/run/secrets/registry\""), "{text}");
}
