//! Which database, as which role, and how safely.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use url::Url;

/// `postgresql://ROLE@HOST:PORT/DATABASE?sslmode=…`, without a password: that stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// The role to log in as.
    pub role: String,
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// What `sslmode` asks for.
    pub tls: Tls,
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// `disable`, or no `sslmode`.
    Off,
    /// `prefer`: if the server offers it; our own connection checks the certificate then, the JDBC driver does not.
    Prefer,
    /// `require` or `verify-full`, which mean the same here: encrypted, and the certificate checked.
    Require,
}

const ALLOWED: &str =
    "postgresql://role@host:5432/database, with ?sslmode=disable, prefer or require behind it if need be";

impl PostgresUrl {
    /// Reads the URL's text.
    ///
    /// # Errors
    /// What is wrong with it, never a password that is in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}; expected {ALLOWED}"))?;
        if url.password().is_some() {
            return Err(
                "a password in it; expected none: it belongs in the file of postgres.password_file".into()
            );
        }
        let refused = || format!("invalid value {text:?}; expected {ALLOWED}");
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(refused)?;
        let (role, database) = (url.username(), url.path().trim_start_matches('/'));
        if !matches!(url.scheme(), "postgresql" | "postgres") || !is_plain(role) || !is_plain(database) {
            return Err(refused());
        }
        let mut tls = Tls::Off;
        for (name, value) in url.query_pairs() {
            tls = Tls::parse(&name, &value).ok_or_else(refused)?;
        }
        Ok(Self {
            role: role.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(5432),
            database: database.to_owned(),
            tls,
        })
    }

    /// `host:port`, with brackets where they are due.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same as PostgreSQL's JDBC driver takes it; the role is not part of it.
    ///
    /// Its own `require` would take any certificate, so that what we mean by it has another name there, and the certificate
    /// authorities are those of Connect's Java.
    #[must_use]
    pub fn jdbc(&self) -> String {
        let tls = match self.tls {
            Tls::Off => "disable",
            Tls::Prefer => "prefer",
            Tls::Require => "verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory",
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

impl Tls {
    fn parse(name: &str, value: &str) -> Option<Self> {
        match (name, value) {
            ("sslmode", "disable") => Some(Self::Off),
            ("sslmode", "prefer") => Some(Self::Prefer),
            ("sslmode", "require" | "verify-full") => Some(Self::Require),
            _ => None,
        }
    }
}

/// A name that stands in both kinds of URL as it is.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_port_and_sslmode_means_5432_and_no_tls() {
        let url = PostgresUrl::parse("postgres://kstream@db/kstream").unwrap();
        assert_eq!((url.port, url.tls), (5432, Tls::Off));
        assert_eq!(url.to_string(), "postgresql://kstream@db:5432/kstream");
        assert_eq!(
            url.jdbc(),
            "jdbc:postgresql://db:5432/kstream?sslmode=disable&reWriteBatchedInserts=true"
        );
    }

    #[test]
    fn the_certificate_is_checked_on_both_ways_when_tls_is_required() {
        for mode in ["require", "verify-full"] {
            let url = PostgresUrl::parse(&format!("postgresql://me@[::1]:1/x?sslmode={mode}")).unwrap();
            assert_eq!((url.host.as_str(), url.tls), ("::1", Tls::Require));
            assert_eq!(
                url.jdbc(),
                "jdbc:postgresql://[::1]:1/x?sslmode=verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory\
                 &reWriteBatchedInserts=true"
            );
        }
        let url = PostgresUrl::parse("postgresql://me@h/x?sslmode=prefer").unwrap();
        assert_eq!(url.tls, Tls::Prefer);
        assert!(url.jdbc().contains("?sslmode=prefer&"));
    }

    #[test]
    fn what_is_no_url_of_ours_is_refused_with_the_form_that_is() {
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
            let refused = PostgresUrl::parse(text).unwrap_err();
            assert!(refused.contains("expected postgresql://role@host:5432/database"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let refused = PostgresUrl::parse("postgresql://me:hunter2@h/db").unwrap_err();
        assert!(refused.contains("postgres.password_file") && !refused.contains("hunter2"), "{refused}");
    }
}
