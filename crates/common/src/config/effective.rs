//! The effective configuration: defaults, file, environment and flags merged, each value with its origin.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ::config::{Config as Layers, ConfigError, FileFormat, Map, Source, Value, ValueKind};
use serde::Deserialize;
use url::Url;

use super::keys::{Keys, OPEN_KEY};
use super::{
    AdminConfig, Duration, Invalid, KafkaConfig, LogConfig, SchemaRegistryConfig, ServiceConfig,
    TopicsConfig, TracingConfig, environment,
};
use crate::Failure;

/// A command line flag that overrides a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// With its dashes, such as `--rate`.
    pub name: &'static str,
    /// The key that it overrides, such as `market.rate`.
    pub key: &'static str,
    /// Its value, converted to the type of the key's default.
    pub value: String,
}

/// The merged layers of one service.
pub(crate) struct Effective {
    keys: Keys,
    values: Map<String, Value>,
}

impl Effective {
    /// Merges the layers of `C`'s service. Later ones win: defaults, `file`, `environment`, `flags`.
    ///
    /// # Errors
    /// [`Failure::Config`] for unknown keys, a file that cannot be read, and a variable of the wrong type.
    pub(crate) fn merge<C: ServiceConfig>(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Flag],
    ) -> Result<Self, Failure> {
        let keys = Keys::of(C::SERVICE);
        let mut layers =
            Layers::builder().add_source(Toml { origin: None, text: C::SERVICE.defaults().into() });
        if let Some(path) = file {
            layers = layers.add_source(read(path, &keys)?);
        }
        let overrides = environment::overrides(&keys, environment).map_err(invalid)?;
        let flags = environment::flags(&keys, flags).map_err(invalid)?;
        for (key, value) in overrides.into_iter().chain(flags) {
            layers = layers.set_override(&key, value).map_err(bad)?;
        }
        let values = layers.build().and_then(|merged| merged.collect()).map_err(bad)?;
        Ok(Self { keys, values })
    }

    /// The configuration as a type, checked.
    ///
    /// # Errors
    /// [`Failure::Config`] that names each key, its value, and what is expected.
    pub(crate) fn check<C: ServiceConfig>(&self) -> Result<C, Failure> {
        let set = self.without_unset("", &self.values);
        // A struct that is flattened into the service's own cannot name the key of an error.
        set.clone().try_deserialize::<SharedSections>().map_err(|error| self.bad(error))?;
        let config: C = set.try_deserialize().map_err(|error| self.bad(error))?;
        let problems = config.check();
        if problems.is_empty() { Ok(config) } else { Err(invalid(problems)) }
    }

    /// The configuration as a TOML file, each value with its origin in a comment. Secrets are hidden. `derived` has the values in force of
    /// keys that are unset.
    #[must_use]
    pub(crate) fn to_toml(&self, derived: &[(&'static str, String)]) -> String {
        let mut leaves = BTreeMap::new();
        flatten("", &self.values, &mut leaves);
        let mut sections: BTreeMap<&str, Vec<(&str, String, String)>> = BTreeMap::new();
        for (key, value) in &leaves {
            let (section, name) = split(key);
            let shown = if is_secret(key) { "\"<hidden>\"".to_owned() } else { toml_of(&value.kind) };
            let mut origin = value.origin().map_or("default".to_owned(), |origin| format!("from {origin}"));
            if self.keys.is_optional(key) && is_empty(value) {
                let in_force = derived.iter().find(|(unset, _)| unset == key);
                origin += &in_force.map_or("; unset".to_owned(), |(_, value)| format!("; in force: {value}"));
            }
            sections.entry(section).or_default().push((name, shown, origin));
        }
        let mut toml = String::new();
        for (section, values) in sections {
            if !section.is_empty() {
                writeln!(toml, "\n[{section}]").expect("writing to a string cannot fail");
            }
            for (name, value, origin) in values {
                let quote = if name.contains('.') { "\"" } else { "" };
                writeln!(toml, "{quote}{name}{quote} = {value}  # {origin}")
                    .expect("writing to a string cannot fail");
            }
        }
        toml
    }

    /// The error of a value, with the value's origin.
    fn bad(&self, error: ConfigError) -> Failure {
        let key = match &error {
            ConfigError::At { key: Some(key), .. }
            | ConfigError::Type { key: Some(key), origin: None, .. } => key,
            _ => return bad(error),
        };
        let mut leaves = BTreeMap::new();
        flatten("", &self.values, &mut leaves);
        match leaves.get(key).and_then(|value| value.origin()) {
            Some(origin) => Failure::Config(format!("bad configuration: {error} from {origin}")),
            None => bad(error),
        }
    }

    fn without_unset(&self, prefix: &str, values: &Map<String, Value>) -> Value {
        let mut set = Map::new();
        for (name, value) in values {
            let key = join(prefix, name);
            match &value.kind {
                ValueKind::Table(inner) => drop(set.insert(name.clone(), self.without_unset(&key, inner))),
                _ if self.keys.is_optional(&key) && is_empty(value) => {}
                _ => drop(set.insert(name.clone(), value.clone())),
            }
        }
        Value::new(None, ValueKind::Table(set))
    }
}

/// The sections and keys that several services share; a service may lack some.
#[derive(Deserialize)]
#[expect(dead_code, reason = "deserialized for its errors alone")]
struct SharedSections {
    startup_deadline: Option<Duration>,
    shutdown_deadline: Option<Duration>,
    kafka: Option<KafkaConfig>,
    schema_registry: Option<SchemaRegistryConfig>,
    topics: Option<TopicsConfig>,
    admin: Option<AdminConfig>,
    log: Option<LogConfig>,
    tracing: Option<TracingConfig>,
}

/// A layer of TOML text; without an origin it holds the defaults.
#[derive(Debug, Clone)]
struct Toml {
    origin: Option<String>,
    text: String,
}

impl Source for Toml {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        ::config::Format::parse(&FileFormat::Toml, self.origin.as_ref(), &self.text)
            .map_err(ConfigError::Foreign)
    }
}

fn read(path: &Path, keys: &Keys) -> Result<Toml, Failure> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("--config: cannot read {origin}: {error}")))?;
    let table =
        text.parse().map_err(|error| Failure::Config(format!("--config {origin}: not TOML: {error}")))?;
    let unknown = keys.unknown_in(&table, &origin);
    if unknown.is_empty() { Ok(Toml { origin: Some(origin), text }) } else { Err(invalid(unknown)) }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn bad(error: ConfigError) -> Failure {
    Failure::Config(format!("bad configuration: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(problems: Vec<Invalid>) -> Failure {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Failure::Config(format!("bad configuration: {}", lines.join("; ")))
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn flatten<'v>(prefix: &str, values: &'v Map<String, Value>, into: &mut BTreeMap<String, &'v Value>) {
    for (name, value) in values {
        let key = join(prefix, name);
        match &value.kind {
            ValueKind::Table(inner) => flatten(&key, inner, into),
            _ => drop(into.insert(key, value)),
        }
    }
}

/// Section and name of a key; a property of librdkafka keeps its dots.
fn split(key: &str) -> (&str, &str) {
    match key.strip_prefix(OPEN_KEY).and_then(|rest| rest.strip_prefix('.')) {
        Some(property) => (OPEN_KEY, property),
        None => key.rsplit_once('.').unwrap_or(("", key)),
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text.is_empty())
}

/// Whether the value of a key is a secret, instead of the path of its file.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let is_named_so = name.split('_').any(|word| matches!(word, "password" | "secret" | "token" | "pem"));
    let may_hold_one = key.ends_with("sasl.jaas.config") || key.ends_with("sasl.oauthbearer.config");
    (is_named_so || may_hold_one) && !name.ends_with("_file")
}

fn toml_of(value: &ValueKind) -> String {
    match value {
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::U64(number) => number.to_string(),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| toml_of(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        other => toml::Value::String(without_login(&other.to_string())).to_string(),
    }
}

/// A URL with its password replaced; any other text as it is.
fn without_login(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    if url.password().is_none() || url.set_password(Some("hidden")).is_err() {
        return text.to_owned();
    }
    url.to_string()
}
