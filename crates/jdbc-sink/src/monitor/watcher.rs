//! Looks at the connectors every few seconds and does what [`Track`] says.

use std::time::Duration;

use common::admin::{Heartbeat, Part};
use tokio::time::Instant;

use super::diagnosis::{Obstacle, Probe};
use super::failed_task::Failed;
use super::restart_policy::{Action, Seen, Track};
use crate::connect::api::{ConnectApi, ConnectError};
use crate::connect::apply::apply;
use crate::connect::template::Connector;
use crate::metrics::SinkMetrics;

/// The watcher of our connectors.
pub struct Watcher {
    api: ConnectApi,
    interval: Duration,
    metrics: SinkMetrics,
    watched: Vec<Watched>,
    /// Why Connect did not answer at the last look, if it did not.
    away: Option<String>,
}

struct Watched {
    connector: Connector,
    part: Part,
    track: Track,
    probe: Option<Probe>,
    /// What no restart mends, as found at the last attempt.
    obstacle: Option<Obstacle>,
}

impl Watcher {
    /// A watcher that looks at nothing yet.
    #[must_use]
    pub fn new(api: ConnectApi, interval: Duration, metrics: SinkMetrics) -> Self {
        Self { api, interval, metrics, watched: Vec::new(), away: None }
    }

    /// Adds a connector, whose state decides whether `part` is ready; without a probe, whatever fails is restarted.
    pub fn watch(&mut self, connector: Connector, part: Part, probe: Option<Probe>) {
        self.metrics.expect(connector.name);
        self.watched.push(Watched { connector, part, track: Track::default(), probe, obstacle: None });
    }

    /// Watches until it is dropped, which it may be at any time.
    pub async fn run(&mut self, heartbeat: &Heartbeat) {
        loop {
            self.look().await;
            heartbeat.beat();
            tokio::time::sleep(self.interval).await;
        }
    }

    /// One look at each connector, and what follows from it.
    pub async fn look(&mut self) {
        let mut away = None;
        for watched in &mut self.watched {
            let seen = watched.see(&self.api).await.unwrap_or_else(|error| {
                away = Some(error.to_string());
                Seen::Nothing
            });
            watched.show(&seen, &self.metrics);
            let failed = seen.cause();
            if let Some(action) = watched.take_in(seen)
                && !watched.is_pointless(failed.as_ref(), &self.metrics).await
            {
                watched.act(action, &self.api, &self.metrics).await;
            }
        }
        self.tell_whether_connect_answers(away);
    }

    fn tell_whether_connect_answers(&mut self, away: Option<String>) {
        self.metrics.connect_up.set(i64::from(away.is_none()));
        match (&self.away, &away) {
            (None, Some(error)) => {
                tracing::warn!(error, "kafka connect does not answer; rows wait in Kafka until it does");
            }
            (Some(_), None) => tracing::info!("kafka connect answers again"),
            _ => {}
        }
        self.away = away;
    }
}

impl Watched {
    async fn see(&self, api: &ConnectApi) -> Result<Seen, ConnectError> {
        let Some(status) = api.status(self.connector.name).await? else { return Ok(Seen::Missing) };
        let Some(found) = api.config(self.connector.name).await? else { return Ok(Seen::Missing) };
        let keys = self.connector.differences(&found);
        Ok(if keys.is_empty() { Seen::There(status) } else { Seen::Changed(keys) })
    }

    /// Whether what failed would fail again; that is told once, and looked at anew when the next restart would be due.
    async fn is_pointless(&mut self, failed: Option<&Failed>, metrics: &SinkMetrics) -> bool {
        let found = match (&mut self.probe, failed) {
            (Some(probe), Some(failed)) => probe.look(failed).await,
            _ => None,
        };
        let connector = self.connector.name;
        match (&self.obstacle, &found) {
            (before, Some(obstacle)) if before.as_ref() != Some(obstacle) => {
                tracing::error!(connector, %obstacle, "connector stands still until somebody mends this; see docs/OPERATING.md");
            }
            (Some(_), None) => {
                tracing::info!(connector, "what kept the connector from going on is not there any more");
            }
            _ => {}
        }
        metrics.refused(connector, found.is_some());
        self.obstacle = found;
        self.obstacle.is_some()
    }

    fn show(&mut self, seen: &Seen, metrics: &SinkMetrics) {
        let status = if let Seen::There(status) = seen { Some(status) } else { None };
        metrics.show(self.connector.name, status);
        if seen.trouble().is_none() && self.obstacle.take().is_some() {
            metrics.refused(self.connector.name, false);
        }
        match (seen.trouble(), &self.obstacle) {
            (None, _) => self.part.ready(),
            (Some(trouble), None) => self.part.waiting(trouble),
            (Some(trouble), Some(obstacle)) => self.part.waiting(format!("{trouble}: {obstacle}")),
        }
    }

    /// Logs what is new, and says what is to be done.
    fn take_in(&mut self, seen: Seen) -> Option<Action> {
        let (trouble, cause, passing) = (seen.trouble(), seen.cause(), seen.is_passing());
        let verdict = self.track.observe(seen, Instant::now().into_std());
        let connector = self.connector.name;
        if verdict.changed {
            match (trouble, cause) {
                (None, _) => tracing::info!(connector, "connector and tasks run"),
                (Some(state), Some(cause)) => {
                    tracing::error!(
                        connector,
                        state,
                        %cause,
                        "connector has failed"
                    );
                }
                (Some(state), None) if passing => {
                    tracing::info!(connector, state, "connector is not at work yet");
                }
                (Some(state), None) => tracing::warn!(connector, state, "connector does not work"),
            }
        }
        verdict.action
    }

    async fn act(&self, action: Action, api: &ConnectApi, metrics: &SinkMetrics) {
        let connector = self.connector.name;
        match action {
            Action::Restart => match api.restart_failed(connector).await {
                Ok(()) => {
                    metrics.restarted(connector);
                    tracing::debug!(connector, "restarted what had failed");
                }
                Err(error) => tracing::warn!(connector, %error, "could not be restarted"),
            },
            Action::Make => match apply(api, &self.connector).await {
                Ok(applied) => metrics.applied(connector, &applied),
                Err(error) => tracing::warn!(connector, %error, "could not be made anew"),
            },
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
