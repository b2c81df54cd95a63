//! Dead letters: a record that our own codec decodes was rejected for a temporary reason and is requeued into its table. Any other stays,
//! counted by reason.

mod decision;
pub(crate) mod headers;
pub(crate) mod metrics;
mod processor;
mod skip;
mod store;

pub(crate) use processor::DeadLetterProcessor;
pub(crate) use skip::skip;
