//! HTTP and websocket on one port.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Deserialize;

use crate::exchange::Exchange;
use crate::faults::Occasion;
use crate::limits::ConnectionGuard;
use crate::market::MarketTime;
use crate::protocol::{ProtocolError, RequestParams, RpcRequest};
use crate::session;

/// Bytes; a larger message ends the connection.
const LARGEST_MESSAGE: usize = 1 << 20;

/// The routes of the exchange.
pub(crate) fn router(exchange: Arc<Exchange>) -> Router {
    Router::new()
        .route("/ws/api/v2", get(websocket))
        .route("/api/v2", axum::routing::post(call_by_post))
        .route("/api/v2/{*method}", get(call_by_get).post(call_by_post))
        .route("/sim/trades", get(trades))
        .with_state(exchange)
}

impl FromRequestParts<Arc<Exchange>> for ConnectionGuard {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, exchange: &Arc<Exchange>) -> Result<Self, StatusCode> {
        let client = ConnectInfo::<SocketAddr>::from_request_parts(parts, exchange).await;
        let ConnectInfo(client) = client.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        if exchange.injector.at(Occasion::Connection).is_some() {
            exchange.metrics.refused.inc();
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        exchange.connections.acquire(client.ip()).ok_or_else(|| {
            exchange.metrics.refused.inc();
            StatusCode::TOO_MANY_REQUESTS
        })
    }
}

async fn websocket(
    guard: ConnectionGuard,
    State(exchange): State<Arc<Exchange>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE);
    upgrade.on_upgrade(async move |socket| {
        let sessions = exchange.sessions.clone();
        sessions.track_future(session::serve(exchange, socket, guard)).await;
    })
}

async fn call_by_get(
    guard: ConnectionGuard,
    State(exchange): State<Arc<Exchange>>,
    Path(method): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    call(&exchange, &guard, Ok(RpcRequest::anonymous(method, RequestParams::of_query(query))))
}

async fn call_by_post(
    guard: ConnectionGuard,
    State(exchange): State<Arc<Exchange>>,
    body: String,
) -> Response {
    call(&exchange, &guard, RpcRequest::parse(&body))
}

fn call(
    exchange: &Exchange,
    guard: &ConnectionGuard,
    request: Result<RpcRequest, (crate::protocol::RequestId, ProtocolError)>,
) -> Response {
    let received_at = exchange.clock.now_micros();
    let (id, outcome) = match request {
        Err((id, error)) => (id, Err(error)),
        Ok(request) => {
            let paid = exchange.charge(&request.method, guard.address(), false);
            let history_fault = paid.and_then(|()| exchange.history_fault(&request.method));
            (request.id, history_fault.and_then(|how| exchange.answer(&request.method, &request.params, how)))
        }
    };
    exchange.metrics.calls.inc();
    let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    if outcome.is_err() {
        exchange.metrics.errors.inc();
    }
    let reply = id.reply(&outcome, received_at, exchange.clock.now_micros());
    (status, [(header::CONTENT_TYPE, "application/json")], reply).into_response()
}

/// A span of time with both ends included, as in the history requests of the exchange.
#[derive(Deserialize)]
struct TradesQuery {
    from: MarketTime,
    to: Option<MarketTime>,
}

/// All trades of a span in order of time, one JSON object a line. The exchange has no such request: tests use it to compare what a client
/// received with what was traded. The response is streamed, so the span may be long.
async fn trades(State(exchange): State<Arc<Exchange>>, Query(span): Query<TradesQuery>) -> Response {
    const PIECE: u64 = 1_000;
    let end = span.to.map_or_else(|| exchange.clock.now(), |to| to.plus(1));
    let pieces = stream::unfold(span.from.max(MarketTime::GENESIS), move |from| {
        let exchange = Arc::clone(&exchange);
        async move {
            let to = from.plus(PIECE).min(end);
            if from >= to {
                return None;
            }
            let mut lines = String::new();
            for trade in exchange.market.trades(from..to) {
                trade.write_json(&mut lines);
                lines.push('\n');
            }
            tokio::task::yield_now().await;
            Some((Ok::<_, Infallible>(lines), to))
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response()
}
