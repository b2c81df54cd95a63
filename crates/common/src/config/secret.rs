//! Secrets in files.

use std::path::Path;

use secrecy::SecretString;

use crate::Failure;

/// Reads a secret from the file that `key` names, without the white space around it.
///
/// # Errors
/// [`Failure::Config`] with key and path, never with the content.
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
