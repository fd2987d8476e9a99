//! What an account has, and taking some of it back.
//!
//! Keeps `available ≥ 0`: a debit is one guarded update, never read, check, write. Giving is in `grant.rs`.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};

use super::Tokens;
use crate::{
    db::broken_constraint,
    id::{AccountId, EntryId},
};

/// What an account has and owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Free to spend.
    pub available: i64,
    /// Set aside by open jobs.
    pub held: i64,
    /// Part of `available` that expires some day.
    pub expiring: i64,
    /// When the first of it does.
    pub next_expiry: Option<DateTime<Utc>>,
    /// Drawn on credit and not paid back.
    pub owed: i64,
    /// How much it may owe.
    pub credit_limit: i64,
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
        r#"select available_tokens as available, held_tokens as held, lots_total(expiring) as "expiring!", next_expiry,
                  owed_tokens as owed, credit_limit_tokens as credit_limit
           from accounts where id = $1"#,
        account.0
    )
    .fetch_optional(db)
    .await
}

/// Takes tokens back from an account, those that expire first first, once per `reference`.
///
/// # Errors
/// See [`MoveError`]; on any of them nothing moved.
pub async fn take_back(
    db: impl PgExecutor<'_>,
    account: AccountId,
    amount: Tokens,
    reference: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), MoveError> {
    let row = sqlx::query!(
        r#"
        with account as (
            update accounts set available_tokens = available_tokens - $2, expiring = lots_after(expiring, $2)
            where id = $1 and available_tokens >= $2
            returning id
        ), entry as (
            insert into ledger (id, account_id, kind, reference, debit, credit, amount_tokens, reason, created_at)
            select $3, id, 'debit', $4, 'available', 'platform', $2, $5, $6 from account
        )
        select exists (select from accounts where id = $1) as "known!", exists (select from account) as "taken!"
        "#,
        account.0,
        amount.count(),
        EntryId::new().0,
        reference,
        reason,
        now,
    )
    .fetch_one(db)
    .await
    .map_err(|error| match broken_constraint(&error) {
        Some("ledger_once") => MoveError::AlreadyMoved,
        _ => MoveError::Db(error),
    })?;
    match (row.known, row.taken) {
        (_, true) => Ok(()),
        (true, false) => Err(MoveError::Insufficient),
        (false, false) => Err(MoveError::UnknownAccount),
    }
}
