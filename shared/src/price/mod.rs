//! Prices: what a job may cost, what it did cost, and every price a model ever had.
//!
//! A price is a list of rules, kept in versions: a job is charged by the version it was accepted under, whatever happens to
//! the price meanwhile. A quote is the most its input can come to, and is held; the charge is what was counted at the end,
//! never more than the hold. What a vendor bills us is counted by the same rules, in exact USD. Nothing here is a float.
//! Deliberately absent: moving tokens, see `billing` and `job`.

#![deny(clippy::float_arithmetic)]

mod metered;
#[cfg(test)]
mod properties;
mod publish;
mod quote;
mod rule;
mod store;

use rust_decimal::Decimal;
use serde_json::Value;

use crate::catalog::Model;
use quote::{Range, sum};

pub use metered::{Charge, Expected, Metered, charge};
pub use publish::publish;
pub use quote::{Quote, Wanted};
pub use rule::{CostRule, Meter, Rule, Tariff, Values, When, check, check_when, is_covered};
pub use store::{Prices, SetError, Version, current, history, set};

/// Why something has no price. Rules that were checked have one for every input the schema allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// No rule of this meter matches the input.
    #[error("no rule per {0} matches the input")]
    NoRule(Meter),
    /// Neither input nor rule limits this meter.
    #[error("nothing limits how many of {0} there may be")]
    Unbounded(Meter),
    /// More tokens than can be counted.
    #[error("the price is too high to be counted")]
    Overflow,
}

/// One version of what a model costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// Of this model.
    pub model: String,
    /// 1, 2, …
    pub version: i32,
    /// At least one for every input.
    pub rules: Vec<Rule>,
}

impl Price {
    /// A price as it is kept.
    ///
    /// # Errors
    /// When the rules are those of another version of this program.
    pub fn read(model: &str, version: i32, rules: Value) -> Result<Self, serde_json::Error> {
        Ok(Self { model: model.to_owned(), version, rules: serde_json::from_value(rules)? })
    }

    /// What this input costs an account that pays `percent` of the list price.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn quote(&self, model: &Model, input: &Value, percent: i16) -> Result<Quote, PriceError> {
        let wanted = model.wanted(input);
        let ranges = quote::ranges(&self.rules, wanted)?;
        let part = |quantity: fn(&Range) -> Decimal| {
            let list_price =
                sum(&self.rules, wanted, |meter| ranges.get(&meter).map(quantity).unwrap_or_default())?;
            quote::round(list_price, percent)
        };
        let max = part(|range| range.most)?;
        Ok(Quote { max, expected: part(|range| range.expected)?.min(max) })
    }
}

/// What a vendor bills by these rules for what was counted, exactly.
///
/// # Errors
/// See [`PriceError`].
pub fn cost(rules: &[CostRule], wanted: Wanted<'_>, metered: &Metered) -> Result<Decimal, PriceError> {
    sum(rules, wanted, |meter| metered.quantity(meter))
}

/// What a vendor bills by these rules for one success, at most.
///
/// # Errors
/// See [`PriceError`].
pub fn cost_most(rules: &[CostRule], wanted: Wanted<'_>) -> Result<Decimal, PriceError> {
    let ranges = quote::ranges(rules, wanted)?;
    sum(rules, wanted, |meter| ranges.get(&meter).map(|range| range.most).unwrap_or_default())
}
