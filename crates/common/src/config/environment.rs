//! `KSTREAM__A__B=value` as an override of the key `a.b`.

use ::config::{Value, ValueKind};

use super::effective::{Flag, to_toml};
use super::keys::{Keys, OPEN_KEY};
use super::{Invalid, Service};

const PREFIX: &str = "KSTREAM__";

/// The overrides in an environment for the service with these `keys`.
///
/// A variable that only another service knows is ignored; one that no service knows is an error.
pub(super) fn overrides(
    keys: &Keys,
    environment: Vec<(String, String)>,
) -> Result<Vec<(String, Value)>, Vec<Invalid>> {
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let key = key_of(name);
        if keys.knows(&key) {
            match value(keys, &key, &text, &variable) {
                Ok(value) => found.push((key, value)),
                Err(error) => invalid.push(error),
            }
        } else if !Service::ALL.iter().any(|service| Keys::of(*service).knows(&key)) {
            invalid.push(keys.unknown(&key, &variable));
        }
    }
    if invalid.is_empty() { Ok(found) } else { Err(invalid) }
}

/// The overrides of command line flags.
pub(super) fn flags(keys: &Keys, flags: &[Flag]) -> Result<Vec<(String, Value)>, Vec<Invalid>> {
    let value = |flag: &Flag| Ok((flag.key.to_owned(), value(keys, flag.key, &flag.value, flag.name)?));
    flags.iter().map(value).collect::<Result<_, _>>().map_err(|invalid| vec![invalid])
}

/// The text as a value of the type of the key's default.
fn value(keys: &Keys, key: &str, text: &str, origin: &str) -> Result<Value, Invalid> {
    let kind = typed(keys, key, text).map_err(|expected| {
        let example = keys.default_of(key).map_or(String::new(), to_toml);
        Invalid::new(key, format!("{text:?} from {origin}"), format!("{expected}, such as {example}"))
    })?;
    Ok(Value::new(Some(&origin.to_owned()), kind))
}

fn key_of(name: &str) -> String {
    let key = name.to_ascii_lowercase().replace("__", ".");
    match key.strip_prefix(OPEN_KEY) {
        Some(property) => format!("{OPEN_KEY}{}", property.replace('_', ".")),
        None => key,
    }
}

/// Converts the text to the type of the key's default; the error is the name of that type.
fn typed(keys: &Keys, key: &str, text: &str) -> Result<ValueKind, &'static str> {
    match keys.default_of(key) {
        Some(ValueKind::I64(_)) => text.parse().map(ValueKind::I64).map_err(|_| "an integer"),
        Some(ValueKind::Float(_)) => text.parse().map(ValueKind::Float).map_err(|_| "a number"),
        Some(ValueKind::Boolean(_)) => text.parse().map(ValueKind::Boolean).map_err(|_| "true or false"),
        _ => Ok(ValueKind::String(text.to_owned())),
    }
}
