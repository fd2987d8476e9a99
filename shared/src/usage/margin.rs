//! What the platform earned and what that cost it, for operators, in exact decimals.
//!
//! Revenue is tokens charged, at what a token is worth. What people pay for a plan is not counted, and a job that a plan
//! paid for charged no tokens: it shows as cost alone. Tokens given away count like those that were bought. Cost is every
//! attempt at its price, whether or not a result came of it; attempts and jobs count on the day on which they ended.

use rust_decimal::Decimal;
use sqlx::PgPool;

use super::{Span, rolled_until};
use crate::id::AccountId;

/// What a report of margin is broken down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The models.
    Model,
    /// The providers: revenue by the one a job was for, cost by the one that was called.
    Provider,
    /// The accounts.
    Account,
    /// The days.
    Day,
}

impl By {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Model, Self::Provider, Self::Account, Self::Day];

    /// Its word in queries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Account => "account",
            Self::Day => "day",
        }
    }
}

/// What was earned with something, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// The model, provider or day; the name of the account.
    pub word: Option<String>,
    /// The account.
    pub account: Option<AccountId>,
    /// Tokens charged.
    pub revenue_tokens: i64,
    /// What the attempts cost, exactly.
    pub cost_usd: Decimal,
    /// Attempts that ended.
    pub attempts: i64,
    /// Of these, those without a result: failed or given up.
    pub failed_attempts: i64,
}

impl Line {
    /// What the charged tokens are worth.
    pub fn revenue_usd(&self, token_usd: Decimal) -> Decimal {
        (Decimal::from(self.revenue_tokens) * token_usd).normalize()
    }

    /// What is left of it.
    pub fn margin_usd(&self, token_usd: Decimal) -> Decimal {
        (self.revenue_usd(token_usd) - self.cost_usd).normalize()
    }

    /// The same of a hundred, to two places; `None` where nothing was earned.
    pub fn margin_percent(&self, token_usd: Decimal) -> Option<Decimal> {
        let part = self.margin_usd(token_usd).checked_div(self.revenue_usd(token_usd))?;
        Some((part * Decimal::ONE_HUNDRED).round_dp(2).normalize())
    }

    /// Adds another to this sum.
    pub fn add(&mut self, other: &Self) {
        self.revenue_tokens += other.revenue_tokens;
        self.cost_usd = (self.cost_usd + other.cost_usd).normalize();
        self.attempts += other.attempts;
        self.failed_attempts += other.failed_attempts;
    }
}

/// Revenue and cost of the days of `span`: days in order, anything else by what it earned.
///
/// # Errors
/// When the database fails.
pub async fn margin(db: &PgPool, by: By, span: Span) -> Result<Vec<Line>, sqlx::Error> {
    let rolled = rolled_until(db).await?;
    let (live_from, live_to) = span.live(rolled);
    sqlx::query_file_as!(
        Line,
        "src/usage/margin.sql",
        by.word(),
        span.from(),
        span.to(),
        rolled,
        live_from,
        live_to
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_exact_and_a_loss_is_below_zero() {
        let decimal = |text: &str| text.parse::<Decimal>().unwrap();
        let token = decimal("0.00000663");
        let check = |tokens: i64, cost: &str, expected: (&str, &str, Option<&str>)| {
            let line = Line { revenue_tokens: tokens, cost_usd: decimal(cost), ..Line::default() };
            let percent = line.margin_percent(token).map(|percent| percent.to_string());
            let found = (line.revenue_usd(token).to_string(), line.margin_usd(token).to_string(), percent);
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_deref()),
                expected,
                "{tokens} for {cost}"
            );
        };
        check(1000, "0.006", ("0.00663", "0.00063", Some("9.5")));
        check(6380, "0.039", ("0.0422994", "0.0032994", Some("7.8")));
        check(3, "0.01", ("0.00001989", "-0.00998011", Some("-50176.52")));
        check(0, "0.0000000001", ("0", "-0.0000000001", None));
        check(i64::MAX, "0", ("61150956604347.16360041", "61150956604347.16360041", Some("100")));
    }
}
