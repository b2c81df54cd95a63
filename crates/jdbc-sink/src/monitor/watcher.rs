//! Polls the connectors and does what [`RestartPolicy`] decides.

use std::time::Duration;

use common::admin::{Component, Heartbeat};
use tokio::time::Instant;

use super::diagnosis::{Blocker, Diagnosis};
use super::failed_task::TaskFailure;
use super::metrics::MonitorMetrics;
use super::restart_policy::{Observation, RestartAction, RestartPolicy};
use crate::connect::api::{ConnectApi, ConnectApiError};
use crate::connect::apply::apply;
use crate::connect::metrics::ConnectMetrics;
use crate::connect::template::Connector;

pub(crate) struct Watcher {
    connect: Connect,
    interval: Duration,
    metrics: MonitorMetrics,
    watched: Vec<WatchedConnector>,
    /// The error of the last poll, if Connect did not respond.
    connect_error: Option<String>,
}

struct Connect {
    api: ConnectApi,
    metrics: ConnectMetrics,
}

struct WatchedConnector {
    connector: Connector,
    health: Component,
    policy: RestartPolicy,
    diagnosis: Option<Diagnosis>,
    /// The result of the last diagnosis.
    blocker: Option<Blocker>,
}

impl Watcher {
    /// Watches no connector yet.
    pub(crate) fn new(
        api: ConnectApi,
        interval: Duration,
        connect_metrics: ConnectMetrics,
        metrics: MonitorMetrics,
    ) -> Self {
        let connect = Connect { api, metrics: connect_metrics };
        Self { connect, interval, metrics, watched: Vec::new(), connect_error: None }
    }

    /// Adds a connector, whose state decides about `health`. Without a diagnosis, every failure leads to a restart.
    pub(crate) fn watch(&mut self, connector: Connector, health: Component, diagnosis: Option<Diagnosis>) {
        self.metrics.register(connector.name);
        self.connect.metrics.register(connector.name);
        let policy = RestartPolicy::default();
        self.watched.push(WatchedConnector { connector, health, policy, diagnosis, blocker: None });
    }

    /// Watches until it is dropped, which is safe at any time.
    pub(crate) async fn run(&mut self, heartbeat: &Heartbeat) {
        loop {
            self.poll().await;
            heartbeat.beat();
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn poll(&mut self) {
        let mut connect_error = None;
        for watched in &mut self.watched {
            let observation = watched.observe(&self.connect.api).await.unwrap_or_else(|error| {
                connect_error = Some(error.to_string());
                Observation::ConnectUnavailable
            });
            watched.show(&observation, &self.metrics);
            let failure = observation.failure();
            if let Some(action) = watched.decide(observation)
                && !watched.is_blocked(failure.as_ref(), &self.metrics).await
            {
                watched.act(action, &self.connect, &self.metrics).await;
            }
        }
        self.log_connect(connect_error);
    }

    fn log_connect(&mut self, connect_error: Option<String>) {
        self.connect.metrics.up.set(i64::from(connect_error.is_none()));
        match (&self.connect_error, &connect_error) {
            (None, Some(error)) => {
                tracing::warn!(error, "kafka connect does not answer; records wait in Kafka until it does");
            }
            (Some(_), None) => tracing::info!("kafka connect answers again"),
            _ => {}
        }
        self.connect_error = connect_error;
    }
}

impl WatchedConnector {
    async fn observe(&self, api: &ConnectApi) -> Result<Observation, ConnectApiError> {
        let Some(info) = api.status(self.connector.name).await? else { return Ok(Observation::Missing) };
        let Some(config) = api.config(self.connector.name).await? else { return Ok(Observation::Missing) };
        let keys = self.connector.differences(&config);
        Ok(if keys.is_empty() { Observation::Found(info) } else { Observation::Changed(keys) })
    }

    fn show(&mut self, observation: &Observation, metrics: &MonitorMetrics) {
        let info = if let Observation::Found(info) = observation { Some(info) } else { None };
        metrics.show_state(self.connector.name, info);
        let problem = observation.problem();
        if problem.is_none() && self.blocker.take().is_some() {
            metrics.set_blocked(self.connector.name, false);
        }
        match (problem, &self.blocker) {
            (None, _) => self.health.ready(),
            (Some(problem), None) => self.health.waiting(problem),
            (Some(problem), Some(blocker)) => self.health.waiting(format!("{problem}: {blocker}")),
        }
    }

    fn decide(&mut self, observation: Observation) -> Option<RestartAction> {
        let (problem, cause, starting) =
            (observation.problem(), observation.failure(), observation.is_starting());
        let decision = self.policy.observe(observation, Instant::now().into_std());
        if decision.changed {
            self.log_change(problem, cause, starting);
        }
        decision.action
    }

    fn log_change(&self, problem: Option<String>, cause: Option<TaskFailure>, starting: bool) {
        let connector = self.connector.name;
        match (problem, cause) {
            (None, _) => tracing::info!(connector, "connector and tasks run"),
            (Some(state), Some(cause)) => tracing::error!(connector, state, %cause, "connector has failed"),
            (Some(state), None) if starting => tracing::info!(connector, state, "connector is starting"),
            (Some(state), None) => tracing::warn!(connector, state, "connector does not run"),
        }
    }

    /// Whether a restart would fail again. The diagnosis runs whenever a restart is due; a change of its result is logged.
    async fn is_blocked(&mut self, failure: Option<&TaskFailure>, metrics: &MonitorMetrics) -> bool {
        let found = match (&mut self.diagnosis, failure) {
            (Some(diagnosis), Some(failure)) => diagnosis.find_blocker(failure).await,
            _ => None,
        };
        let connector = self.connector.name;
        match (&self.blocker, &found) {
            (before, Some(blocker)) if before.as_ref() != Some(blocker) => {
                tracing::error!(connector, %blocker, "connector blocked; manual action needed, see docs/OPERATING.md");
            }
            (Some(_), None) => tracing::info!(connector, "connector unblocked"),
            _ => {}
        }
        metrics.set_blocked(connector, found.is_some());
        self.blocker = found;
        self.blocker.is_some()
    }

    async fn act(&self, action: RestartAction, connect: &Connect, metrics: &MonitorMetrics) {
        let connector = self.connector.name;
        match action {
            RestartAction::Restart => match connect.api.restart_failed(connector).await {
                Ok(()) => {
                    metrics.count_restart(connector);
                    tracing::debug!(connector, "connector restarted");
                }
                Err(error) => tracing::warn!(connector, %error, "could not be restarted"),
            },
            RestartAction::Apply => match apply(&connect.api, &self.connector).await {
                Ok(outcome) => connect.metrics.count_update(connector, &outcome),
                Err(error) => tracing::warn!(connector, %error, "could not be recreated"),
            },
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
