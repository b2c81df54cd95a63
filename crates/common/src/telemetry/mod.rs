//! Logs and traces of a service.

pub mod trace;
mod zipkin;

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Invalid, LogConfig, LogFormat, TracingConfig};
use crate::{Failure, failure};

/// Running logs and traces. Keep it until the service ends.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logs on standard error, and traces to Zipkin if it is configured. From then on a panic ends the process. Needs a tokio runtime.
///
/// # Errors
/// [`Failure::Config`] for a filter that does not parse.
pub fn start(service: &'static str, log: &LogConfig, tracing: &TracingConfig) -> Result<Telemetry, Failure> {
    let filter: Targets = log.filter.parse().map_err(|_| {
        let invalid = Invalid::new(
            "log.filter",
            format!("{:?}", log.filter),
            "directives such as info,raw_producer=debug",
        );
        Failure::Config(format!("bad configuration: {invalid}"))
    })?;
    let on_terminal = if std::io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format.unwrap_or(on_terminal) {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Pretty => {
            fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).boxed()
        }
    };
    let lines = lines.with_filter(filter).with_filter(filter_fn(|meta| meta.target() != trace::TARGET));
    let provider = match &tracing.zipkin_url {
        Some(url) if tracing.sample_one_in > 0 => Some(zipkin::provider(service, url)?),
        _ => None,
    };
    let spans = provider.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false);
        layer.with_filter(filter_fn(|meta| meta.target() == trace::TARGET))
    });
    failure::exit_on_panic();
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the remaining spans, for a few seconds at most; the others are dropped.
    pub async fn stop(self) {
        let Some(provider) = self.provider else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "could not flush spans at shutdown");
        }
    }
}
