//! Requests whose result is a function of market, time and parameters.

use std::time::Duration;

use serde_json::{Value, json};

use super::channel::{currency_of, kinds_of};
use super::{ProtocolError, RequestParams};
use crate::market::{Filter, HistoryPage, InstrumentKinds, Listing, Market, MarketTime, MarketTrade, Take};

/// How far history by currency reaches back, in milliseconds.
const HISTORY_BY_CURRENCY: u64 = 24 * 3_600_000;

/// `get_instruments {expired: true}` shows instruments that expired within this time, in milliseconds.
const EXPIRED_WITHIN: u64 = 7 * 24 * 3_600_000;

/// The API version in the results of `public/test` and `public/hello`.
const VERSION: &str = "1.2.26";

/// Everything that a result depends on besides the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryContext<'a> {
    pub(crate) market: &'a Market,
    pub(crate) now: MarketTime,
    /// The result of `public/get_time`.
    pub(crate) shown_time: MarketTime,
    pub(crate) history_fault: HistoryFault,
}

/// A fault injected into a history request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryFault {
    /// No fault: history is complete.
    None,
    /// A response holds about the first half of its trades, and `has_more`.
    Truncated,
    /// The trades of that last stretch of time are missing.
    Lagging(Duration),
}

/// Whether a method reads history.
pub(crate) fn is_history(method: &str) -> bool {
    method.starts_with("public/get_last_trades")
}

/// The result of a request as JSON; `None` if the method is not known here.
pub(crate) fn answer(
    context: QueryContext<'_>,
    method: &str,
    params: &RequestParams,
) -> Option<Result<String, ProtocolError>> {
    let context = if is_history(method) { context.with_lag() } else { context };
    Some(match method {
        "public/get_time" => Ok(context.shown_time.0.to_string()),
        "public/test" | "public/hello" => Ok(json!({ "version": VERSION }).to_string()),
        "public/status" => Ok(json!({ "locked": "false", "locked_indices": [] }).to_string()),
        "public/get_instruments" => context.instruments(params),
        "public/get_instrument" => {
            context.instrument(params).map(|listing| shown(&listing, context.now).to_string())
        }
        "public/get_last_trades_by_instrument" => context.by_sequence(params),
        "public/get_last_trades_by_instrument_and_time" => context.by_time(params),
        "public/get_last_trades_by_currency_and_time" => context.by_currency(params),
        _ => return None,
    })
}

impl QueryContext<'_> {
    /// Moves the present back if history lags.
    fn with_lag(self) -> Self {
        let HistoryFault::Lagging(by) = self.history_fault else { return self };
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { now: self.now.minus(by), ..self }
    }

    /// Writes a page of history as JSON.
    fn shown(self, mut page: HistoryPage) -> String {
        if self.history_fault == HistoryFault::Truncated {
            halve(&mut page);
        }
        let trades = array(page.trades.iter());
        format!(r#"{{"trades":{trades},"has_more":{}}}"#, page.has_more)
    }

    fn instruments(self, params: &RequestParams) -> Result<String, ProtocolError> {
        let currency = params.required_text("currency")?;
        let currency = currency_of(currency)
            .ok_or_else(|| ProtocolError::invalid_param("currency", "unknown currency"))?;
        let filter = Filter { currency, kinds: kinds(params)? };
        let wanted = |listing: &Listing| filter.passes(listing.currency(), listing.kind());
        let instruments: Vec<_> = if params.flag("expired")? {
            let expired = self.market.expired(self.now.minus(EXPIRED_WITHIN), self.now);
            expired.filter(wanted).map(|listing| shown(&listing, self.now)).collect()
        } else {
            self.market.listings(self.now).filter(wanted).map(|listing| shown(&listing, self.now)).collect()
        };
        Ok(Value::from(instruments).to_string())
    }

    fn instrument(self, params: &RequestParams) -> Result<Listing, ProtocolError> {
        let listing = self.market.instrument(params.required_text("instrument_name")?);
        listing.filter(|listing| listing.listed_at() <= self.now).ok_or_else(ProtocolError::not_found)
    }

    fn by_sequence(self, params: &RequestParams) -> Result<String, ProtocolError> {
        let listing = self.instrument(params)?;
        let start = params.number("start_seq")?;
        let last = self.market.sequence_before(&listing, self.now);
        let last = params.number("end_seq")?.unwrap_or(last).min(last);
        Ok(self.page(&listing, start.unwrap_or(1), last, take(params, start.is_some())?))
    }

    fn by_time(self, params: &RequestParams) -> Result<String, ProtocolError> {
        let listing = self.instrument(params)?;
        let start = MarketTime(params.required_number("start_timestamp")?);
        let end = MarketTime(params.required_number("end_timestamp")?).plus(1).min(self.now);
        let first = self.market.sequence_before(&listing, start) + 1;
        let last = self.market.sequence_before(&listing, end);
        Ok(self.page(&listing, first, last, take(params, true)?))
    }

    /// The trades from one sequence number to another, both included, up to the page size.
    fn page(self, listing: &Listing, first: u64, last: u64, take: Take) -> String {
        let first = first.max(1);
        let (Take::First(count) | Take::Last(count)) = take;
        let count = count as u64;
        let numbers = match take {
            Take::First(_) => first..=last.min(first.saturating_add(count - 1)),
            Take::Last(_) => first.max((last + 1).saturating_sub(count))..=last,
        };
        let mut trades = self.market.sequence(listing, numbers, self.now);
        if matches!(take, Take::Last(_)) {
            trades.reverse();
        }
        let has_more = last.saturating_sub(first).saturating_add(1) > count && first <= last;
        self.shown(HistoryPage { trades, has_more })
    }

    fn by_currency(self, params: &RequestParams) -> Result<String, ProtocolError> {
        let currency = params.required_text("currency")?;
        let currency = currency_of(currency).flatten().ok_or_else(|| {
            ProtocolError::invalid_param("currency", "must be one of BTC, ETH, USDC, USDT, EURR")
        })?;
        let filter = Filter { currency: Some(currency), kinds: kinds(params)? };
        let oldest = self.now.minus(HISTORY_BY_CURRENCY);
        let start = params.time("start_timestamp")?;
        let end = params.time("end_timestamp")?.map_or(self.now, |end| end.plus(1).min(self.now));
        let take = take(params, start.is_some())?;
        let start = start.unwrap_or(oldest);
        if start < oldest || start >= end {
            return Ok(self.shown(HistoryPage { trades: Vec::new(), has_more: false }));
        }
        Ok(self.shown(self.market.page(filter, start..end, take)))
    }
}

fn kinds(params: &RequestParams) -> Result<InstrumentKinds, ProtocolError> {
    let Some(kind) = params.text("kind")? else { return Ok(InstrumentKinds::Any) };
    kinds_of(kind).ok_or_else(|| ProtocolError::invalid_param("kind", "unknown kind"))
}

/// The sorting. By default it is ascending if the request names a start, otherwise descending.
fn take(params: &RequestParams, names_start: bool) -> Result<Take, ProtocolError> {
    let count = params.number("count")?.unwrap_or(10);
    let count = usize::try_from(count)
        .ok()
        .filter(|count| (1..=1_000).contains(count))
        .ok_or_else(|| ProtocolError::invalid_param("count", "must be 1 to 1000"))?;
    match params.text("sorting")? {
        Some("asc") => Ok(Take::First(count)),
        Some("desc") => Ok(Take::Last(count)),
        None | Some("default") => Ok(if names_start { Take::First(count) } else { Take::Last(count) }),
        Some(_) => Err(ProtocolError::invalid_param("sorting", "must be asc, desc or default")),
    }
}

/// Keeps the first half and the rest of its last millisecond: a page that is not full never ends within a millisecond.
fn halve(page: &mut HistoryPage) {
    let half = page.trades.len().div_ceil(2);
    let Some(last) = half.checked_sub(1).and_then(|at| page.trades.get(at)) else { return };
    let time = last.timestamp;
    let rest = page.trades.iter().skip(half).take_while(|trade| trade.timestamp == time).count();
    page.has_more |= half + rest < page.trades.len();
    page.trades.truncate(half + rest);
}

fn array<'a>(trades: impl Iterator<Item = &'a MarketTrade>) -> String {
    let mut out = String::from("[");
    for trade in trades {
        if out.len() > 1 {
            out.push(',');
        }
        trade.write_json(&mut out);
    }
    out.push(']');
    out
}

/// An instrument as the exchange describes it.
fn shown(listing: &Listing, now: MarketTime) -> Value {
    let terms = listing.contract_terms();
    let mut shown = json!({
        "instrument_name": &**listing.name(),
        "kind": listing.kind().name(),
        "is_active": listing.is_active(now),
        "state": if listing.is_active(now) { "open" } else { "closed" },
        "creation_timestamp": listing.listed_at().0,
        "expiration_timestamp": listing.expires_at().0,
        "base_currency": terms.base,
        "quote_currency": terms.quote,
        "counter_currency": terms.quote,
        "settlement_currency": terms.settlement,
        "settlement_period": terms.settlement_period,
        "instrument_type": terms.instrument_type,
        "tick_size": terms.tick_size,
        "min_trade_amount": terms.min_trade_amount,
        "contract_size": terms.contract_size,
        "price_index": terms.price_index,
    });
    if let (Some((strike, side)), Some(fields)) = (terms.option, shown.as_object_mut()) {
        fields.insert("strike".into(), json!(strike));
        fields.insert("option_type".into(), json!(side));
    }
    shown
}
