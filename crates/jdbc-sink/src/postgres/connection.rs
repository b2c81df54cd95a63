//! A connection to the database.

use std::path::PathBuf;
use std::time::Duration;

use common::backoff::Retryable;
use common::config::{Invalid, read_secret};
use common::{Failure, http};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{PostgresUrl, TlsMode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `[postgres]`
#[derive(Debug, Clone, Deserialize)]
pub struct PostgresConfig {
    pub(crate) url: PostgresUrl,
    /// File with the role's password.
    pub password_file: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseConnectError {
    /// The server does not answer, or accepts no connection for now.
    #[error("{0}")]
    Unavailable(String),
    /// The server rejects the login, and another attempt changes nothing.
    #[error("postgres at {url} rejects the login: {detail}; check postgres.url and postgres.password_file")]
    Rejected { url: PostgresUrl, detail: String },
}

impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "postgres at {}", self.url.address())
    }
}

impl Retryable for DatabaseConnectError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<DatabaseConnectError> for Failure {
    fn from(error: DatabaseConnectError) -> Self {
        match error {
            DatabaseConnectError::Unavailable(_) => Self::Other(error.into()),
            DatabaseConnectError::Rejected { .. } => Self::Config(error.to_string()),
        }
    }
}

/// A database and its login.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: PostgresUrl,
    password: SecretString,
}

impl Database {
    /// Reads the password; does not connect yet.
    ///
    /// # Errors
    /// [`Failure::Config`] if the password file cannot be read, or if Connect would read another password from it.
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self, Failure> {
        let (key, file) = ("postgres.password_file", &config.password_file);
        let password = read_secret(key, file)?;
        let length = std::fs::metadata(file).map_err(anyhow::Error::from)?.len();
        if usize::try_from(length) != Ok(password.expose_secret().len()) {
            let allowed = "a file with nothing but the password: Kafka Connect treats white space, even a final newline, as a part of it";
            let got = format!("{} with white space around the password", file.display());
            return Err(Failure::Config(format!("bad configuration: {}", Invalid::new(key, got, allowed))));
        }
        Ok(Self { url: config.url.clone(), password })
    }

    pub(crate) fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// A new connection; it lives as long as the client.
    pub(crate) async fn connect(&self) -> Result<Client, DatabaseConnectError> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.url.host)
            .port(self.url.port)
            .user(&self.url.role)
            .password(self.password.expose_secret())
            .dbname(&self.url.database)
            .application_name("jdbc-sink")
            .connect_timeout(CONNECT_TIMEOUT);
        let mode = match self.url.tls {
            TlsMode::Off => return self.spawn(config.connect(NoTls).await),
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require => SslMode::Require,
        };
        http::install_crypto();
        let tls = ClientConfig::with_platform_verifier()
            .map_err(|error| DatabaseConnectError::Unavailable(error.to_string()))?;
        self.spawn(config.ssl_mode(mode).connect(MakeRustlsConnect::new(tls)).await)
    }

    /// Drives the connection in the background.
    fn spawn<C>(
        &self,
        connected: Result<(Client, C), tokio_postgres::Error>,
    ) -> Result<Client, DatabaseConnectError>
    where
        C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    {
        let (client, connection) = connected.map_err(|error| self.classify(error))?;
        // A pending query gets the connection's error; nothing else needs it.
        tokio::spawn(connection);
        Ok(client)
    }

    fn classify(&self, error: tokio_postgres::Error) -> DatabaseConnectError {
        let rejected = error.code().is_some_and(is_login_error);
        let detail = format!("{:#}", anyhow::Error::from(error));
        if rejected {
            DatabaseConnectError::Rejected { url: self.url.clone(), detail }
        } else {
            DatabaseConnectError::Unavailable(detail)
        }
    }
}

/// The role, its password, the database or a privilege is missing: retrying does not help.
fn is_login_error(code: &SqlState) -> bool {
    code.code().starts_with("28")
        || [SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE].contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file is deleted when it is dropped.
    fn config(password: &str) -> (PostgresConfig, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, password).unwrap();
        let url = PostgresUrl::parse("postgresql://kstream@127.0.0.1:1/kstream").unwrap();
        (PostgresConfig { url, password_file: file.path().to_owned() }, file)
    }

    #[test]
    fn a_missing_password_file_is_named_with_its_key() {
        let (mut config, _file) = config("x");
        config.password_file = "secrets/nowhere".into();
        let failure = Database::new(&config).unwrap_err();
        assert_eq!(failure.code(), 78);
        assert!(
            failure.to_string().starts_with("postgres.password_file: cannot read secrets/nowhere:"),
            "{failure}"
        );
    }

    #[test]
    fn a_password_with_white_space_around_it_is_rejected_and_not_shown() {
        let (config, _file) = config("hunter2\n");
        let failure = Database::new(&config).unwrap_err();
        assert_eq!(failure.code(), 78);
        let message = failure.to_string();
        assert!(message.contains("postgres.password_file") && !message.contains("hunter2"), "{message}");
    }

    #[tokio::test]
    async fn a_connection_to_a_server_that_does_not_answer_is_retried() {
        let (config, _file) = config("hunter2");
        let error = Database::new(&config).unwrap().connect().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_rejected_login_is_final_and_a_starting_server_is_not() {
        for code in [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
        ] {
            assert!(is_login_error(&code), "{code:?}");
        }
        for code in [SqlState::CANNOT_CONNECT_NOW, SqlState::TOO_MANY_CONNECTIONS, SqlState::ADMIN_SHUTDOWN] {
            assert!(!is_login_error(&code), "{code:?}");
        }
    }
}
