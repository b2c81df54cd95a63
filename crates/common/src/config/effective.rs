//! The effective configuration: defaults, file, environment and flags merged, each value with its origin.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ::config::{Config as Layers, ConfigError, FileFormat, Format as _, Map, Source, Value, ValueKind};
use url::Url;

use super::keys::{Keys, OPEN_KEY, flatten, is_empty, join};
use super::{Invalid, Service, ServiceConfig, environment};
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
    /// Merges the layers of a service. Later ones win: defaults, `file`, `environment`, `flags`.
    ///
    /// # Errors
    /// [`Failure::Config`] for unknown keys, a file that cannot be read, and a variable of the wrong type.
    #[inline(never)]
    pub(crate) fn merge(
        service: Service,
        file: Option<&Path>,
        environment: Vec<(String, String)>,
        flags: &[Flag],
    ) -> Result<Self, Failure> {
        let keys = Keys::of(service);
        let defaults = FileFormat::Toml.parse(None, service.defaults());
        let defaults = defaults.expect("config/*.toml are compiled in and a test parses each of them");
        let mut layers = Layers::builder().add_source(Layer(defaults));
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
        let common = set.clone().try_deserialize().map_err(|error| self.bad(error))?;
        let own = set.try_deserialize().map_err(|error| self.bad(error))?;
        let config = C::new(common, own);
        let problems = config.check();
        if problems.is_empty() { Ok(config) } else { Err(invalid(problems)) }
    }

    /// The configuration as a TOML file, each value with its origin in a comment. Secrets are hidden. `derived` has the values in force of
    /// keys that are unset.
    #[must_use]
    #[inline(never)]
    pub(crate) fn to_toml(&self, derived: &[(&'static str, String)]) -> String {
        let leaves = flatten(&self.values);
        let mut sections: BTreeMap<&str, Vec<(&str, String, String)>> = BTreeMap::new();
        for (key, value) in &leaves {
            let (section, name) = split(key);
            let shown = if is_secret(key) { "\"<hidden>\"".to_owned() } else { to_toml(&value.kind) };
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
        match flatten(&self.values).get(key).and_then(Value::origin) {
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

/// A parsed layer.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn read(path: &Path, keys: &Keys) -> Result<Layer, Failure> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("--config: cannot read {origin}: {error}")))?;
    let values = FileFormat::Toml
        .parse(Some(&origin), &text)
        .map_err(|error| Failure::Config(format!("--config {origin}: not TOML: {error}")))?;
    let unknown = keys.unknown_in(&values, &origin);
    if unknown.is_empty() { Ok(Layer(values)) } else { Err(invalid(unknown)) }
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

/// Section and name of a key; a property of librdkafka keeps its dots.
fn split(key: &str) -> (&str, &str) {
    match key.strip_prefix(OPEN_KEY).and_then(|rest| rest.strip_prefix('.')) {
        Some(property) => (OPEN_KEY, property),
        None => key.rsplit_once('.').unwrap_or(("", key)),
    }
}

/// Whether the value of a key is a secret, instead of the path of its file.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let is_named_so = name.split('_').any(|word| matches!(word, "password" | "secret" | "token" | "pem"));
    let may_hold_one = key.ends_with("sasl.jaas.config") || key.ends_with("sasl.oauthbearer.config");
    (is_named_so || may_hold_one) && !name.ends_with("_file")
}

/// The value in TOML.
pub(super) fn to_toml(value: &ValueKind) -> String {
    match value {
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::U64(number) => number.to_string(),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| to_toml(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        // JSON's strings are TOML's too.
        other => serde_json::Value::String(without_login(&other.to_string())).to_string(),
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
