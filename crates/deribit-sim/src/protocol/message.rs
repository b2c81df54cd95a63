//! Requests, replies, notifications.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Params, RpcError};

/// A call.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Id,
    pub(crate) method: String,
    pub(crate) params: Params,
}

/// What a reply is matched by: given back as it was written, text or number.
#[derive(Debug, Clone)]
pub(crate) struct Id(Option<Box<RawValue>>);

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Option<Box<RawValue>>,
    method: Option<String>,
    params: Option<Value>,
}

impl Request {
    /// A call that has no identity of its own: an HTTP GET.
    pub(crate) fn anonymous(method: String, params: Params) -> Self {
        Self { id: Id(None), method, params }
    }

    /// Reads a request; the error comes with the identity, if that much could be read.
    pub(crate) fn parse(text: &str) -> Result<Self, (Id, RpcError)> {
        let envelope: Envelope = serde_json::from_str(text).map_err(|error| {
            let error = match error.classify() {
                serde_json::error::Category::Data => RpcError::invalid_request("not a request object"),
                _ => RpcError::unparsable(&error.to_string()),
            };
            (Id(None), error)
        })?;
        let id = Id(envelope.id);
        let Some(method) = envelope.method else {
            return Err((id, RpcError::invalid_request("no method")));
        };
        match Params::of_json(envelope.params) {
            Ok(params) => Ok(Self { id, method, params }),
            Err(error) => Err((id, error)),
        }
    }
}

impl Id {
    /// Of a request whose identity could not be read.
    pub(crate) const NONE: Self = Self(None);

    /// The reply to the request of this identity that came and is answered at those times, in microseconds.
    pub(crate) fn reply(&self, outcome: &Result<String, RpcError>, (came, answered): (u64, u64)) -> String {
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
        let took = answered.saturating_sub(came);
        write!(reply, "\"usIn\":{came},\"usOut\":{answered},\"usDiff\":{took},\"testnet\":true}}")
            .expect("writing to a string cannot fail");
        reply
    }
}

/// A notification of a channel, whose data is JSON already.
pub(crate) fn notification(channel: &str, data: &str) -> String {
    let channel = Value::from(channel);
    format!(r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":{channel},"data":{data}}}}}"#)
}

/// The news that maintenance has begun, or is over, for those who subscribed to it.
pub(crate) fn maintenance(begun: bool) -> String {
    notification("platform_state", &format!(r#"{{"maintenance":{begun}}}"#))
}

/// A heartbeat of that type: `heartbeat`, or `test_request`, which wants an answer.
pub(crate) fn heartbeat(kind: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_written() {
        for id in ["1", "\"1\"", "\"a\\u00e4\"", "9007199254740993", "null"] {
            let request = Request::parse(&format!(r#"{{"id":{id},"method":"public/test"}}"#)).unwrap();
            let reply = request.id.reply(&Ok("1".into()), (5, 8));
            let expected =
                if id == "null" { "{\"jsonrpc\":\"2.0\",".to_owned() } else { format!("\"id\":{id},") };
            assert!(reply.contains(&expected), "{reply}");
            assert!(reply.ends_with(r#""usIn":5,"usOut":8,"usDiff":3,"testnet":true}"#), "{reply}");
            serde_json::from_str::<Value>(&reply).unwrap();
        }
    }

    #[test]
    fn what_is_no_request_is_told_so_by_its_code() {
        let code = |text| Request::parse(text).unwrap_err().1.code;
        assert_eq!(code("{"), -32700);
        assert_eq!(code("[1]"), -32600);
        assert_eq!(code(r#"{"id":3}"#), -32600);
        assert_eq!(code(r#"{"id":3,"method":"public/test","params":[1]}"#), -32602);
    }
}
