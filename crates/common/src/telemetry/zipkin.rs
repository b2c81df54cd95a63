//! Spans to Zipkin: the one place that knows the exporter, which its makers have marked as deprecated.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use url::Url;

use crate::{Failure, http};

/// Spans wait at most this long, so that a trace can be looked at while it is still of interest.
const SEND_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// A provider that sends the spans of `service` to the collector at `url`, in batches from a thread of its own.
#[expect(deprecated, reason = "Zipkin is what users were promised; OTLP would need a collector in between")]
pub(super) fn provider(service: &'static str, url: &Url) -> Result<SdkTracerProvider, Failure> {
    let client =
        Client { runtime: Handle::current(), client: http::client()?, failing: AtomicBool::new(false) };
    let exporter = opentelemetry_zipkin::ZipkinExporter::builder()
        .with_http_client(client)
        .with_collector_endpoint(url.as_str())
        .build()
        .map_err(|error| {
            Failure::Config(format!("bad configuration: tracing.zipkin_url: got {url}: {error}"))
        })?;
    let batches = BatchConfigBuilder::default().with_scheduled_delay(SEND_EVERY).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(Resource::builder_empty().with_service_name(service).build())
        .with_span_processor(processor)
        .build())
}

/// The exporter's thread has no async runtime; the service's does the sending for it.
#[derive(Debug)]
struct Client {
    runtime: Handle,
    client: reqwest::Client,
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?.error_for_status()?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        let outcome = sending.await.map_err(HttpError::from).and_then(|sent| sent.map_err(HttpError::from));
        let failed = outcome.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            match &outcome {
                Ok(_) => tracing::info!("Zipkin takes spans again"),
                Err(error) => {
                    tracing::warn!(%error, "Zipkin does not take spans: they are dropped until it does");
                }
            }
        }
        outcome
    }
}
