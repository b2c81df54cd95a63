//! Calls whose answers are functions of market, time and parameters.

use std::time::Duration;

use serde_json::{Value, json};

use super::channel::{currency_of, kinds_of};
use super::{Params, RpcError};
use crate::market::{Filter, InstrumentKinds, Listing, Market, MarketTime, MarketTrade, Page, Take};

/// By currency, history reaches back so far.
const HISTORY_BY_CURRENCY: u64 = 24 * 3_600_000;

/// `get_instruments {expired: true}` shows what has expired within this time.
const RECENTLY: u64 = 7 * 24 * 3_600_000;

/// The version of the exchange's API that is spoken.
const VERSION: &str = "1.2.26";

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) market: &'a Market,
    pub(crate) now: MarketTime,
    /// The time for those who ask.
    pub(crate) told: MarketTime,
    pub(crate) recall: Recall,
}

/// How well history is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// As it was.
    Full,
    /// Answers hold about the first half of what they should, and say that there is more.
    Half,
    /// The newest trades are not in it yet.
    Behind(Duration),
}

/// Whether a method is about history.
pub(crate) fn is_history(method: &str) -> bool {
    method.starts_with("public/get_last_trades")
}

/// The result of a call, as JSON; `None` if it is not one of these.
pub(crate) fn answer(
    context: Context<'_>,
    method: &str,
    params: &Params,
) -> Option<Result<String, RpcError>> {
    let context = if is_history(method) { context.remembered() } else { context };
    Some(match method {
        "public/get_time" => Ok(context.told.0.to_string()),
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

impl Context<'_> {
    /// History may not have come to the present yet.
    fn remembered(self) -> Self {
        let Recall::Behind(by) = self.recall else { return self };
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { now: self.now.minus(by), ..self }
    }

    /// A page of history as JSON.
    fn shown(self, mut page: Page) -> String {
        if self.recall == Recall::Half {
            halve(&mut page);
        }
        let trades = array(page.trades.iter());
        format!(r#"{{"trades":{trades},"has_more":{}}}"#, page.has_more)
    }

    fn instruments(self, params: &Params) -> Result<String, RpcError> {
        let currency = params.required_text("currency")?;
        let currency =
            currency_of(currency).ok_or_else(|| RpcError::invalid_param("currency", "unknown currency"))?;
        let filter = Filter { currency, kinds: kinds(params)? };
        let wanted = |listing: &Listing| filter.passes(listing.currency(), listing.kind());
        let instruments: Vec<_> = if params.flag("expired")? {
            let expired = self.market.expired(self.now.minus(RECENTLY), self.now);
            expired.filter(wanted).map(|listing| shown(&listing, self.now)).collect()
        } else {
            self.market.listings(self.now).filter(wanted).map(|listing| shown(&listing, self.now)).collect()
        };
        Ok(Value::from(instruments).to_string())
    }

    fn instrument(self, params: &Params) -> Result<Listing, RpcError> {
        let listing = self.market.instrument(params.required_text("instrument_name")?);
        listing.filter(|listing| listing.listed_at() <= self.now).ok_or_else(RpcError::not_found)
    }

    fn by_sequence(self, params: &Params) -> Result<String, RpcError> {
        let listing = self.instrument(params)?;
        let start = params.number("start_seq")?;
        let last = self.market.sequence_before(&listing, self.now);
        let numbers = (start.unwrap_or(1), params.number("end_seq")?.unwrap_or(last).min(last));
        Ok(self.page(&listing, numbers, take(params, start.is_some())?))
    }

    fn by_time(self, params: &Params) -> Result<String, RpcError> {
        let listing = self.instrument(params)?;
        let start = MarketTime(params.required_number("start_timestamp")?);
        let end = MarketTime(params.required_number("end_timestamp")?).plus(1).min(self.now);
        let numbers =
            (self.market.sequence_before(&listing, start) + 1, self.market.sequence_before(&listing, end));
        Ok(self.page(&listing, numbers, take(params, true)?))
    }

    /// The trades from one number to another, both included, as far as a page holds them.
    fn page(self, listing: &Listing, (first, last): (u64, u64), take: Take) -> String {
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
        self.shown(Page { trades, has_more })
    }

    fn by_currency(self, params: &Params) -> Result<String, RpcError> {
        let currency = params.required_text("currency")?;
        let currency = currency_of(currency).flatten().ok_or_else(|| {
            RpcError::invalid_param("currency", "must be one of BTC, ETH, USDC, USDT, EURR")
        })?;
        let filter = Filter { currency: Some(currency), kinds: kinds(params)? };
        let oldest = self.now.minus(HISTORY_BY_CURRENCY);
        let start = params.time("start_timestamp")?;
        let end = params.time("end_timestamp")?.map_or(self.now, |end| end.plus(1).min(self.now));
        let take = take(params, start.is_some())?;
        let start = start.unwrap_or(oldest);
        if start < oldest || start >= end {
            return Ok(self.shown(Page { trades: Vec::new(), has_more: false }));
        }
        Ok(self.shown(self.market.page(filter, start..end, take)))
    }
}

fn kinds(params: &Params) -> Result<InstrumentKinds, RpcError> {
    let Some(kind) = params.text("kind")? else { return Ok(InstrumentKinds::Any) };
    kinds_of(kind).ok_or_else(|| RpcError::invalid_param("kind", "unknown kind"))
}

/// Ascending or descending; by default from where the question starts: from the start that it names, or from now.
fn take(params: &Params, names_start: bool) -> Result<Take, RpcError> {
    let count = params.number("count")?.unwrap_or(10);
    let count = usize::try_from(count)
        .ok()
        .filter(|count| (1..=1_000).contains(count))
        .ok_or_else(|| RpcError::invalid_param("count", "must be 1 to 1000"))?;
    match params.text("sorting")? {
        Some("asc") => Ok(Take::First(count)),
        Some("desc") => Ok(Take::Last(count)),
        None | Some("default") => Ok(if names_start { Take::First(count) } else { Take::Last(count) }),
        Some(_) => Err(RpcError::invalid_param("sorting", "must be asc, desc or default")),
    }
}

/// Leaves the first half, and the rest of its last millisecond: a page never ends within one, if it is not full.
fn halve(page: &mut Page) {
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
    let facts = listing.facts();
    let mut shown = json!({
        "instrument_name": &**listing.name(),
        "kind": listing.kind().name(),
        "is_active": listing.is_active(now),
        "state": if listing.is_active(now) { "open" } else { "closed" },
        "creation_timestamp": listing.listed_at().0,
        "expiration_timestamp": listing.expires_at().0,
        "base_currency": facts.base,
        "quote_currency": facts.quote,
        "counter_currency": facts.quote,
        "settlement_currency": facts.settlement,
        "settlement_period": facts.settlement_period,
        "instrument_type": facts.instrument_type,
        "tick_size": facts.tick_size,
        "min_trade_amount": facts.min_trade_amount,
        "contract_size": facts.contract_size,
        "price_index": facts.price_index,
    });
    if let (Some((strike, side)), Some(fields)) = (facts.option, shown.as_object_mut()) {
        fields.insert("strike".into(), json!(strike));
        fields.insert("option_type".into(), json!(side));
    }
    shown
}
