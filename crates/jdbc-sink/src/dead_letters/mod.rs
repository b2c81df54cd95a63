//! Dead letters: a record that our own codec decodes was rejected for a temporary reason and is requeued into its table. Any other stays,
//! counted by reason.

mod decision;
pub mod headers;
mod processor;
mod skip;
mod store;

pub use decision::{BROUGHT_BACK, Decision};
pub use processor::Desk;
pub use skip::pass_over;
