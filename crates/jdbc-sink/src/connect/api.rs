//! A client of Kafka Connect's REST API.

use common::backoff::Retryable;
use common::{Failure, http};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::responses::{ConfigInfos, ConfigProblem, ConnectorStateInfo, InstanceState, PluginInfo, RunState};
use super::template::{Connector, ConnectorConfig};

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConnectApiError {
    /// Connect does not respond, or cannot serve the request for now.
    #[error("{detail}")]
    Unavailable { detail: String },
    /// Another attempt changes nothing. `request` is method and path.
    #[error("kafka connect rejects {request}: {detail}")]
    Rejected { request: String, detail: String },
}

impl Retryable for ConnectApiError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<ConnectApiError> for Failure {
    fn from(error: ConnectApiError) -> Self {
        match error {
            ConnectApiError::Unavailable { .. } => Self::Other(error.into()),
            ConnectApiError::Rejected { .. } => Self::Config(error.to_string()),
        }
    }
}

/// A client for the REST API at one address.
#[derive(Debug, Clone)]
pub(crate) struct ConnectApi {
    base: String,
    client: reqwest::Client,
}

impl std::fmt::Display for ConnectApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kafka connect at {}", self.base)
    }
}

impl ConnectApi {
    /// Sends no request yet.
    pub(crate) fn new(url: &Url) -> Result<Self, Failure> {
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), client: http::client()? })
    }

    /// The connector plugins below Connect's `plugin.path`.
    pub(crate) async fn plugins(&self) -> Result<Vec<PluginInfo>, ConnectApiError> {
        let found = self.send_for_json(Method::GET, "/connector-plugins", NO_BODY).await?;
        found.ok_or_else(|| self.not_connect("nothing at /connector-plugins"))
    }

    /// The errors that Connect's own validation finds in the configuration.
    pub(crate) async fn validate(
        &self,
        connector: &Connector,
    ) -> Result<Vec<ConfigProblem>, ConnectApiError> {
        let path = format!("/connector-plugins/{}/config/validate", connector.class());
        let infos: Option<ConfigInfos> =
            self.send_for_json(Method::PUT, &path, Some(&connector.config)).await?;
        let infos = infos.ok_or_else(|| self.not_connect(&format!("nothing at {path}")))?;
        Ok(infos.problems())
    }

    /// The connector's configuration; `None` if there is no such connector.
    pub(crate) async fn config(&self, name: &str) -> Result<Option<ConnectorConfig>, ConnectApiError> {
        self.send_for_json(Method::GET, &format!("/connectors/{name}/config"), NO_BODY).await
    }

    /// Creates the connector, or replaces its configuration.
    pub(crate) async fn put_config(&self, connector: &Connector) -> Result<(), ConnectApiError> {
        let path = format!("/connectors/{}/config", connector.name);
        self.send(Method::PUT, &path, Some(&connector.config)).await.map(drop)
    }

    /// State of the connector and its tasks; `None` if there is no such connector.
    pub(crate) async fn status(&self, name: &str) -> Result<Option<ConnectorStateInfo>, ConnectApiError> {
        let path = format!("/connectors/{name}/status");
        if let Some(status) = self.send_for_json(Method::GET, &path, NO_BODY).await? {
            return Ok(Some(status));
        }
        // A new connector has no status until a worker takes it.
        let config = self.config(name).await?;
        let unassigned = InstanceState { state: RunState::Unassigned, trace: None };
        Ok(config.map(|_| ConnectorStateInfo { connector: unassigned, tasks: Vec::new() }))
    }

    /// Restarts the connector and its tasks where they have failed; does nothing if there is no such connector.
    pub(crate) async fn restart_failed(&self, name: &str) -> Result<(), ConnectApiError> {
        let path = format!("/connectors/{name}/restart?includeTasks=true&onlyFailed=true");
        self.send(Method::POST, &path, NO_BODY).await.map(drop)
    }

    /// Ends the connector's tasks until it is resumed.
    pub(crate) async fn stop(&self, name: &str) -> Result<(), ConnectApiError> {
        self.send(Method::PUT, &format!("/connectors/{name}/stop"), NO_BODY).await.map(drop)
    }

    /// Starts a stopped or paused connector again.
    pub(crate) async fn resume(&self, name: &str) -> Result<(), ConnectApiError> {
        self.send(Method::PUT, &format!("/connectors/{name}/resume"), NO_BODY).await.map(drop)
    }

    /// Sets the next offset that a stopped sink reads of a partition.
    pub(crate) async fn set_offset(
        &self,
        name: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ConnectApiError> {
        let partition = serde_json::json!({"kafka_topic": topic, "kafka_partition": partition});
        let body =
            serde_json::json!({"offsets": [{"partition": partition, "offset": {"kafka_offset": offset}}]});
        self.send(Method::PATCH, &format!("/connectors/{name}/offsets"), Some(&body)).await.map(drop)
    }

    async fn send_for_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<T>, ConnectApiError> {
        let Some(text) = self.send(method, path, body).await? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| self.not_connect(&format!("{path}: {error}")))
    }

    /// The body of a successful response; `None` for 404.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Option<String>, ConnectApiError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let unavailable = |error: reqwest::Error| ConnectApiError::Unavailable {
            detail: format!("{:#}", anyhow::Error::from(error)),
        };
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let text = response.text().await.map_err(unavailable)?;
        let detail = || format!("{status}: {}", error_message(&text).unwrap_or_else(|| excerpt(&text)));
        match status {
            _ if status.is_success() => Ok(Some(text)),
            StatusCode::NOT_FOUND if error_message(&text).is_some() => Ok(None),
            // Connect's web server answers before its API is available.
            StatusCode::NOT_FOUND => Err(self.not_connect(&format!("nothing at {path}"))),
            // Connect responds with 409 during a rebalance of its workers.
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(ConnectApiError::Unavailable { detail: detail() })
            }
            _ if status.is_client_error() => {
                Err(ConnectApiError::Rejected { request: format!("{method} {path}"), detail: detail() })
            }
            _ => Err(ConnectApiError::Unavailable { detail: detail() }),
        }
    }

    fn not_connect(&self, detail: &str) -> ConnectApiError {
        let base = &self.base;
        ConnectApiError::Unavailable {
            detail: format!("the server at {base} is not Kafka Connect, or has not started yet: {detail}"),
        }
    }
}

const NO_BODY: Option<&()> = None;

/// The message in an error response of Connect; `None` if the response is not Connect's.
fn error_message(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorResponse {
        message: String,
    }
    serde_json::from_str(text).ok().map(|error: ErrorResponse| error.message)
}

/// Enough of a page to recognize its server.
fn excerpt(page: &str) -> String {
    page.trim().chars().take(200).collect()
}
