//! A fake Kafka Connect: it keeps connectors in memory and responds as the REST API does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use super::api::ConnectApi;
use super::template::{Connector, ConnectorConfig};

pub(crate) const JDBC_SINK: &str = "io.debezium.connector.jdbc.JdbcSinkConnector";

#[derive(Default)]
pub(crate) struct FakeState {
    pub(crate) connectors: BTreeMap<String, ConnectorConfig>,
    /// State of each connector's only task; RUNNING without an entry.
    pub(crate) tasks: BTreeMap<String, &'static str>,
    /// No worker has taken the connectors yet.
    pub(crate) unstarted: bool,
    pub(crate) plugins: Vec<&'static str>,
    /// Key and message of each error that validation finds.
    pub(crate) problems: Vec<(&'static str, &'static str)>,
    /// Status and body of every response, if set.
    pub(crate) outage: Option<(u16, &'static str)>,
    /// `METHOD connector` of every request that changes something.
    pub(crate) changes: Vec<String>,
}

pub(crate) struct FakeConnect {
    state: SharedState,
    server: MockServer,
}

#[derive(Clone, Default)]
struct SharedState(Arc<Mutex<FakeState>>);

impl FakeConnect {
    pub(crate) async fn start() -> Self {
        let (state, server) = (SharedState::default(), MockServer::start().await);
        state.0.lock().unwrap().plugins.push(JDBC_SINK);
        Mock::given(matchers::any()).respond_with(state.clone()).mount(&server).await;
        Self { state, server }
    }

    pub(crate) fn api(&self) -> ConnectApi {
        ConnectApi::new(&self.server.uri().parse().unwrap()).unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.0.lock().unwrap()
    }
}

/// A connector like those of the sinks, with few keys.
pub(crate) fn connector() -> Connector {
    let config = [("connector.class", JDBC_SINK), ("name", "kstream-trades"), ("topics", "t")];
    Connector {
        name: "kstream-trades",
        config: config.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

impl Respond for SharedState {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        if let Some((status, body)) = state.outage {
            return ResponseTemplate::new(status).set_body_string(body);
        }
        let path: Vec<_> = request.url.path().trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &path[..]) {
            ("GET", ["connector-plugins"]) => state.plugins(),
            ("PUT", ["connector-plugins", _, "config", "validate"]) => state.validate(request),
            ("GET", ["connectors", name, "config"]) => state.config(name),
            ("PUT", ["connectors", name, "config"]) => state.put_config(name, request),
            ("GET", ["connectors", name, "status"]) => state.status(name),
            ("POST", ["connectors", name, "restart"]) => state.restart(name, request),
            _ => not_found("HTTP 404 Not Found"),
        }
    }
}

impl FakeState {
    fn plugins(&self) -> ResponseTemplate {
        let plugin = |class| json!({"class": class, "type": "sink", "version": "3.6.0"});
        ok(&self.plugins.iter().map(plugin).collect())
    }

    fn validate(&self, request: &Request) -> ResponseTemplate {
        let given: ConnectorConfig = request.body_json().unwrap();
        let values = given.keys().map(|key| {
            let problems = self.problems.iter().filter(|(at, _)| at == key);
            let errors: Vec<_> = problems.map(|(_, message)| message).collect();
            json!({"definition": {"name": key}, "value": {"name": key, "value": null, "errors": errors}})
        });
        let configs: Vec<_> = values.collect();
        ok(&json!({"name": JDBC_SINK, "error_count": self.problems.len(), "configs": configs}))
    }

    fn config(&self, name: &str) -> ResponseTemplate {
        match self.connectors.get(name) {
            Some(config) => ok(&json!(config)),
            None => not_found(&format!("Connector {name} not found")),
        }
    }

    fn put_config(&mut self, name: &str, request: &Request) -> ResponseTemplate {
        self.changes.push(format!("PUT {name}"));
        self.connectors.insert(name.to_owned(), request.body_json().unwrap());
        ResponseTemplate::new(201)
    }

    fn status(&self, name: &str) -> ResponseTemplate {
        if self.unstarted || !self.connectors.contains_key(name) {
            return not_found(&format!("No status found for connector {name}"));
        }
        let state = self.tasks.get(name).copied().unwrap_or("RUNNING");
        let mut task = json!({"id": 0, "state": state, "worker_id": "127.0.0.1:8083"});
        if state == "FAILED" {
            task["trace"] =
                "org.apache.X: outer\n\tat a.b\nCaused by: java.net.ConnectException: refused\n".into();
        }
        let connector = json!({"state": "RUNNING", "worker_id": "127.0.0.1:8083"});
        ok(&json!({"name": name, "connector": connector, "tasks": [task], "type": "sink"}))
    }

    fn restart(&mut self, name: &str, request: &Request) -> ResponseTemplate {
        self.changes.push(format!("POST {name} {}", request.url.query().unwrap_or_default()));
        self.tasks.remove(name);
        ResponseTemplate::new(202)
    }
}

fn ok(body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn not_found(message: &str) -> ResponseTemplate {
    ResponseTemplate::new(404).set_body_json(json!({"error_code": 404, "message": message}))
}
