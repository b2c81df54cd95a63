//! A connection to the database.

use std::time::Duration;

use common::backoff::Retryable;
use common::config::{Invalid, read_secret};
use common::{Failure, http};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{PostgresUrl, Tls};
use crate::config::PostgresConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The server did not answer, or that it cannot now.
    #[error("{0}")]
    Away(String),
    /// It will not, ever.
    #[error("postgres at {url} refuses: {detail}; check postgres.url and postgres.password_file")]
    Refused {
        /// As whom, where.
        url: PostgresUrl,
        /// What it said.
        detail: String,
    },
}

impl Retryable for SessionError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Away(_) => Self::Other(error.into()),
            SessionError::Refused { .. } => Self::Config(error.to_string()),
        }
    }
}

/// A database and how to log in to it.
#[derive(Debug, Clone)]
pub struct Database {
    url: PostgresUrl,
    password: SecretString,
}

impl Database {
    /// Reads the password; asks nothing yet.
    ///
    /// # Errors
    /// [`Failure::Config`] if the password's file cannot be read, or if Connect would read it otherwise than we do.
    pub fn new(config: &PostgresConfig) -> Result<Self, Failure> {
        let (key, file) = ("postgres.password_file", &config.password_file);
        let password = read_secret(key, file)?;
        let length = std::fs::metadata(file).map_err(anyhow::Error::from)?.len();
        if usize::try_from(length) != Ok(password.expose_secret().len()) {
            let allowed = "a file with nothing but the password: Kafka Connect takes white space, a line's end included, for a part of it";
            let got = format!("{} with white space around the password", file.display());
            return Err(Failure::Config(format!("bad configuration: {}", Invalid::new(key, got, allowed))));
        }
        Ok(Self { url: config.url.clone(), password })
    }

    /// Role, server and database.
    #[must_use]
    pub fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// A new connection, which lives as long as the client.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn connect(&self) -> Result<Client, SessionError> {
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
            Tls::Off => return self.start(config.connect(NoTls).await),
            Tls::Prefer => SslMode::Prefer,
            Tls::Require => SslMode::Require,
        };
        http::install_crypto();
        let tls =
            ClientConfig::with_platform_verifier().map_err(|error| SessionError::Away(error.to_string()))?;
        self.start(config.ssl_mode(mode).connect(MakeRustlsConnect::new(tls)).await)
    }

    /// Lets the connection work in the background.
    fn start<C>(&self, connected: Result<(Client, C), tokio_postgres::Error>) -> Result<Client, SessionError>
    where
        C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    {
        let (client, connection) = connected.map_err(|error| self.judge(error))?;
        // Whoever waits for an answer gets the connection's error; nobody else needs it.
        tokio::spawn(connection);
        Ok(client)
    }

    fn judge(&self, error: tokio_postgres::Error) -> SessionError {
        let refused = error.code().is_some_and(is_refusal);
        let detail = format!("{:#}", anyhow::Error::from(error));
        if refused {
            SessionError::Refused { url: self.url.clone(), detail }
        } else {
            SessionError::Away(detail)
        }
    }
}

/// Login, database or right that is missing: waiting does not bring it.
fn is_refusal(code: &SqlState) -> bool {
    code.code().starts_with("28")
        || [SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE].contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(password: &str) -> (PostgresConfig, std::path::PathBuf) {
        let file =
            std::env::temp_dir().join(format!("jdbc-sink-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::write(&file, password).unwrap();
        let url = PostgresUrl::parse("postgresql://kstream@127.0.0.1:1/kstream").unwrap();
        (PostgresConfig { url, password_file: file.clone() }, file)
    }

    #[test]
    fn a_missing_password_file_is_named_with_its_key() {
        let (mut config, file) = config("x");
        std::fs::remove_file(&file).unwrap();
        config.password_file = "secrets/nowhere".into();
        let failure = Database::new(&config).unwrap_err();
        assert_eq!(failure.code(), 78);
        assert!(
            failure.to_string().starts_with("postgres.password_file: cannot read secrets/nowhere:"),
            "{failure}"
        );
    }

    #[test]
    fn a_password_that_connect_would_read_otherwise_is_refused_and_not_shown() {
        let (config, file) = config("hunter2\n");
        let failure = Database::new(&config).unwrap_err();
        std::fs::remove_file(file).unwrap();
        assert_eq!(failure.code(), 78);
        let message = failure.to_string();
        assert!(message.contains("postgres.password_file") && !message.contains("hunter2"), "{message}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_waited_for() {
        let (config, file) = config("hunter2");
        let error = Database::new(&config).unwrap().connect().await.unwrap_err();
        std::fs::remove_file(file).unwrap();
        assert!(error.is_retryable(), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_refused_login_is_a_mistake_and_a_server_that_starts_is_not() {
        for code in [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
        ] {
            assert!(is_refusal(&code), "{code:?}");
        }
        for code in [SqlState::CANNOT_CONNECT_NOW, SqlState::TOO_MANY_CONNECTIONS, SqlState::ADMIN_SHUTDOWN] {
            assert!(!is_refusal(&code), "{code:?}");
        }
    }
}
