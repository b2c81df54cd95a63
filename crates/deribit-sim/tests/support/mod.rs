//! A simulator in this process, and a client for it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::time::Duration;

use common::config::{ServiceConfig as _, load_from};
use deribit_sim::{Config, Simulator};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A deadline that only a failure exceeds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a simulator on a free port, with these variables over the defaults.
pub async fn simulator(variables: &[(&str, &str)]) -> Simulator {
    let base = [("LISTEN", "127.0.0.1:0"), ("MARKET__RATE", "300")];
    let variables =
        base.iter().chain(variables).map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
    let config: Config = load_from(None, variables).unwrap();
    assert!(config.check().is_empty());
    Simulator::start(&config).await.unwrap()
}

pub struct SimClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Notifications received while the client waited for a reply.
    pub notifications: Vec<Value>,
}

impl SimClient {
    pub async fn connect(simulator: &Simulator) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/ws/api/v2", simulator.addr())).await.unwrap();
        Self { socket, next_id: 1, notifications: Vec::new() }
    }

    pub async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next JSON message, or the frame that closed the connection (`None` if it broke).
    pub async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Sends a request and returns the whole reply. Notifications before it are kept.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string())
            .await;
        loop {
            let message = self.next().await.expect("a reply");
            if message.get("id") == Some(&json!(id)) {
                return message;
            }
            self.notifications.push(message);
        }
    }

    pub async fn result(&mut self, method: &str, params: Value) -> Value {
        let mut reply = self.call(method, params).await;
        assert!(reply.get("error").is_none(), "{reply}");
        reply["result"].take()
    }

    pub async fn error(&mut self, method: &str, params: Value) -> i64 {
        let reply = self.call(method, params).await;
        reply["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {reply}"))
    }

    /// The next notification of a channel.
    pub async fn notification(&mut self) -> Value {
        if !self.notifications.is_empty() {
            return self.notifications.remove(0);
        }
        self.next().await.expect("a notification")
    }
}
