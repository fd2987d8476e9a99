//! The audit: are the balances still the fold of the book, and the holds still those of the open jobs?
//!
//! Run by the scheduler every night, by `kiln doctor`, and by the tests after each test. It only reads.

use sqlx::PgPool;

use crate::id::AccountId;

/// An account whose balances are not what the ledger and the open jobs say. Any such account is a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose balances are off.
    pub account: AccountId,
    /// `available` on the account's row.
    pub available: i64,
    /// `available` as the ledger adds up.
    pub available_by_ledger: i64,
    /// `held` on the account's row.
    pub held: i64,
    /// `held` as the ledger adds up.
    pub held_by_ledger: i64,
    /// Sum of the holds of the account's open jobs.
    pub held_by_jobs: i64,
}

/// Every account that has drifted; empty when the books are right. One snapshot, so running jobs do not disturb it.
///
/// # Errors
/// When the database fails.
pub async fn audit(db: &PgPool) -> Result<Vec<Drift>, sqlx::Error> {
    sqlx::query_as!(
        Drift,
        r#"
        with book as (
            select account_id,
                   sum(case when credit = 'available' then amount_tokens when debit = 'available' then -amount_tokens
                       else 0 end)::bigint as available,
                   sum(case when credit = 'held' then amount_tokens when debit = 'held' then -amount_tokens
                       else 0 end)::bigint as held
            from ledger group by account_id
        ), open as (
            select account_id, sum(held_tokens)::bigint as held from jobs where status = 'open' group by account_id
        )
        select a.id as "account!: _", a.available_tokens as "available!", a.held_tokens as "held!",
               coalesce(book.available, 0) as "available_by_ledger!", coalesce(book.held, 0) as "held_by_ledger!",
               coalesce(open.held, 0) as "held_by_jobs!"
        from accounts a
        left join book on book.account_id = a.id
        left join open on open.account_id = a.id
        where a.available_tokens <> coalesce(book.available, 0)
           or a.held_tokens <> coalesce(book.held, 0)
           or a.held_tokens <> coalesce(open.held, 0)
        order by a.id
        "#
    )
    .fetch_all(db)
    .await
}
