//! `/live`, `/ready` and `/metrics`.
//!
//! Readiness is a latch for each component of a service: the service is ready when all are. Liveness is a heartbeat of progress: an idle loop beats,
//! only a wedged one does not.

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

/// What a service says of itself; clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Debug, Default)]
struct HealthState {
    /// Per component: what it waits for, or `None` when it is ready.
    waiting: BTreeMap<Arc<str>, Option<String>>,
    /// Per loop: its last beat, and how long it may be silent.
    beats: BTreeMap<String, (Instant, Duration)>,
}

impl Health {
    /// A service without components: live and ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component, which is not ready until it reports so.
    #[must_use]
    pub fn component(&self, name: impl Into<Arc<str>>) -> Component {
        let component = Component { health: self.clone(), name: name.into() };
        component.waiting("starting");
        component
    }

    /// Adds a loop that makes the service dead when it is silent for longer than `longest`.
    #[must_use]
    pub fn heartbeat(&self, name: impl Into<String>, longest: Duration) -> Heartbeat {
        let beat = Heartbeat { health: self.clone(), name: name.into(), longest };
        beat.beat();
        beat
    }

    /// What each component that is not ready waits for.
    #[must_use]
    pub fn waiting(&self) -> Vec<(Arc<str>, String)> {
        let state = self.lock();
        state.waiting.iter().filter_map(|(name, why)| Some((Arc::clone(name), why.clone()?))).collect()
    }

    /// The loops that have been silent for too long.
    #[must_use]
    pub fn wedged(&self) -> Vec<String> {
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

/// A component of a service: it is ready, or waits for something.
#[derive(Debug, Clone)]
pub struct Component {
    health: Health,
    name: Arc<str>,
}

impl Component {
    /// It can work.
    pub fn ready(&self) {
        self.health.lock().waiting.insert(Arc::clone(&self.name), None);
    }

    /// It cannot work, because of `why`.
    pub fn waiting(&self, why: impl Into<String>) {
        self.health.lock().waiting.insert(Arc::clone(&self.name), Some(why.into()));
    }
}

/// A loop's sign of life.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    name: String,
    longest: Duration,
}

impl Heartbeat {
    /// The loop has come round.
    pub fn beat(&self) {
        self.health.lock().beats.insert(self.name.clone(), (Instant::now(), self.longest));
    }
}

impl Drop for Heartbeat {
    /// A loop that has ended is for [`crate::shutdown::Tasks`] to judge, not for liveness.
    fn drop(&mut self) {
        self.health.lock().beats.remove(&self.name);
    }
}

/// The admin server, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

#[derive(Clone)]
struct Served {
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Admin {
    /// Takes the address, so that a taken port is found before anything starts.
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

    /// Where it listens; tells the port that was found for port 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves in the background until the returned guard is dropped: through the whole drain, so that `/ready` can say 503 meanwhile.
    #[must_use]
    pub fn serve(self, health: Health, metrics: Metrics, shutdown: Shutdown) -> Serving {
        let served = Served { health, metrics, shutdown };
        let router = Router::new()
            .route("/live", get(live))
            .route("/ready", get(ready))
            .route("/metrics", get(render))
            .with_state(served);
        let server = axum::serve(self.listener, router);
        Serving(tokio::spawn(async move {
            server.await.unwrap_or_else(|error| tracing::error!(%error, "admin server"));
        }))
    }
}

/// The admin server at work; dropping it ends it.
#[derive(Debug)]
pub struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn live(State(served): State<Served>) -> impl IntoResponse {
    let wedged = served.health.wedged();
    if wedged.is_empty() {
        return (StatusCode::OK, "live\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("wedged: {}\n", wedged.join(", ")))
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    if served.shutdown.is_requested() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let waiting = served.health.waiting();
    if waiting.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut text = String::new();
    for (component, why) in waiting {
        writeln!(text, "{component}: {why}").expect("writing to a string cannot fail");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    (
        [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        served.metrics.render(),
    )
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
    fn a_silent_loop_is_wedged_and_an_ended_one_is_not() {
        let health = Health::new();
        let beat = health.heartbeat("loop", Duration::ZERO);
        while health.wedged().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(health.wedged(), ["loop"]);
        drop(beat);
        assert!(health.wedged().is_empty());
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
