//! Values that need more than serde's own types.

use std::fmt;
use std::path::Path;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

use crate::Failure;

/// A span of time, written as in `100ms`, `10s`, `5m` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl std::ops::Deref for Duration {
    type Target = std::time::Duration;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|error| {
            de::Error::custom(format!(
                "invalid value {text:?}; expected a duration such as 100ms, 10s, 5m or 30d ({error})"
            ))
        })
    }
}

/// A list, either as such or as text with commas, which is how an environment variable has it.
///
/// # Errors
/// The deserializer's, if it is neither.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(items) => items,
        Either::Text(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// Reads a secret from the file that `key` names; white space around it is not part of it.
///
/// # Errors
/// [`Failure::Config`] that names key and path, never the content.
pub fn read_secret(key: &str, path: &Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("{key}: cannot read {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(Failure::Config(format!(
            "{key}: {} is empty; expected a file that holds the secret",
            path.display()
        ))),
        secret => Ok(SecretString::from(secret)),
    }
}
