//! Spans of a sampled trade on its way through the services.
//!
//! A span costs almost a microsecond even if nothing is sampled. So [`Sampler::take`] decides first: only one trade in N gets spans. Later
//! services follow the `traceparent` header, so the decision at the socket holds everywhere.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of spans that go to Zipkin and not to the log.
pub(super) const TARGET: &str = "kstream::trace";

/// The record header with the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Selects one trade in N.
#[derive(Debug)]
pub struct Sampler {
    one_in: u32,
    seen: u32,
}

impl Sampler {
    /// Selects one in `one_in`, starting with the first; 0 selects none.
    #[must_use]
    pub fn one_in(one_in: u32) -> Self {
        Self { one_in, seen: 0 }
    }

    /// Whether the next trade is selected.
    pub fn take(&mut self) -> bool {
        let taken = self.one_in > 0 && self.seen == 0;
        self.seen += 1;
        if self.seen >= self.one_in {
            self.seen = 0;
        }
        taken
    }
}

/// The OpenTelemetry kind of a span.
#[derive(Debug, Clone, Copy)]
pub enum SpanKind {
    /// The span sends a record.
    Producer,
    /// The span handles a record that another service sent.
    Consumer,
}

/// Starts a trace with a span that ends when it is dropped.
#[must_use]
pub fn root(name: &str, kind: SpanKind) -> Span {
    match kind {
        SpanKind::Producer => {
            info_span!(target: TARGET, parent: None, "span", otel.name = name, otel.kind = "producer")
        }
        SpanKind::Consumer => {
            info_span!(target: TARGET, parent: None, "span", otel.name = name, otel.kind = "consumer")
        }
    }
}

/// Starts a child of a span of this or another process.
#[must_use]
pub fn child(parent: &Context, name: &str, kind: SpanKind) -> Span {
    let span = root(name, kind);
    // An error means that there is no OpenTelemetry layer, so there is nothing to link.
    span.set_parent(parent.clone()).ok();
    span
}

/// Adds an attribute, which Zipkin shows as a tag.
pub fn tag(span: &Span, key: &'static str, value: impl Into<opentelemetry::Value>) {
    span.set_attribute(key, value);
}

/// The context of a span, for its children.
#[must_use]
pub fn context(span: &Span) -> Context {
    span.context()
}

/// The value of the `traceparent` header; `None` if the span is not recorded.
#[must_use]
pub fn inject(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The context in a `traceparent` header; `None` if it is invalid or not sampled.
#[must_use]
pub fn extract(traceparent: &[u8]) -> Option<Context> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let sampled = context.has_active_span() && context.span().span_context().is_sampled();
    sampled.then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_n_is_taken_and_none_of_zero() {
        let taken = |n| {
            let mut sampler = Sampler::one_in(n);
            (0..10).filter(|_| sampler.take()).count()
        };
        assert_eq!([taken(0), taken(1), taken(5), taken(100)], [0, 10, 2, 1]);
    }

    #[test]
    fn a_context_that_is_sampled_is_found_and_anything_else_is_none() {
        let sampled = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = extract(sampled).unwrap();
        assert_eq!(context.span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        let unsampled = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        for other in [&unsampled[..], b"", b"nonsense", b"\xff\xfe"] {
            assert!(extract(other).is_none());
        }
    }
}
