//! `KSTREAM__A__B=value` as an override of the key `a.b`.

use ::config::{Value, ValueKind};

use super::keys::{Keys, Layer, OPEN_KEY};
use super::{Invalid, Service};

const PREFIX: &str = "KSTREAM__";

/// The overrides that an environment holds for the service whose `keys` are given.
///
/// A variable that only another service of ours knows is passed over; one that none knows is refused.
pub(super) fn overrides(
    keys: &Keys,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, Value)>, Vec<Invalid>> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let key = key_of(name);
        if keys.knows(&key) {
            match typed(keys, &key, &text) {
                Ok(kind) => found.push((key, Value::new(Some(&variable), kind))),
                Err(expected) => refused.push(Invalid::new(
                    &key,
                    format!("{text:?} from {variable}"),
                    format!(
                        "{expected}, such as {}",
                        keys.example(&key).map_or(String::new(), ToString::to_string)
                    ),
                )),
            }
        } else if !Service::ALL.iter().any(|service| Keys::of(*service).knows(&key)) {
            refused.push(keys.complaint(&key, Layer::Variable(&variable)));
        }
    }
    if refused.is_empty() { Ok(found) } else { Err(refused) }
}

fn key_of(name: &str) -> String {
    let key = name.to_ascii_lowercase().replace("__", ".");
    match key.strip_prefix(OPEN_KEY) {
        Some(property) => format!("{OPEN_KEY}{}", property.replace('_', ".")),
        None => key,
    }
}

/// The text as the type that the key's default has; the expected type's name where it does not fit.
fn typed(keys: &Keys, key: &str, text: &str) -> Result<ValueKind, &'static str> {
    match keys.example(key) {
        Some(toml::Value::Integer(_)) => text.parse().map(ValueKind::I64).map_err(|_| "an integer"),
        Some(toml::Value::Float(_)) => text.parse().map(ValueKind::Float).map_err(|_| "a number"),
        Some(toml::Value::Boolean(_)) => text.parse().map(ValueKind::Boolean).map_err(|_| "true or false"),
        _ => Ok(ValueKind::String(text.to_owned())),
    }
}
