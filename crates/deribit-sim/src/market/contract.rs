//! The contract terms in `public/get_instruments`.

use super::InstrumentKind;
use super::listing::{Listing, Terms};
use super::time::MILLIS_PER_DAY;
use super::universe::Side;

/// Contract terms, with the exchange's field names.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractTerms {
    /// The base currency, such as `BTC`.
    pub base: &'static str,
    /// The currency of the price.
    pub quote: &'static str,
    /// The currency of settlement.
    pub settlement: &'static str,
    /// `perpetual`, `day`, `week` or `month`.
    pub settlement_period: &'static str,
    /// `reversed` for inverse contracts, otherwise `linear`.
    pub instrument_type: &'static str,
    /// The name of the index that it settles against.
    pub price_index: String,
    /// Price grid; inverse options have a wider one from 0.005 on.
    pub tick_size: f64,
    /// Amount grid, in units of the amount.
    pub min_trade_amount: f64,
    /// Amount of one contract, in units of the amount.
    pub contract_size: f64,
    /// For options: strike, and `call` or `put`.
    pub option: Option<(f64, &'static str)>,
}

impl Listing {
    /// The contract terms of the instrument.
    #[must_use]
    pub fn contract_terms(&self) -> ContractTerms {
        let family = self.family;
        let of_options = matches!(self.kind(), InstrumentKind::Option | InstrumentKind::OptionCombo);
        let (tick, lot) =
            if of_options { (family.option_tick, family.option_lot) } else { (family.tick, family.lot) };
        ContractTerms {
            base: family.base,
            quote: if of_options && family.inverse { family.base } else { family.quote },
            settlement: if family.inverse { family.base } else { family.quote },
            settlement_period: self.settlement_period(),
            instrument_type: if family.inverse { "reversed" } else { "linear" },
            price_index: format!("{}_{}", family.base, family.quote).to_ascii_lowercase(),
            tick_size: tick.size(),
            min_trade_amount: lot.size(),
            contract_size: if of_options { lot.size().max(1.0) } else { family.contract_size },
            option: match &self.terms {
                Terms::Option { side: Side::Call, strike } => Some((strike.price(), "call")),
                Terms::Option { side: Side::Put, strike } => Some((strike.price(), "put")),
                _ => None,
            },
        }
    }

    fn settlement_period(&self) -> &'static str {
        match self.life.until.0 - self.life.from.0 {
            _ if matches!(self.terms, Terms::Perpetual | Terms::Spot) => "perpetual",
            life if life <= 5 * MILLIS_PER_DAY => "day",
            life if life <= 35 * MILLIS_PER_DAY => "week",
            _ => "month",
        }
    }
}
