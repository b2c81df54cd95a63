//! `[connect]`, and the addresses and secrets of a connector, each as Kafka Connect sees it.

use std::path::Path;

use common::config::{Duration, Invalid, SchemaRegistryConfig};
use serde::Deserialize;
use url::Url;

use crate::postgres::connection::PostgresConfig;
use crate::postgres::url::PostgresUrl;

/// `[connect]`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ConnectConfig {
    pub(crate) url: Url,
    /// From one poll of the connectors to the next.
    pub(crate) watch_interval: Duration,
    /// Folder of the password files as Connect sees it.
    pub(crate) secrets_dir: Option<String>,
    /// The database as Connect sees it.
    pub(crate) postgres_url: Option<PostgresUrl>,
    /// Version 2 of Apicurio's own API as Connect sees it.
    pub(crate) registry_url: Option<Url>,
}

impl ConnectConfig {
    pub(crate) fn check(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if !matches!(self.url.scheme(), "http" | "https") {
            invalid.push(Invalid::new("connect.url", &self.url, "an http:// or https:// URL"));
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            invalid.push(Invalid::new("connect.url", "a URL with a login in it", "one without"));
        }
        if self.watch_interval.is_zero() {
            invalid.push(Invalid::new("connect.watch_interval", self.watch_interval, "more than nothing"));
        }
        invalid
    }
}

/// The values of a connector that differ from one installation to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectSettings {
    /// The database for the JDBC driver.
    pub(crate) jdbc_url: String,
    pub(crate) postgres_role: String,
    pub(crate) postgres_password: SecretReference,
    /// Version 2 of Apicurio's API.
    pub(crate) registry_url: String,
    /// `None` if the registry needs no login.
    pub(crate) registry_login: Option<RegistryLogin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryLogin {
    pub(crate) user: String,
    pub(crate) password: SecretReference,
}

/// `${directory:FOLDER:FILE}`: Connect's `DirectoryConfigProvider` replaces it by the file's content when it starts a task. So neither
/// Connect's REST API nor its config topic ever holds the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretReference(String);

impl SecretReference {
    /// As it is written in a connector's configuration.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A reference to the file of `key`: in `folder`, by default in the folder where this process reads it.
    fn new(key: &str, file: &Path, folder: Option<&str>) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(key, format!("{file:?}"), "the path of a file");
        let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
        let own = std::path::absolute(file).map_err(|_| invalid())?;
        let own = own.parent().and_then(Path::to_str).ok_or_else(invalid)?;
        let (folder_key, folder) = folder.map_or((key, own), |folder| ("connect.secrets_dir", folder));
        let path = format!("{folder}:{name}");
        if !folder.starts_with('/') || path.matches(':').count() > 1 || path.contains('}') {
            let allowed =
                "an absolute path without ':' and '}', which Kafka Connect cannot read in a reference";
            return Err(Invalid::new(folder_key, format!("{folder:?}"), allowed));
        }
        Ok(Self(format!("${{directory:{path}}}")))
    }
}

impl ConnectSettings {
    /// The values of `connect`; where it has none, those that this service itself uses.
    ///
    /// # Errors
    /// The value that Connect cannot read, or that has no default.
    pub(crate) fn new(
        connect: &ConnectConfig,
        postgres: &PostgresConfig,
        registry: &SchemaRegistryConfig,
    ) -> Result<Self, Invalid> {
        let folder = connect.secrets_dir.as_deref();
        let url = connect.postgres_url.as_ref().unwrap_or(&postgres.url);
        let registry_login = match (&registry.username, &registry.password_file) {
            (Some(user), Some(file)) => Some(RegistryLogin {
                user: user.clone(),
                password: SecretReference::new("schema_registry.password_file", file, folder)?,
            }),
            _ => None,
        };
        Ok(Self {
            jdbc_url: url.jdbc(),
            postgres_role: url.role.clone(),
            postgres_password: SecretReference::new(
                "postgres.password_file",
                &postgres.password_file,
                folder,
            )?,
            registry_url: match &connect.registry_url {
                Some(url) => url.as_str().trim_end_matches('/').to_owned(),
                None => apicurio_url(registry)?,
            },
            registry_login,
        })
    }
}

/// Apicurio's own API: the converter does not support its Confluent-compatible one.
fn apicurio_url(registry: &SchemaRegistryConfig) -> Result<String, Invalid> {
    let url = registry.url.as_str();
    let (base, _) = url.split_once("/apis/ccompat/").ok_or_else(|| {
        let allowed = format!(
            "the URL of Apicurio's API (…/apis/registry/v2) as Kafka Connect sees it; it cannot be derived from schema_registry.url = {url}"
        );
        Invalid::missing("connect.registry_url", allowed)
    })?;
    Ok(format!("{base}/apis/registry/v2"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn settings(environment: &[(&str, &str)]) -> ConnectSettings {
        let environment = environment.iter().map(|(k, v)| (format!("KSTREAM__{k}"), (*v).to_owned()));
        let config: crate::Config = load_from(None, environment).unwrap();
        ConnectSettings::new(&config.connect, &config.postgres, &config.schema_registry).unwrap()
    }

    #[test]
    fn by_default_connect_uses_the_addresses_of_this_service() {
        let found = settings(&[("POSTGRES__PASSWORD_FILE", "/run/secrets/pg")]);
        assert_eq!(
            found,
            ConnectSettings {
                jdbc_url:
                    "jdbc:postgresql://127.0.0.1:5432/kstream?sslmode=disable&reWriteBatchedInserts=true"
                        .into(),
                postgres_role: "kstream".into(),
                postgres_password: SecretReference("${directory:/run/secrets:pg}".into()),
                registry_url: "http://127.0.0.1:8081/apis/registry/v2".into(),
                registry_login: None,
            }
        );
    }

    #[test]
    fn a_relative_password_file_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        let expected = format!("${{directory:{}/secrets:postgres_password}}", here.display());
        assert_eq!(settings(&[]).postgres_password.as_str(), expected);
    }

    #[test]
    fn addresses_and_folders_of_connect_replace_those_of_this_service() {
        let found = settings(&[
            ("POSTGRES__PASSWORD_FILE", "/ours/pg"),
            ("CONNECT__SECRETS_DIR", "/theirs"),
            ("CONNECT__POSTGRES_URL", "postgresql://kstream@db:6000/kstream"),
            ("CONNECT__REGISTRY_URL", "http://registry:8080/apis/registry/v2/"),
            ("SCHEMA_REGISTRY__URL", "http://elsewhere"),
            ("SCHEMA_REGISTRY__USERNAME", "reader"),
            ("SCHEMA_REGISTRY__PASSWORD_FILE", "/ours/registry"),
        ]);
        assert_eq!(found.postgres_password.as_str(), "${directory:/theirs:pg}");
        assert!(found.jdbc_url.starts_with("jdbc:postgresql://db:6000/kstream?"));
        assert_eq!(found.registry_url, "http://registry:8080/apis/registry/v2");
        let login = found.registry_login.unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("reader", "${directory:/theirs:registry}")
        );
    }
}
