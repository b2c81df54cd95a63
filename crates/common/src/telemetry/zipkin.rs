//! Exports spans to Zipkin. Only this file uses the exporter, because its authors have deprecated it.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use url::Url;

use crate::{Failure, http};

/// The longest time that a span waits for its batch.
const SEND_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// A provider that sends spans in batches from its own thread.
#[expect(deprecated, reason = "the project promises Zipkin, and OTLP would need a collector")]
pub(super) fn provider(service: &'static str, url: &Url) -> Result<SdkTracerProvider, Failure> {
    let failing = AtomicBool::new(false);
    let client = SpanSender { service, runtime: Handle::current(), client: http::client()?, failing };
    let exporter = opentelemetry_zipkin::ZipkinExporter::builder()
        .with_http_client(client)
        .with_collector_endpoint(url.as_str())
        .build()
        .map_err(|error| {
            Failure::Config(format!("bad configuration: tracing.zipkin_url: invalid value {url}: {error}"))
        })?;
    let batches = BatchConfigBuilder::default().with_scheduled_delay(SEND_EVERY).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(Resource::builder_empty().with_service_name(service).build())
        .with_span_processor(processor)
        .build())
}

/// Sends on the service's runtime: the exporter's thread has none.
#[derive(Debug)]
struct SpanSender {
    service: &'static str,
    runtime: Handle,
    client: reqwest::Client,
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for SpanSender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let request = request.map(|spans| named(&spans, self.service).map_or(spans, Bytes::from));
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
                Ok(_) => tracing::info!("span export resumed"),
                Err(error) => {
                    tracing::warn!(%error, "span export failed; dropping spans");
                }
            }
        }
        outcome
    }
}

/// Adds the service name to each span. Zipkin finds spans by it, and the exporter leaves it out. `None` if the text is not a list of spans.
fn named(spans: &[u8], service: &str) -> Option<Vec<u8>> {
    let mut spans: Vec<Map<String, Value>> = serde_json::from_slice(spans).ok()?;
    for span in &mut spans {
        span.insert("localEndpoint".to_owned(), json!({"serviceName": service}));
    }
    serde_json::to_vec(&spans).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_names_its_service_and_keeps_the_rest() {
        let sent = br#"[{"traceId":"1","id":"2","name":"kafka publish"},{"traceId":"1","id":"3","localEndpoint":{}}]"#;
        let spans: Vec<Map<String, Value>> =
            serde_json::from_slice(&named(sent, "raw-producer").unwrap()).unwrap();
        assert!(spans.iter().all(|span| span["localEndpoint"]["serviceName"] == "raw-producer"));
        assert_eq!((spans.len(), &spans[0]["name"]), (2, &json!("kafka publish")));
        assert_eq!(named(b"not json", "x"), None);
    }
}
