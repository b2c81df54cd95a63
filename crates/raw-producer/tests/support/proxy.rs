//! Between the service and the exchange: loses, repeats and delays notifications, spoils some, and cuts connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

/// One notification in so many suffers it; 0: none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose: u64,
    pub(crate) repeat: u64,
    pub(crate) swap: u64,
    pub(crate) spoil: u64,
    pub(crate) cut: u64,
    /// Trades within the notifications that are left in, taken out one in so many.
    pub(crate) thin: u64,
}

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    pub(crate) done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(exchange: SocketAddr, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let done = Arc::new(AtomicU64::new(0));
        let count = done.clone();
        let task = tokio::spawn(async move {
            let mut seed = 7;
            while let Ok((client, _)) = listener.accept().await {
                seed += 1;
                tokio::spawn(pass(client, exchange, Dice(seed), (faults, count.clone())));
            }
        });
        Self { addr, done, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws/api/v2", self.addr)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n > 0 && (z ^ (z >> 31)).is_multiple_of(n)
    }
}

async fn pass(
    client: TcpStream,
    exchange: SocketAddr,
    mut dice: Dice,
    (faults, done): (Faults, Arc<AtomicU64>),
) {
    let Ok(client) = accept_async(client).await else { return };
    let Ok((server, _)) = connect_async(format!("ws://{exchange}/ws/api/v2")).await else { return };
    let ((mut to_client, mut from_client), (mut to_server, mut from_server)) =
        (client.split(), server.split());
    let upward = async {
        while let Some(Ok(message)) = from_client.next().await {
            if to_server.send(message).await.is_err() {
                return;
            }
        }
    };
    let downward = async {
        let mut kept: Option<Message> = None;
        while let Some(Ok(message)) = from_server.next().await {
            let mut out = vec![message];
            let is_trades = |m: &Message| m.to_text().is_ok_and(|text| text.contains("\"subscription\""));
            if is_trades(&out[0]) {
                let mut did = true;
                if dice.one_in(faults.cut) {
                    done.fetch_add(1, Ordering::Relaxed);
                    return;
                } else if dice.one_in(faults.lose) {
                    out.clear();
                } else if dice.one_in(faults.repeat) {
                    out.push(out[0].clone());
                } else if dice.one_in(faults.swap) && kept.is_none() {
                    kept = out.pop();
                } else if dice.one_in(faults.spoil) {
                    let text = out[0].to_text().unwrap().replacen("\"price\":", "\"price\":\"x", 1);
                    out = vec![Message::text(text)];
                } else if dice.one_in(faults.thin) {
                    out = vec![thinned(out[0].to_text().unwrap(), &mut dice)];
                } else {
                    did = false;
                    out.extend(kept.take());
                }
                done.fetch_add(u64::from(did), Ordering::Relaxed);
            }
            for message in out {
                if to_client.send(message).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn thinned(text: &str, dice: &mut Dice) -> Message {
    let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
    if let Some(trades) = json["params"]["data"].as_array_mut() {
        trades.retain(|_| !dice.one_in(3));
    }
    Message::text(json.to_string())
}
