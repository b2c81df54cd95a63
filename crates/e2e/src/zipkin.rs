//! Traces, by Zipkin's API.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Servers;

/// A span as Zipkin returns it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZipkinSpan {
    /// Its id, unique in the trace.
    pub id: String,
    /// The id of the span that caused it.
    pub parent_id: Option<String>,
    /// Its operation, such as `websocket receive`.
    pub name: String,
    /// `PRODUCER` or `CONSUMER`.
    pub kind: Option<String>,
    /// Start, in microseconds since the epoch.
    pub timestamp: i64,
    /// Microseconds from start to end.
    pub duration: Option<i64>,
    /// The service that recorded it.
    pub local_endpoint: Option<SpanEndpoint>,
    /// Its attributes by name.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// The service of a span.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpanEndpoint {
    /// The service's name.
    pub service_name: Option<String>,
}

impl ZipkinSpan {
    /// The service's name; empty if there is none.
    #[must_use]
    pub fn service(&self) -> &str {
        self.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_deref()).unwrap_or_default()
    }
}

/// The last hour's traces that have spans of `service`.
pub async fn traces(servers: &Servers, service: &str) -> anyhow::Result<Vec<Vec<ZipkinSpan>>> {
    let path = format!("/api/v2/traces?serviceName={service}&limit=200&lookback=3600000");
    Ok(crate::get(servers.url("ZIPKIN_PORT", &path)?).await?.error_for_status()?.json().await?)
}

/// A span, its parent, and so on up to the one that began the trace.
#[must_use]
pub fn ancestors<'a>(trace: &'a [ZipkinSpan], from: &'a ZipkinSpan) -> Vec<&'a ZipkinSpan> {
    let parent =
        |span: &&'a ZipkinSpan| trace.iter().find(|other| Some(&other.id) == span.parent_id.as_ref());
    std::iter::successors(Some(from), parent).collect()
}
