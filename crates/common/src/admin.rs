//! `/live`, `/ready` and `/metrics`.
//!
//! A service is ready when all its components are. It is live while its loops send heartbeats: an idle loop does, a blocked one does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::Failure;
use crate::config::AdminConfig;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Readiness and liveness of a service; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug, Default)]
struct HealthState {
    /// By component: the reason why it waits, or `None` if it is ready.
    waiting: BTreeMap<Arc<str>, Option<String>>,
    /// By loop: its last heartbeat, and the longest time between two.
    beats: BTreeMap<String, (Instant, Duration)>,
}

impl Health {
    /// A service without components: live and ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component. It is not ready until [`Component::ready`].
    #[must_use]
    pub fn component(&self, name: impl Into<Arc<str>>) -> Component {
        let component = Component { health: self.clone(), name: name.into() };
        component.waiting("starting");
        component
    }

    /// Adds a loop. The service is not live if the loop sends no heartbeat for `longest`.
    #[must_use]
    pub fn heartbeat(&self, name: impl Into<String>, longest: Duration) -> Heartbeat {
        let beat = Heartbeat { health: self.clone(), name: name.into(), longest };
        beat.beat();
        beat
    }

    /// The components that are not ready, with their reasons.
    #[must_use]
    pub fn waiting(&self) -> Vec<(Arc<str>, String)> {
        let state = self.lock();
        state.waiting.iter().filter_map(|(name, why)| Some((Arc::clone(name), why.clone()?))).collect()
    }

    /// The loops without a heartbeat in time.
    #[must_use]
    pub(crate) fn stalled(&self) -> Vec<String> {
        let state = self.lock();
        state
            .beats
            .iter()
            .filter(|(_, (at, longest))| at.elapsed() > *longest)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The readiness of one component.
#[derive(Debug, Clone)]
pub struct Component {
    health: Health,
    name: Arc<str>,
}

impl Component {
    /// Reports that the component is ready.
    pub fn ready(&self) {
        self.health.lock().waiting.insert(Arc::clone(&self.name), None);
    }

    /// Reports that the component is not ready, because of `why`.
    pub fn waiting(&self, why: impl Into<String>) {
        self.health.lock().waiting.insert(Arc::clone(&self.name), Some(why.into()));
    }
}

/// The heartbeat of a loop; dropping it ends the supervision of the loop.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    name: String,
    longest: Duration,
}

impl Heartbeat {
    /// Reports progress of the loop.
    pub fn beat(&self) {
        self.health.lock().beats.insert(self.name.clone(), (Instant::now(), self.longest));
    }
}

impl Drop for Heartbeat {
    /// A loop that ends is handled by [`crate::shutdown::Tasks`], not by liveness.
    fn drop(&mut self) {
        self.health.lock().beats.remove(&self.name);
    }
}

/// The admin server, bound but not serving yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

#[derive(Clone)]
struct AdminState {
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Admin {
    /// Binds the address, so that a port conflict is found before anything starts.
    ///
    /// # Errors
    /// [`Failure::Config`] that names the address.
    pub async fn bind(config: &AdminConfig) -> Result<Self, Failure> {
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            let address = config.listen;
            Failure::Config(format!(
                "admin.listen: cannot listen on {address}: {error}; expected a free address and port"
            ))
        })?;
        Ok(Self { listener })
    }

    /// The bound address; with port 0, the port that was chosen.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves in the background until the guard is dropped. Keep the guard during shutdown, so that `/ready` returns 503.
    #[must_use]
    pub fn serve(self, health: Health, metrics: Metrics, shutdown: Shutdown) -> Serving {
        let state = AdminState { health, metrics, shutdown };
        let router = Router::new()
            .route("/live", get(live))
            .route("/ready", get(ready))
            .route("/metrics", get(render))
            .with_state(state);
        let server = axum::serve(self.listener, router);
        Serving(tokio::spawn(async move {
            server.await.unwrap_or_else(|error| tracing::error!(%error, "admin server"));
        }))
    }
}

/// A running admin server; dropping it stops the server.
#[derive(Debug)]
pub struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn live(State(state): State<AdminState>) -> impl IntoResponse {
    let stalled = state.health.stalled();
    if stalled.is_empty() {
        return (StatusCode::OK, "live\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("no heartbeat from {}\n", stalled.join(", ")))
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    if state.shutdown.is_requested() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let waiting = state.health.waiting();
    if waiting.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut text = String::new();
    for (component, why) in waiting {
        writeln!(text, "{component}: {why}").expect("writing to a string cannot fail");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn render(State(state): State<AdminState>) -> impl IntoResponse {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], state.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer =
            crate::http::client().unwrap().get(format!("http://{address}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn ready_names_the_components_that_wait_until_none_does() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let kafka = health.component("kafka");
        let admin = Admin::bind(&AdminConfig { listen: "127.0.0.1:0".parse().unwrap() }).await.unwrap();
        let address = admin.address().unwrap();
        let _serving = admin.serve(health, Metrics::new("x"), shutdown.clone());

        assert_eq!(get(address, "/ready").await, (503, "kafka: starting\n".into()));
        kafka.ready();
        assert_eq!(get(address, "/ready").await, (200, "ready\n".into()));
        kafka.waiting("broker away");
        assert_eq!(get(address, "/ready").await, (503, "kafka: broker away\n".into()));
        assert!(get(address, "/metrics").await.1.contains("process_resident_memory_bytes"));

        shutdown.request("test");
        kafka.ready();
        assert_eq!(get(address, "/ready").await, (503, "stopping\n".into()));
    }

    #[test]
    fn a_loop_without_heartbeats_is_stalled_and_an_ended_one_is_not() {
        let health = Health::new();
        let beat = health.heartbeat("loop", Duration::ZERO);
        while health.stalled().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(health.stalled(), ["loop"]);
        drop(beat);
        assert!(health.stalled().is_empty());
    }

    #[tokio::test]
    async fn a_taken_port_is_a_configuration_mistake_that_names_it() {
        let first = Admin::bind(&AdminConfig { listen: "127.0.0.1:0".parse().unwrap() }).await.unwrap();
        let listen = first.address().unwrap();
        let failure = Admin::bind(&AdminConfig { listen }).await.unwrap_err();
        assert_eq!(failure.code(), 78);
        assert!(failure.to_string().contains(&listen.to_string()), "{failure}");
    }
}
