//! The keys of a service: every key is in its defaults file, so there is no second list.
//!
//! A key without a default has the value `""` there, which means "unset".

use std::collections::BTreeMap;

use ::config::{FileFormat, Format as _, Map, Value, ValueKind};

use super::{Invalid, Service};

/// Below this key any name is allowed: it is a property of librdkafka.
pub(super) const OPEN_KEY: &str = "kafka.properties";

/// Every key of one service in dotted form, with its default.
pub(super) struct Keys(BTreeMap<String, Value>);

impl Keys {
    pub(super) fn of(service: Service) -> Self {
        let defaults = FileFormat::Toml.parse(None, service.defaults());
        Self(flatten(&defaults.expect("config/*.toml are compiled in and a test parses each of them")))
    }

    pub(super) fn default_of(&self, key: &str) -> Option<&ValueKind> {
        self.0.get(key).map(|value| &value.kind)
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key) || (self.has_open_key() && key.starts_with(OPEN_KEY))
    }

    /// Whether `""` means that the key is unset.
    pub(super) fn is_optional(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(is_empty)
    }

    /// The error for an unknown key; `origin` is the file or the variable that has it.
    pub(super) fn unknown(&self, key: &str, origin: &str) -> Invalid {
        let nearest = self.0.keys().min_by_key(|known| strsim::damerau_levenshtein(known, key));
        let hint = nearest.map_or_else(String::new, |known| format!("; the nearest is {known}"));
        Invalid { key: key.to_owned(), problem: format!("unknown key from {origin}{hint}") }
    }

    /// The errors for all unknown keys of a file.
    pub(super) fn unknown_in(&self, values: &Map<String, Value>, origin: &str) -> Vec<Invalid> {
        let given = flatten(values);
        given.keys().filter(|key| !self.knows(key)).map(|key| self.unknown(key, origin)).collect()
    }

    fn has_open_key(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("kafka."))
    }
}

pub(super) fn is_empty(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text.is_empty())
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The values by dotted key.
pub(super) fn flatten(values: &Map<String, Value>) -> BTreeMap<String, Value> {
    fn collect(prefix: &str, values: &Map<String, Value>, into: &mut BTreeMap<String, Value>) {
        for (name, value) in values {
            let key = join(prefix, name);
            match &value.kind {
                ValueKind::Table(inner) => collect(&key, inner, into),
                _ => drop(into.insert(key, value.clone())),
            }
        }
    }
    let mut flat = BTreeMap::new();
    collect("", values, &mut flat);
    flat
}
