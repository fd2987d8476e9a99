//! What an account has, and operators' movements of it.
//!
//! Keeps `available ≥ 0`: a debit is one guarded update, never read, check, write.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Tokens;
use crate::{
    db::broken_constraint,
    id::{AccountId, EntryId},
};

/// The two balances of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Free to spend.
    pub available: i64,
    /// Set aside by open jobs.
    pub held: i64,
}

/// Why tokens were not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// No such account.
    #[error("no such account")]
    UnknownAccount,
    /// The account has less than is to be taken.
    #[error("the account has fewer tokens available than that")]
    Insufficient,
    /// A movement under this reference was made before; nothing was moved again.
    #[error("this reference was used before")]
    AlreadyMoved,
    /// The database failed.
    #[error("move tokens")]
    Db(#[from] sqlx::Error),
}

/// The balances of `account`, or `None` when there is no such account.
///
/// # Errors
/// When the database fails.
pub async fn balance(db: &PgPool, account: AccountId) -> Result<Option<Balance>, sqlx::Error> {
    sqlx::query_as!(
        Balance,
        "select available_tokens as available, held_tokens as held from accounts where id = $1",
        account.0
    )
    .fetch_optional(db)
    .await
}

/// Gives `amount` tokens to an account (positive) or takes them back (negative), once per `reference`.
///
/// # Errors
/// See [`MoveError`]; on any of them nothing moved.
pub async fn move_tokens(
    db: &PgPool,
    account: AccountId,
    amount: i64,
    reference: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Balance, MoveError> {
    let size = Tokens::new(amount.saturating_abs()).unwrap_or(Tokens::ZERO).count();
    let (kind, debit, credit) =
        if amount >= 0 { ("grant", "platform", "available") } else { ("debit", "available", "platform") };
    let moved = sqlx::query_as!(
        Balance,
        r#"
        with account as (
            update accounts set available_tokens = available_tokens + $2
            where id = $1 and available_tokens + $2 >= 0
            returning id, available_tokens, held_tokens
        ), entry as (
            insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, reason, created_at)
            select $3, id, $4, $5, $6, $7, $8, $9, $10 from account
        )
        select available_tokens as available, held_tokens as held from account
        "#,
        account.0,
        amount,
        EntryId::new().0,
        kind,
        reference,
        debit,
        credit,
        size,
        reason,
        now,
    )
    .fetch_optional(db)
    .await
    .map_err(|error| match broken_constraint(&error) {
        Some("ledger_once") => MoveError::AlreadyMoved,
        _ => MoveError::Db(error),
    })?;
    match moved {
        Some(balance) => Ok(balance),
        None if balance(db, account).await?.is_some() => Err(MoveError::Insufficient),
        None => Err(MoveError::UnknownAccount),
    }
}
