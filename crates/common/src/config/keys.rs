//! The keys of a service: every key is in its defaults file, so there is no second list.
//!
//! A key without a default has the value `""` there, which means "unset".

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Invalid, Service};

/// Below this key any name is allowed: it is a property of librdkafka.
pub(super) const OPEN_KEY: &str = "kafka.properties";

/// Every key of one service in dotted form, with its default.
pub(super) struct Keys(BTreeMap<String, Value>);

impl Keys {
    pub(super) fn of(service: Service) -> Self {
        let defaults = service.defaults().parse();
        Self(flatten(&defaults.expect("config/*.toml are compiled in and a test parses each of them")))
    }

    pub(super) fn default_of(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key) || (self.has_open_key() && key.starts_with(OPEN_KEY))
    }

    /// Whether `""` means that the key is unset.
    pub(super) fn is_optional(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_str) == Some("")
    }

    /// The error for an unknown key; `origin` is the file or the variable that has it.
    pub(super) fn unknown(&self, key: &str, origin: &str) -> Invalid {
        let nearest = self.0.keys().min_by_key(|known| strsim::damerau_levenshtein(known, key));
        let hint = nearest.map_or_else(String::new, |known| format!("; the nearest is {known}"));
        Invalid { key: key.to_owned(), problem: format!("unknown key from {origin}{hint}") }
    }

    /// The errors for all unknown keys of a file.
    pub(super) fn unknown_in(&self, table: &Table, origin: &str) -> Vec<Invalid> {
        let given = flatten(table);
        given.keys().filter(|key| !self.knows(key)).map(|key| self.unknown(key, origin)).collect()
    }

    fn has_open_key(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("kafka."))
    }
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
