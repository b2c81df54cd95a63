//! The keys a service knows, read off its defaults file, so that there is no second list to keep.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::{Invalid, Service};

/// Below this key any name goes: it belongs to librdkafka.
pub(super) const OPEN_KEY: &str = "kafka.properties";

/// Where a key was found, for the message.
#[derive(Clone, Copy)]
pub(super) enum Layer<'a> {
    File(&'a Path),
    Variable(&'a str),
}

impl std::fmt::Display for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Variable(name) => write!(f, "from {name}"),
        }
    }
}

/// Every key of one service, in dotted form, with its default or, where it has none, its example.
pub(super) struct Keys(BTreeMap<String, Value>);

impl Keys {
    pub(super) fn of(service: Service) -> Self {
        Self(flatten(&with_optional_keys(service.defaults())))
    }

    pub(super) fn example(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key) || (self.has_open_key() && key.starts_with(OPEN_KEY))
    }

    /// The complaint about a key that is not known.
    pub(super) fn complaint(&self, key: &str, layer: Layer<'_>) -> Invalid {
        let nearest = self.0.keys().min_by_key(|known| strsim::damerau_levenshtein(known, key));
        let hint = nearest.map_or_else(String::new, |known| format!("; the nearest is {known}"));
        Invalid { key: key.to_owned(), problem: format!("unknown key {layer}{hint}") }
    }

    /// The keys of a file that are not known.
    pub(super) fn unknown_in(&self, layer: Layer<'_>, text: &str) -> Result<Vec<Invalid>, toml::de::Error> {
        let given = flatten(&text.parse::<Table>()?);
        Ok(given.keys().filter(|key| !self.knows(key)).map(|key| self.complaint(key, layer)).collect())
    }

    fn has_open_key(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("kafka."))
    }
}

/// The defaults with each `# key = value` line taken at its word.
fn with_optional_keys(defaults: &str) -> Table {
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let lines = defaults.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    text.parse().expect("config/*.toml are compiled in and a test parses each of them")
}

fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                keys.extend(flatten(inner).into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            Value::Table(_) => {}
            leaf => drop(keys.insert(name.clone(), leaf.clone())),
        }
    }
    keys
}
