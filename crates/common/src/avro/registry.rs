//! A client of the schema registry (Confluent's API): registers schemas and looks them up.

use std::time::Duration;

use apache_avro::Schema;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id, post_schema};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SuppliedSchema};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use url::Url;

use super::codec::SchemaId;
use super::schema::{Contract, subject};
use crate::backoff::Retryable;
use crate::config::{Invalid, SchemaRegistryConfig, read_secret};
use crate::{Failure, http};

/// An error of the registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// It did not answer, or it cannot answer now.
    #[error("schema registry at {url}: {detail}")]
    Unavailable {
        /// The base URL of the registry.
        url: String,
        /// The cause of the error.
        detail: String,
    },
    /// It has no schema of that id.
    #[error("the schema registry knows no schema {0}")]
    UnknownId(SchemaId),
    /// The schema of that id is not an Avro schema.
    #[error("schema {id} is no Avro schema: {why}")]
    NotAvro {
        /// The schema id in the registry.
        id: SchemaId,
        /// The type, or the parse error.
        why: String,
    },
    /// It rejects our schema: the subject has another, incompatible one.
    #[error(
        "the schema registry refuses our schema for subject {subject}: {detail}; the subject holds a schema that ours is not \
         compatible with: another program's, or a newer version's. Use another topic, or remove the subject if nothing needs it"
    )]
    Incompatible {
        /// The subject of the schema.
        subject: String,
        /// The message in the registry's response.
        detail: String,
    },
    /// It refuses access, or the request is invalid.
    #[error(
        "schema registry at {url} refuses: {detail}; check schema_registry.url, .username and .password_file"
    )]
    Refused {
        /// The base URL of the registry.
        url: String,
        /// The status and message of the response.
        detail: String,
    },
}

impl RegistryError {
    /// Whether the registry answered that it has no such Avro schema. After any other error a record's schema is still unknown.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        matches!(self, Self::UnknownId(_) | Self::NotAvro { .. })
    }
}

impl Retryable for RegistryError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Incompatible { .. } | RegistryError::Refused { .. } => {
                Self::Config(error.to_string())
            }
            RegistryError::Unavailable { .. }
            | RegistryError::UnknownId(_)
            | RegistryError::NotAvro { .. } => Self::Other(error.into()),
        }
    }
}

/// A client of one registry.
#[derive(Clone)]
pub struct Registry {
    url: Url,
    settings: SrSettings,
    client: reqwest::Client,
    login: Option<(String, SecretString)>,
}

impl Registry {
    /// Reads the password, if there is one. Sends no request.
    ///
    /// # Errors
    /// [`Failure::Config`] if only half of a login is given or its file cannot be read.
    pub fn new(config: &SchemaRegistryConfig) -> Result<Self, Failure> {
        let login = match (&config.username, &config.password_file) {
            (Some(user), Some(file)) => {
                Some((user.clone(), read_secret("schema_registry.password_file", file)?))
            }
            (None, None) => None,
            (user, _) => {
                let key = if user.is_some() { "password_file" } else { "username" };
                let missing = Invalid::missing(
                    format!("schema_registry.{key}"),
                    "a value, because the other half of the login is set",
                );
                return Err(Failure::Config(format!("bad configuration: {missing}")));
            }
        };
        let mut settings = SrSettings::new_builder(config.url.as_str().trim_end_matches('/').to_owned());
        if let Some((user, password)) = &login {
            settings.set_basic_authorization(user, Some(password.expose_secret()));
        }
        let settings = settings.build_with(http::builder()).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { url: config.url.clone(), settings, client: http::client()?, login })
    }

    /// Registers the schema of `topic`'s values and returns its id.
    ///
    /// First it sets the subject's compatibility to `FULL_TRANSITIVE`: with a global level of NONE the registry would accept any schema.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn register(&self, topic: &str, contract: &Contract) -> Result<SchemaId, RegistryError> {
        let subject = subject(topic);
        self.set_compatibility(&subject).await?;
        let schema = SuppliedSchema::new(Some(subject.clone()), SchemaType::Avro, contract.text.to_owned());
        match post_schema(&self.settings, subject.clone(), schema).await {
            Ok(registered) => Ok(registered.id),
            Err(error) => Err(match status(&error) {
                Some(409 | 422) => RegistryError::Incompatible { subject, detail: detail(&error) },
                status => self.error(status, detail(&error)),
            }),
        }
    }

    /// The schema of that id.
    ///
    /// # Errors
    /// [`RegistryError::UnknownId`] and [`RegistryError::NotAvro`] if the registry answered, and there is no such schema.
    pub async fn schema(&self, id: SchemaId) -> Result<Schema, RegistryError> {
        let found = get_schema_by_id(id, &self.settings).await;
        let found = found.map_err(|error| match status(&error) {
            Some(404) => RegistryError::UnknownId(id),
            status => self.error(status, detail(&error)),
        })?;
        if found.schema_type != SchemaType::Avro {
            return Err(RegistryError::NotAvro { id, why: format!("its type is {:?}", found.schema_type) });
        }
        Schema::parse_str(&found.schema)
            .map_err(|error| RegistryError::NotAvro { id, why: error.to_string() })
    }

    /// As [`Self::schema`], for a thread that may block for as long as `within`.
    ///
    /// # Errors
    /// As [`Self::schema`]; [`RegistryError::Unavailable`] after `within`.
    pub fn schema_blocking(
        &self,
        id: SchemaId,
        runtime: &Handle,
        within: Duration,
    ) -> Result<Schema, RegistryError> {
        let lookup = async { tokio::time::timeout(within, self.schema(id)).await };
        runtime.block_on(lookup).unwrap_or_else(|_| {
            let detail = format!("no answer within {} for schema {id}", humantime::format_duration(within));
            Err(RegistryError::Unavailable { url: self.url.to_string(), detail })
        })
    }

    async fn set_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let url = format!("{}/config/{subject}", self.url.as_str().trim_end_matches('/'));
        let mut request = self.client.put(url).json(&serde_json::json!({"compatibility": "FULL_TRANSITIVE"}));
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = request.send().await.map_err(|error| self.error(None, format!("{error:#}")))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let detail = format!("{status}: {}", answer.text().await.unwrap_or_default().trim());
        // Another service sets the same level at this moment. The next attempt finds it set.
        if status == reqwest::StatusCode::CONFLICT {
            return Err(RegistryError::Unavailable { url: self.url.to_string(), detail });
        }
        Err(self.error(Some(status.as_u16()), detail))
    }

    /// The error for a status without a meaning of its own, or for no response.
    fn error(&self, status: Option<u16>, detail: String) -> RegistryError {
        let url = self.url.to_string();
        match status {
            Some(400..=407 | 409..=428 | 430..=499) => RegistryError::Refused { url, detail },
            _ => RegistryError::Unavailable { url, detail },
        }
    }
}

/// The HTTP status, which the library has only in its message.
fn status(error: &SRCError) -> Option<u16> {
    let (_, behind) = error.error.split_once("failed with status ")?;
    behind.get(..3)?.parse().ok()
}

fn detail(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
