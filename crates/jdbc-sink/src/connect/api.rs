//! A client of Kafka Connect's REST API.

use common::backoff::Retryable;
use common::{Failure, http};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::responses::{Complaint, Instance, Plugin, State, Status, Validation};
use super::template::{Connector, ConnectorConfig};

/// Why Connect did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// It did not answer, or that it cannot now.
    #[error("{detail}")]
    Away {
        /// What happened.
        detail: String,
    },
    /// It will not, ever.
    #[error("kafka connect refuses {request}: {detail}")]
    Refused {
        /// Method and path.
        request: String,
        /// What it said.
        detail: String,
    },
}

impl Retryable for ConnectError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Away { .. } => Self::Other(error.into()),
            ConnectError::Refused { .. } => Self::Config(error.to_string()),
        }
    }
}

/// Kafka Connect, at one address.
#[derive(Debug, Clone)]
pub struct ConnectApi {
    base: String,
    client: reqwest::Client,
}

impl ConnectApi {
    /// A client for the API at `url`; asks nothing yet.
    ///
    /// # Errors
    /// If an HTTP client cannot be made.
    pub fn new(url: &Url) -> Result<Self, Failure> {
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), client: http::client()? })
    }

    /// Its address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The connector plugins that it has.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn plugins(&self) -> Result<Vec<Plugin>, ConnectError> {
        let found = self.read(Method::GET, "/connector-plugins", NOTHING).await?;
        found.ok_or_else(|| self.strange("nothing at /connector-plugins"))
    }

    /// What it finds wrong with the connector's configuration, in its own judgement.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn validate(&self, connector: &Connector) -> Result<Vec<Complaint>, ConnectError> {
        let path = format!("/connector-plugins/{}/config/validate", connector.class());
        let found: Option<Validation> = self.read(Method::PUT, &path, Some(&connector.config)).await?;
        let validation = found.ok_or_else(|| self.strange(&format!("nothing at {path}")))?;
        Ok(validation.complaints())
    }

    /// The connector's configuration; `None` if there is no such connector.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn config(&self, name: &str) -> Result<Option<ConnectorConfig>, ConnectError> {
        self.read(Method::GET, &format!("/connectors/{name}/config"), NOTHING).await
    }

    /// Makes the connector, or changes it to this configuration.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn put_config(&self, connector: &Connector) -> Result<(), ConnectError> {
        let path = format!("/connectors/{}/config", connector.name);
        self.ask(Method::PUT, &path, Some(&connector.config)).await.map(drop)
    }

    /// How the connector and its tasks are; `None` if there is no such connector.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn status(&self, name: &str) -> Result<Option<Status>, ConnectError> {
        if let Some(status) = self.read(Method::GET, &format!("/connectors/{name}/status"), NOTHING).await? {
            return Ok(Some(status));
        }
        // One that has just been made has no status until a worker takes it.
        let made = self.config(name).await?;
        let unassigned = Instance { state: State::Unassigned, trace: None };
        Ok(made.map(|_| Status { connector: unassigned, tasks: Vec::new() }))
    }

    /// Restarts what has failed of the connector and its tasks; nothing happens if there is no such connector.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn restart_failed(&self, name: &str) -> Result<(), ConnectError> {
        let path = format!("/connectors/{name}/restart?includeTasks=true&onlyFailed=true");
        self.ask(Method::POST, &path, NOTHING).await.map(drop)
    }

    /// Takes its tasks from the connector, until it is resumed.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn stop(&self, name: &str) -> Result<(), ConnectError> {
        self.ask(Method::PUT, &format!("/connectors/{name}/stop"), NOTHING).await.map(drop)
    }

    /// Lets a stopped or paused connector go on.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn resume(&self, name: &str) -> Result<(), ConnectError> {
        self.ask(Method::PUT, &format!("/connectors/{name}/resume"), NOTHING).await.map(drop)
    }

    /// Has a stopped sink go on at this offset of a partition.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn move_to(
        &self,
        name: &str,
        (topic, partition, offset): (&str, i32, i64),
    ) -> Result<(), ConnectError> {
        let place = serde_json::json!({"kafka_topic": topic, "kafka_partition": partition});
        let body = serde_json::json!({"offsets": [{"partition": place, "offset": {"kafka_offset": offset}}]});
        self.ask(Method::PATCH, &format!("/connectors/{name}/offsets"), Some(&body)).await.map(drop)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<T>, ConnectError> {
        let Some(text) = self.ask(method, path, body).await? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| self.strange(&format!("{path}: {error}")))
    }

    /// The body of a good answer; `None` for 404.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<String>, ConnectError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let away = |error: reqwest::Error| ConnectError::Away {
            detail: format!("{:#}", anyhow::Error::from(error)),
        };
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let text = answer.text().await.map_err(away)?;
        let detail = || format!("{status}: {}", said(&text).unwrap_or_else(|| shortened(&text)));
        match status {
            _ if status.is_success() => Ok(Some(text)),
            StatusCode::NOT_FOUND if said(&text).is_some() => Ok(None),
            // Its web server's own page, before its API is there.
            StatusCode::NOT_FOUND => Err(self.strange(&format!("nothing at {path}"))),
            // It answers 409 while its workers share out the work anew.
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(ConnectError::Away { detail: detail() })
            }
            _ if status.is_client_error() => {
                Err(ConnectError::Refused { request: format!("{method} {path}"), detail: detail() })
            }
            _ => Err(ConnectError::Away { detail: detail() }),
        }
    }

    fn strange(&self, detail: &str) -> ConnectError {
        let base = &self.base;
        ConnectError::Away {
            detail: format!("what answers at {base} is not Kafka Connect, or not yet: {detail}"),
        }
    }
}

const NOTHING: Option<&()> = None;

/// Connect's message, without the JSON around it; `None` if it is not Connect that speaks.
fn said(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    serde_json::from_str(text).ok().map(|error: Error| error.message)
}

/// Enough of a page to recognise whose it is.
fn shortened(page: &str) -> String {
    page.trim().chars().take(200).collect()
}
