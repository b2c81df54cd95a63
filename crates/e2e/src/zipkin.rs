//! Traces, as Zipkin's API tells them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Stack;

/// One span.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Its number.
    pub id: String,
    /// The span it lies below.
    pub parent_id: Option<String>,
    /// What it stands for.
    pub name: String,
    /// `PRODUCER` or `CONSUMER`.
    pub kind: Option<String>,
    /// Start, in microseconds since the epoch.
    pub timestamp: i64,
    /// In microseconds.
    pub duration: Option<i64>,
    /// The service that it ran in.
    pub local_endpoint: Option<Endpoint>,
    /// Attributes.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name.
    pub service_name: Option<String>,
}

impl Span {
    /// The service's name, or nothing.
    #[must_use]
    pub fn service(&self) -> &str {
        self.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_deref()).unwrap_or_default()
    }
}

/// The last hour's traces in which `service` has a part.
pub async fn traces(stack: &Stack, service: &str) -> anyhow::Result<Vec<Vec<Span>>> {
    let path = format!("/api/v2/traces?serviceName={service}&limit=200&lookback=3600000");
    Ok(crate::get(stack.url("ZIPKIN_PORT", &path)?).await?.error_for_status()?.json().await?)
}

/// From a span up to the one that began the trace.
#[must_use]
pub fn way_up<'a>(trace: &'a [Span], from: &'a Span) -> Vec<&'a Span> {
    let parent = |span: &&'a Span| trace.iter().find(|other| Some(&other.id) == span.parent_id.as_ref());
    std::iter::successors(Some(from), parent).collect()
}
