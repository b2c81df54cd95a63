//! The address of the database, with role and TLS mode.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use url::Url;

/// `postgresql://ROLE@HOST:PORT/DATABASE?sslmode=…`, without a password: that is in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresUrl {
    pub(crate) role: String,
    /// Name or address; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) tls: TlsMode,
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// `disable`, or no `sslmode`.
    Off,
    /// `prefer`: TLS if the server offers it. Our own connection then checks the certificate; the JDBC driver does not.
    Prefer,
    /// `require` or `verify-full`; both mean the same here: encrypted, and the certificate is checked.
    Require,
}

const ALLOWED: &str =
    "postgresql://role@host:5432/database, optionally with ?sslmode=disable, prefer or require";

impl PostgresUrl {
    /// # Errors
    /// A message that never contains a password from the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}; expected {ALLOWED}"))?;
        if url.password().is_some() {
            return Err("the URL contains a password; put it into the file of postgres.password_file".into());
        }
        let invalid = || format!("invalid value {text:?}; expected {ALLOWED}");
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let (role, database) = (url.username(), url.path().trim_start_matches('/'));
        if !matches!(url.scheme(), "postgresql" | "postgres") || !is_plain(role) || !is_plain(database) {
            return Err(invalid());
        }
        let mut tls = TlsMode::Off;
        for (name, value) in url.query_pairs() {
            tls = TlsMode::parse(&name, &value).ok_or_else(invalid)?;
        }
        Ok(Self {
            role: role.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(5432),
            database: database.to_owned(),
            tls,
        })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The URL for PostgreSQL's JDBC driver, without the role.
    ///
    /// The driver's own `require` accepts any certificate. So our `require` becomes its `verify-full`, with the certificate authorities of
    /// Connect's Java.
    pub(crate) fn jdbc(&self) -> String {
        let tls = match self.tls {
            TlsMode::Off => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory",
        };
        format!(
            "jdbc:postgresql://{}/{}?sslmode={tls}&reWriteBatchedInserts=true",
            self.address(),
            self.database
        )
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@{}/{}", self.role, self.address(), self.database)
    }
}

impl<'de> Deserialize<'de> for PostgresUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl TlsMode {
    fn parse(name: &str, value: &str) -> Option<Self> {
        match (name, value) {
            ("sslmode", "disable") => Some(Self::Off),
            ("sslmode", "prefer") => Some(Self::Prefer),
            ("sslmode", "require" | "verify-full") => Some(Self::Require),
            _ => None,
        }
    }
}

/// Whether the name needs no escaping in either kind of URL.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_port_and_sslmode_means_5432_and_no_tls() {
        let url = PostgresUrl::parse("postgres://kstream@db/kstream").unwrap();
        assert_eq!((url.port, url.tls), (5432, TlsMode::Off));
        assert_eq!(url.to_string(), "postgresql://kstream@db:5432/kstream");
        assert_eq!(
            url.jdbc(),
            "jdbc:postgresql://db:5432/kstream?sslmode=disable&reWriteBatchedInserts=true"
        );
    }

    #[test]
    fn required_tls_checks_the_certificate_here_and_in_the_connector() {
        for mode in ["require", "verify-full"] {
            let url = PostgresUrl::parse(&format!("postgresql://me@[::1]:1/x?sslmode={mode}")).unwrap();
            assert_eq!((url.host.as_str(), url.tls), ("::1", TlsMode::Require));
            assert_eq!(
                url.jdbc(),
                "jdbc:postgresql://[::1]:1/x?sslmode=verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory\
                 &reWriteBatchedInserts=true"
            );
        }
        let url = PostgresUrl::parse("postgresql://me@h/x?sslmode=prefer").unwrap();
        assert_eq!(url.tls, TlsMode::Prefer);
        assert!(url.jdbc().contains("?sslmode=prefer&"));
    }

    #[test]
    fn an_invalid_url_is_rejected_with_the_expected_form() {
        for text in [
            "kstream",
            "http://kstream@h/db",
            "postgresql://h/db",
            "postgresql://me@h",
            "postgresql://me@/db",
            "postgresql://me@h/a/b",
            "postgresql://me@h/db?sslmode=verify-ca",
            "postgresql://me@h/db?connect_timeout=3",
        ] {
            let error = PostgresUrl::parse(text).unwrap_err();
            assert!(error.contains("expected postgresql://role@host:5432/database"), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_rejected_and_not_shown() {
        let error = PostgresUrl::parse("postgresql://me:hunter2@h/db").unwrap_err();
        assert!(error.contains("postgres.password_file") && !error.contains("hunter2"), "{error}");
    }
}
