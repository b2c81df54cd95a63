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
use crate::limits::Ticket;
use crate::market::MarketTime;
use crate::protocol::{Params, Request, RpcError};
use crate::session;

/// Larger messages are not read to their end, but end the connection.
const LARGEST_MESSAGE: usize = 1 << 20;

/// The exchange's addresses.
pub(crate) fn router(exchange: Arc<Exchange>) -> Router {
    Router::new()
        .route("/ws/api/v2", get(websocket))
        .route("/api/v2", axum::routing::post(call_by_post))
        .route("/api/v2/{*method}", get(call_by_get).post(call_by_post))
        .route("/sim/trades", get(trades))
        .with_state(exchange)
}

impl FromRequestParts<Arc<Exchange>> for Ticket {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, exchange: &Arc<Exchange>) -> Result<Self, StatusCode> {
        let client = ConnectInfo::<SocketAddr>::from_request_parts(parts, exchange).await;
        let ConnectInfo(client) = client.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        if exchange.trouble.at(Occasion::Connection).is_some() {
            exchange.meters.refused.inc();
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        exchange.connections.enter(client.ip()).ok_or_else(|| {
            exchange.meters.refused.inc();
            StatusCode::TOO_MANY_REQUESTS
        })
    }
}

async fn websocket(
    ticket: Ticket,
    State(exchange): State<Arc<Exchange>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE);
    upgrade.on_upgrade(async move |socket| {
        let sessions = exchange.sessions.clone();
        sessions.track_future(session::serve(exchange, socket, ticket)).await;
    })
}

async fn call_by_get(
    ticket: Ticket,
    State(exchange): State<Arc<Exchange>>,
    Path(method): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    call(&exchange, &ticket, Ok(Request::anonymous(method, Params::of_query(query))))
}

async fn call_by_post(ticket: Ticket, State(exchange): State<Arc<Exchange>>, body: String) -> Response {
    call(&exchange, &ticket, Request::parse(&body))
}

fn call(
    exchange: &Exchange,
    ticket: &Ticket,
    request: Result<Request, (crate::protocol::Id, RpcError)>,
) -> Response {
    let came = exchange.clock.now_micros();
    let (id, outcome) = match request {
        Err((id, error)) => (id, Err(error)),
        Ok(request) => {
            let paid = exchange.pay(&request.method, (ticket.address(), false));
            let recall = paid.and_then(|()| exchange.recall(&request.method));
            (request.id, recall.and_then(|how| exchange.answer(&request.method, &request.params, how)))
        }
    };
    exchange.meters.calls.inc();
    let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    if outcome.is_err() {
        exchange.meters.errors.inc();
    }
    let reply = id.reply(&outcome, (came, exchange.clock.now_micros()));
    (status, [(header::CONTENT_TYPE, "application/json")], reply).into_response()
}

/// A span of time, both ends included, as in the exchange's own history calls.
#[derive(Deserialize)]
struct Span {
    from: MarketTime,
    to: Option<MarketTime>,
}

/// All trades of a span in order of time, one JSON object a line: not a call of the exchange, but for tests that
/// compare what a client has with what there was. It is read off the market bit by bit, so it may be long.
async fn trades(State(exchange): State<Arc<Exchange>>, Query(span): Query<Span>) -> Response {
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
