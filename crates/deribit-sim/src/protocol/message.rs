//! JSON-RPC requests, replies and notifications.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ProtocolError, RequestParams};

#[derive(Debug)]
pub(crate) struct RpcRequest {
    pub(crate) id: RequestId,
    pub(crate) method: String,
    pub(crate) params: RequestParams,
}

/// The id of a request, text or number; the reply repeats it byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Option<Box<RawValue>>);

#[derive(Deserialize)]
struct RequestEnvelope {
    #[serde(default)]
    id: Option<Box<RawValue>>,
    method: Option<String>,
    params: Option<Value>,
}

impl RpcRequest {
    /// A request without an id: an HTTP GET.
    pub(crate) fn anonymous(method: String, params: RequestParams) -> Self {
        Self { id: RequestId(None), method, params }
    }

    /// Parses a request. An error comes with the id, if the id could be parsed.
    pub(crate) fn parse(text: &str) -> Result<Self, (RequestId, ProtocolError)> {
        let envelope: RequestEnvelope = serde_json::from_str(text).map_err(|error| {
            let error = match error.classify() {
                serde_json::error::Category::Data => ProtocolError::invalid_request("not a request object"),
                _ => ProtocolError::unparsable(&error.to_string()),
            };
            (RequestId(None), error)
        })?;
        let id = RequestId(envelope.id);
        let Some(method) = envelope.method else {
            return Err((id, ProtocolError::invalid_request("no method")));
        };
        match RequestParams::of_json(envelope.params) {
            Ok(params) => Ok(Self { id, method, params }),
            Err(error) => Err((id, error)),
        }
    }
}

impl RequestId {
    /// The id of a request whose id could not be parsed.
    pub(crate) const NONE: Self = Self(None);

    /// The reply to the request of this id; both times are in microseconds since 1970.
    pub(crate) fn reply(
        &self,
        outcome: &Result<String, ProtocolError>,
        received_at: u64,
        answered_at: u64,
    ) -> String {
        let mut reply = String::with_capacity(160 + outcome.as_ref().map_or(0, String::len));
        reply.push_str("{\"jsonrpc\":\"2.0\",");
        if let Some(id) = &self.0 {
            write!(reply, "\"id\":{},", id.get()).expect("writing to a string cannot fail");
        }
        match outcome {
            Ok(result) => write!(reply, "\"result\":{result},"),
            Err(error) => {
                let error = serde_json::to_string(error).expect("numbers and texts become JSON");
                write!(reply, "\"error\":{error},")
            }
        }
        .expect("writing to a string cannot fail");
        let took = answered_at.saturating_sub(received_at);
        write!(reply, "\"usIn\":{received_at},\"usOut\":{answered_at},\"usDiff\":{took},\"testnet\":true}}")
            .expect("writing to a string cannot fail");
        reply
    }
}

/// A notification of a channel; `data` is JSON.
pub(crate) fn notification(channel: &str, data: &str) -> String {
    let channel = Value::from(channel);
    format!(r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":{channel},"data":{data}}}}}"#)
}

/// The notification that maintenance has begun or ended.
pub(crate) fn maintenance(begun: bool) -> String {
    notification("platform_state", &format!(r#"{{"maintenance":{begun}}}"#))
}

/// A heartbeat of type `heartbeat`, or of type `test_request`, which the client must answer.
pub(crate) fn heartbeat(kind: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_written() {
        for id in ["1", "\"1\"", "\"a\\u00e4\"", "9007199254740993", "null"] {
            let request = RpcRequest::parse(&format!(r#"{{"id":{id},"method":"public/test"}}"#)).unwrap();
            let reply = request.id.reply(&Ok("1".into()), 5, 8);
            let expected =
                if id == "null" { "{\"jsonrpc\":\"2.0\",".to_owned() } else { format!("\"id\":{id},") };
            assert!(reply.contains(&expected), "{reply}");
            assert!(reply.ends_with(r#""usIn":5,"usOut":8,"usDiff":3,"testnet":true}"#), "{reply}");
            serde_json::from_str::<Value>(&reply).unwrap();
        }
    }

    #[test]
    fn what_is_no_request_is_told_so_by_its_code() {
        let code = |text| RpcRequest::parse(text).unwrap_err().1.code;
        assert_eq!(code("{"), -32700);
        assert_eq!(code("[1]"), -32600);
        assert_eq!(code(r#"{"id":3}"#), -32600);
        assert_eq!(code(r#"{"id":3,"method":"public/test","params":[1]}"#), -32602);
    }
}
