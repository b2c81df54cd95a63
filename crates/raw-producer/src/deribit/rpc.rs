//! JSON-RPC requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A request with the id that its response will have.
#[derive(Debug)]
pub(crate) struct JsonRpcRequest {
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

impl JsonRpcRequest {
    /// The text of the frame.
    pub(crate) fn text(&self) -> String {
        let Self { id, method, params } = self;
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    }
}

/// Allocates request ids, from 1 on. Clones share one id space: a connection carries its own requests and those of the feed, and only the
/// id shows which of them a response belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestIds(Arc<AtomicU64>);

impl RequestIds {
    pub(crate) fn allocate(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_never_allocate_the_same_id() {
        let (ids, mut seen) = (RequestIds::default(), Vec::new());
        let clone = ids.clone();
        for _ in 0..3 {
            seen.extend([ids.allocate(), clone.allocate()]);
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }
}
