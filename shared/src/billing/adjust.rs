//! Movements by operators: credit and debit, each with a reason, and each in the audit log by the same commit.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{Gift, MoveError, Source, Tokens, give, take_back};
use crate::{
    account::audit::{By, record},
    id::AccountId,
};

/// Most tokens an operator moves at once: a slip of the finger stays small.
pub const ADJUST_MAX: i64 = 1_000_000_000_000;
/// Longest reference of a movement or a plan, in characters.
pub const REFERENCE_LEN: usize = 255;

/// What an operator moves.
#[derive(Debug, Clone)]
pub struct Adjustment {
    /// Whose tokens.
    pub account: AccountId,
    /// So many given, or with a minus taken back.
    pub amount: i64,
    /// Until when given ones can be spent; `None`: for ever.
    pub expires_at: Option<DateTime<Utc>>,
    /// The operator's own name for this movement; the same name moves nothing twice.
    pub reference: String,
    /// Why, for the books.
    pub reason: String,
}

/// Moves tokens of an account as an operator says.
///
/// # Errors
/// See [`MoveError`]; on any of them nothing moved.
pub async fn adjust(
    db: &PgPool,
    adjustment: &Adjustment,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), MoveError> {
    let Adjustment { account, amount, expires_at, reference, reason } = adjustment;
    let tokens = Tokens::new(amount.saturating_abs()).unwrap_or(Tokens::ZERO);
    let mut tx = db.begin().await?;
    if *amount >= 0 {
        let (source, reason) = (Source::Operator, Some(reason.as_str()));
        let gift = Gift { account: *account, tokens, expires_at: *expires_at, source, reference, reason };
        give(&mut *tx, &gift, now).await?;
    } else {
        take_back(&mut *tx, *account, tokens, reference, reason, now).await?;
    }
    let change =
        json!({ "amount": amount, "expires_at": expires_at, "reference": reference, "reason": reason });
    let action = if *amount >= 0 { "tokens.credited" } else { "tokens.debited" };
    record(&mut *tx, &by.did(action, Some(*account), account, now).changed(None, Some(change))).await?;
    tx.commit().await?;
    Ok(())
}
