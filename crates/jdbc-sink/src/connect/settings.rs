//! What a connector finds around it: addresses and secrets, each as Kafka Connect sees it.

use std::path::Path;

use common::config::{Invalid, SchemaRegistryConfig};

use crate::Config;

/// The values that differ from one installation to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The database for the JDBC driver.
    pub jdbc_url: String,
    /// The role to log in as.
    pub postgres_role: String,
    /// Where Connect finds the role's password.
    pub postgres_password: SecretReference,
    /// Version 2 of Apicurio's API.
    pub registry_url: String,
    /// User, and where Connect finds the user's password, if the registry wants them.
    pub registry_login: Option<(String, SecretReference)>,
}

/// `${directory:FOLDER:FILE}`: Connect's `DirectoryConfigProvider` puts the file's content in its place when it starts a task, so that
/// neither Connect's REST API nor its topic of configurations ever holds the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference(String);

impl SecretReference {
    /// The reference, as it stands in a connector's configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// To the file of `key`, in `folder` or where it lies for us.
    fn new(key: &str, file: &Path, folder: Option<&str>) -> Result<Self, Invalid> {
        let refused = || Invalid::new(key, format!("{file:?}"), "the path of a file");
        let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
        let own = std::path::absolute(file).map_err(|_| refused())?;
        let own = own.parent().and_then(Path::to_str).ok_or_else(refused)?;
        let (folder_key, folder) = folder.map_or((key, own), |folder| ("connect.secrets_dir", folder));
        let path = format!("{folder}:{name}");
        if !folder.starts_with('/') || path.matches(':').count() > 1 || path.contains('}') {
            let allowed =
                "an absolute path without ':' and '}': Kafka Connect could not read such a reference";
            return Err(Invalid::new(folder_key, format!("{folder:?}"), allowed));
        }
        Ok(Self(format!("${{directory:{path}}}")))
    }
}

impl Surroundings {
    /// As `config` says, and by default as it implies.
    ///
    /// # Errors
    /// The value that cannot be passed on to Connect, or that nothing implies.
    pub fn of(config: &Config) -> Result<Self, Invalid> {
        let folder = config.connect.secrets_dir.as_deref();
        let postgres = &config.postgres;
        let url = config.connect.postgres_url.as_ref().unwrap_or(&postgres.url);
        let registry_login = match (&config.schema_registry.username, &config.schema_registry.password_file) {
            (Some(user), Some(file)) => {
                Some((user.clone(), SecretReference::new("schema_registry.password_file", file, folder)?))
            }
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
            registry_url: match &config.connect.registry_url {
                Some(url) => url.as_str().trim_end_matches('/').to_owned(),
                None => apicurio(&config.schema_registry)?,
            },
            registry_login,
        })
    }
}

/// Apicurio's own API beside its Confluent-compatible one: the converter speaks only the former.
fn apicurio(registry: &SchemaRegistryConfig) -> Result<String, Invalid> {
    let url = registry.url.as_str();
    let (base, _) = url.split_once("/apis/ccompat/").ok_or_else(|| {
        let allowed = format!(
            "the URL of Apicurio's API (…/apis/registry/v2) as Kafka Connect sees it, as schema_registry.url = {url} does not tell it"
        );
        Invalid::new("connect.registry_url", "nothing", allowed)
    })?;
    Ok(format!("{base}/apis/registry/v2"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn surroundings(environment: &[(&str, &str)]) -> Surroundings {
        let environment = environment.iter().map(|(k, v)| (format!("KSTREAM__{k}"), (*v).to_owned()));
        Surroundings::of(&load_from(None, environment).unwrap()).unwrap()
    }

    #[test]
    fn by_default_connect_sees_everything_as_we_do() {
        let found = surroundings(&[("POSTGRES__PASSWORD_FILE", "/run/secrets/pg")]);
        assert_eq!(
            found,
            Surroundings {
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
    fn a_relative_password_file_becomes_absolute_as_connect_has_another_working_folder() {
        let here = std::env::current_dir().unwrap();
        let expected = format!("${{directory:{}/secrets:postgres_password}}", here.display());
        assert_eq!(surroundings(&[]).postgres_password.as_str(), expected);
    }

    #[test]
    fn where_connect_sees_it_otherwise_its_view_goes_into_the_connector() {
        let found = surroundings(&[
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
        let (user, password) = found.registry_login.unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("reader", "${directory:/theirs:registry}"));
    }
}
