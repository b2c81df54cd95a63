//! An exchange that has its frames ready: it sends them as fast as they are taken, and to make them costs nothing meanwhile.
//!
//! It talks as the exchange does, and knows of no history: its instruments begin with their first trade.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deribit_sim::market::{InstrumentKind, Market, MarketTime, Options};
use e2e::fixtures::now_millis;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// What the exchange collects.
const BUNDLE: Duration = Duration::from_millis(100);

/// Frames with trades, and how many trades these are.
pub(crate) struct Frames {
    pub(crate) frames: Vec<Utf8Bytes>,
    pub(crate) trades: usize,
}

/// A market's frames, one bundle and kind after another.
pub(crate) struct Recorder {
    market: Market,
    at: MarketTime,
    /// The exchange's numbers count from the market's beginning, these from the tape's.
    numbers: HashMap<Arc<str>, u64>,
}

impl Recorder {
    pub(crate) fn new(options: Options, from: MarketTime) -> Self {
        Self { market: Market::new(options), at: from, numbers: HashMap::new() }
    }

    pub(crate) fn record(&mut self, time: Duration) -> Frames {
        let mut all = Frames { frames: Vec::new(), trades: 0 };
        for _ in 0..time.as_millis() / BUNDLE.as_millis() {
            let until = self.at.plus(u64::try_from(BUNDLE.as_millis()).unwrap_or(0));
            let trades = self.market.trades(self.at..until);
            self.at = until;
            for kind in InstrumentKind::ALL {
                let of_kind = trades.iter().filter(|trade| trade.kind == kind);
                let texts: Vec<String> = of_kind
                    .map(|trade| {
                        let mut trade = trade.clone();
                        let number = self.numbers.entry(trade.instrument_name.clone()).or_default();
                        *number += 1;
                        trade.trade_seq = *number;
                        trade.to_json()
                    })
                    .collect();
                if texts.is_empty() {
                    continue;
                }
                let data = texts.join(",");
                all.trades += texts.len();
                all.frames.push(
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"trades.{}.any.100ms","data":[{data}]}}}}"#,
                        kind.name()
                    )
                    .into(),
                );
            }
        }
        all
    }
}

/// The exchange.
pub(crate) struct Tape {
    pub(crate) address: SocketAddr,
    frames: mpsc::UnboundedSender<Utf8Bytes>,
}

impl Tape {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (frames, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(talk(socket, Arc::clone(&waiting)));
            }
        });
        Ok(Self { address, frames })
    }

    /// Sends all of that, as fast as it is taken.
    pub(crate) fn play(&self, frames: Vec<Utf8Bytes>) -> anyhow::Result<()> {
        frames.into_iter().try_for_each(|frame| self.frames.send(frame)).context("nobody is connected")
    }
}

async fn talk(
    socket: TcpStream,
    frames: Arc<Mutex<mpsc::UnboundedReceiver<Utf8Bytes>>>,
) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(socket).await?;
    let mut frames = frames.lock().await;
    loop {
        tokio::select! {
            biased;
            request = socket.next() => {
                let Some(request) = request else { return Ok(()) };
                if let Message::Text(text) = request? {
                    socket.send(Message::text(answer(&text)?)).await?;
                }
            }
            Some(frame) = frames.recv() => socket.send(Message::Text(frame)).await?,
        }
    }
}

#[derive(Deserialize)]
struct Request {
    id: u64,
    method: String,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    channels: Vec<String>,
}

fn answer(request: &str) -> anyhow::Result<String> {
    let Request { id, method, params } = serde_json::from_str(request)?;
    let result = match method.as_str() {
        "public/subscribe" => json!(params.channels),
        "public/get_time" => json!(now().0),
        "public/get_instruments" => json!([]),
        history if history.starts_with("public/get_last_trades") => json!({"trades": [], "has_more": false}),
        _ => json!("ok"),
    };
    Ok(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

/// The exchange's clock.
pub(crate) fn now() -> MarketTime {
    MarketTime(now_millis().cast_unsigned())
}
