//! The error codes of the exchange.

use serde::Serialize;
use serde_json::{Value, json};

/// The `error` object of a reply.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProtocolError {
    pub(crate) code: i32,
    pub(crate) message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
}

impl ProtocolError {
    const TOO_MANY_REQUESTS: i32 = 10028;

    /// Whether the exchange ends the session after this error.
    pub(crate) fn ends_the_session(&self) -> bool {
        self.code == Self::TOO_MANY_REQUESTS
    }

    const fn new(code: i32, message: &'static str) -> Self {
        Self { code, message, data: None }
    }

    fn because(mut self, reason: &str) -> Self {
        self.data = Some(json!({ "reason": reason }));
        self
    }

    /// The frame is not JSON.
    pub(crate) fn unparsable(reason: &str) -> Self {
        Self::new(-32700, "Parse error").because(reason)
    }

    /// The frame is JSON but no request, or it is too large.
    pub(crate) fn invalid_request(reason: &str) -> Self {
        Self::new(-32600, "Invalid Request").because(reason)
    }

    pub(crate) fn method_not_found() -> Self {
        Self::new(-32601, "Method not found")
    }

    pub(crate) fn invalid_param(param: &str, reason: &str) -> Self {
        let mut error = Self::new(-32602, "Invalid params");
        error.data = Some(json!({ "param": param, "reason": reason }));
        error
    }

    /// The instrument does not exist.
    pub(crate) fn not_found() -> Self {
        Self::new(13020, "not_found")
    }

    /// The client credentials or the refresh token are wrong.
    pub(crate) fn invalid_credentials() -> Self {
        Self::new(13004, "invalid_credentials")
    }

    /// `raw` channels need an authenticated connection.
    pub(crate) fn raw_needs_login() -> Self {
        Self::new(13778, "raw_subscriptions_not_available_for_unauthorized")
    }

    /// The client has no credits left, which ends the session.
    pub(crate) fn too_many_requests() -> Self {
        Self::new(Self::TOO_MANY_REQUESTS, "too_many_requests")
    }

    pub(crate) fn maintenance() -> Self {
        Self::new(11051, "system_maintenance")
    }
}
