//! A sampled trade's way through the services, as spans.
//!
//! A span costs close to a microsecond even where nothing is sampled, so the gate stands in front of it: one trade in N passes
//! [`Sampler::take`], and only that trade has spans. Services further on follow the `traceparent` header, so one decision
//! at the socket holds for the whole way.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of spans that are meant for Zipkin and not for the log.
pub(super) const TARGET: &str = "kstream::trace";

/// The record header that carries the context, as the W3C has it.
pub const TRACEPARENT: &str = "traceparent";

/// Lets one in N pass.
#[derive(Debug)]
pub struct Sampler {
    one_in: u32,
    seen: u32,
}

impl Sampler {
    /// One in `one_in`, beginning with the first; 0: none.
    #[must_use]
    pub fn one_in(one_in: u32) -> Self {
        Self { one_in, seen: 0 }
    }

    /// Whether this one is taken.
    pub fn take(&mut self) -> bool {
        let taken = self.one_in > 0 && self.seen == 0;
        self.seen += 1;
        if self.seen >= self.one_in {
            self.seen = 0;
        }
        taken
    }
}

/// What a span stands for, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy)]
pub enum SpanKind {
    /// Sends a record.
    Producer,
    /// Handles a record that another service sent.
    Consumer,
}

/// A span that begins a trace; it lasts until it is dropped.
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

/// A span below one of this process or of another.
#[must_use]
pub fn child(parent: &Context, name: &str, kind: SpanKind) -> Span {
    let span = root(name, kind);
    // An error says that there is no OpenTelemetry layer: then there is nothing to link.
    span.set_parent(parent.clone()).ok();
    span
}

/// Adds an attribute, which Zipkin shows as a tag.
pub fn tag(span: &Span, key: &'static str, value: impl Into<opentelemetry::Value>) {
    span.set_attribute(key, value);
}

/// The context of a span, to make children of.
#[must_use]
pub fn context(span: &Span) -> Context {
    span.context()
}

/// The value of the `traceparent` header for `span`; `None` if nothing records it.
#[must_use]
pub fn inject(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The context in a `traceparent` header; `None` if it is not one, or is not sampled.
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
