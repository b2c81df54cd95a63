//! A stand-in for Kafka Connect with its REST API's answers as data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use url::Url;

use super::api::ConnectApi;
use super::template::{Connector, ConnectorConfig};

/// What the stand-in holds, and what it was asked to change.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) connectors: BTreeMap<String, ConnectorConfig>,
    /// State of each connector's only task; a connector without one here runs.
    pub(crate) tasks: BTreeMap<String, &'static str>,
    /// No worker has taken the connectors yet.
    pub(crate) unstarted: bool,
    pub(crate) plugins: Vec<&'static str>,
    /// Key and message of what validation finds.
    pub(crate) complaints: Vec<(&'static str, &'static str)>,
    /// Answered to everything, if set.
    pub(crate) outage: Option<(u16, &'static str)>,
    /// `METHOD path` of every request that changes something.
    pub(crate) changes: Vec<String>,
}

/// A stand-in on a port of its own.
#[derive(Clone)]
pub(crate) struct FakeConnect {
    content: Arc<Mutex<Content>>,
    url: Url,
}

pub(crate) const JDBC_SINK: &str = "io.debezium.connector.jdbc.JdbcSinkConnector";

impl FakeConnect {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let content = Content { plugins: vec![JDBC_SINK], ..Content::default() };
        let fake = Self { content: Arc::new(Mutex::new(content)), url };
        let router = Router::new()
            .route("/connector-plugins", get(plugins))
            .route("/connector-plugins/{class}/config/validate", put(validate))
            .route("/connectors/{name}/config", get(config).put(put_config))
            .route("/connectors/{name}/status", get(status))
            .route("/connectors/{name}/restart", post(restart))
            .layer(axum::middleware::from_fn_with_state(fake.clone(), outage))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    pub(crate) fn api(&self) -> ConnectApi {
        ConnectApi::new(&self.url).unwrap()
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }
}

/// A connector such as ours, small enough to look at.
pub(crate) fn connector() -> Connector {
    let config = [("connector.class", JDBC_SINK), ("name", "kstream-trades"), ("topics", "t")];
    Connector {
        name: "kstream-trades",
        config: config.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

async fn outage(
    State(fake): State<FakeConnect>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let outage = fake.content().outage;
    match outage {
        Some((status, body)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        None => next.run(request).await,
    }
}

async fn plugins(State(fake): State<FakeConnect>) -> Json<Value> {
    let plugins = fake.content().plugins.clone();
    Json(
        plugins
            .into_iter()
            .map(|class| json!({"class": class, "type": "sink", "version": "3.6.0"}))
            .collect(),
    )
}

async fn validate(State(fake): State<FakeConnect>, Json(given): Json<ConnectorConfig>) -> Json<Value> {
    let found = fake.content().complaints.clone();
    let values = given.keys().map(|key| {
        let errors: Vec<_> = found.iter().filter(|(at, _)| at == key).map(|(_, message)| message).collect();
        json!({"definition": {"name": key}, "value": {"name": key, "value": null, "errors": errors}})
    });
    Json(json!({"name": JDBC_SINK, "error_count": found.len(), "configs": values.collect::<Vec<_>>()}))
}

async fn config(State(fake): State<FakeConnect>, Path(name): Path<String>) -> Response {
    let found = fake.content().connectors.get(&name).cloned();
    found.map_or_else(
        || not_found(&format!("Connector {name} not found")),
        |config| Json(config).into_response(),
    )
}

async fn put_config(
    State(fake): State<FakeConnect>,
    Path(name): Path<String>,
    Json(given): Json<ConnectorConfig>,
) -> StatusCode {
    let mut content = fake.content();
    content.changes.push(format!("PUT {name}"));
    content.connectors.insert(name, given);
    StatusCode::CREATED
}

async fn status(State(fake): State<FakeConnect>, Path(name): Path<String>) -> Response {
    let content = fake.content();
    if content.unstarted || !content.connectors.contains_key(&name) {
        return not_found(&format!("No status found for connector {name}"));
    }
    let state = content.tasks.get(&name).copied().unwrap_or("RUNNING");
    let mut task = json!({"id": 0, "state": state, "worker_id": "127.0.0.1:8083"});
    if state == "FAILED" {
        task["trace"] =
            "org.apache.X: outer\n\tat a.b\nCaused by: java.net.ConnectException: refused\n".into();
    }
    let connector = json!({"state": "RUNNING", "worker_id": "127.0.0.1:8083"});
    Json(json!({"name": name, "connector": connector, "tasks": [task], "type": "sink"})).into_response()
}

async fn restart(
    State(fake): State<FakeConnect>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> StatusCode {
    let mut content = fake.content();
    content.changes.push(format!("POST {name} {}", query.unwrap_or_default()));
    content.tasks.remove(&name);
    StatusCode::ACCEPTED
}

fn not_found(message: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"error_code": 404, "message": message}))).into_response()
}
